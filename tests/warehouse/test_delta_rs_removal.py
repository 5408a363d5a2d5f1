"""Deletion of a run, and of files that nothing names."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from recsys_spark.warehouse.delta_rs import delete_run, table_path, vacuum
from recsys_spark.warehouse.run_files import runs_with_rows
from recsys_spark.warehouse.tables import USER_INDEX
from tests.random_rows import random_table

RUN, OTHER = "20250131-001-9f2c81aa", "20250131-002-9f2c81aa"


def _write(root: Path, run_id: str) -> None:
    rows = random_table(USER_INDEX, 5, np.random.default_rng(1)).drop(["run_id"])
    write_deltalake(table_path(root, "user_index"), rows.append_column("run_id", pa.array([run_id] * 5)), mode="append")


def test_delete_run_leaves_other_runs_and_all_files(root: Path) -> None:
    _write(root, RUN)
    _write(root, OTHER)
    files = set((root / "tables" / "user_index").rglob("*.parquet"))
    delete_run(root, USER_INDEX, RUN)
    assert runs_with_rows(root, "user_index") == {OTHER}
    assert set((root / "tables" / "user_index").rglob("*.parquet")) == files


def test_vacuum_removes_what_left_the_table_and_orphans_but_nothing_young(root: Path) -> None:
    _write(root, RUN)
    _write(root, OTHER)
    orphan = root / "tables" / "user_index" / f"run_id={RUN}" / "part-00000-left-by-a-kill.parquet"
    orphan.write_bytes(b"half")
    delete_run(root, USER_INDEX, RUN)
    assert vacuum(root, USER_INDEX, unused_for_hours=48) == 0
    assert orphan.exists()
    assert vacuum(root, USER_INDEX, unused_for_hours=0) == 2
    assert not orphan.exists()
    assert runs_with_rows(root, "user_index") == {OTHER}
