"""What the log says without a row being read."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.run_files import days_with_rows, last_version, runs_with_rows
from recsys_spark.warehouse.tables import EVENTS, USER_INDEX
from tests.random_rows import random_table

RUN = "20250131-001-9f2c81aa"


def _write_run(root: Path, run_id: str, n_rows: int) -> None:
    rows = random_table(USER_INDEX, n_rows, np.random.default_rng(1)).drop(["run_id"])
    rows = rows.append_column("run_id", pa.array([run_id] * n_rows))
    write_deltalake(table_path(root, "user_index"), rows, mode="append")


def test_runs_with_rows_lists_partitions(root: Path) -> None:
    assert runs_with_rows(root, "user_index") == set()
    _write_run(root, RUN, 1)
    assert runs_with_rows(root, "user_index") == {RUN}


def test_days_with_rows_are_ascending(root: Path) -> None:
    rows = random_table(EVENTS, 3, np.random.default_rng(1))
    days = pa.array([date(2025, 3, 2), date(2024, 12, 31), date(2025, 3, 2)])
    dated = rows.set_column(rows.schema.get_field_index("ds"), "ds", days)
    write_deltalake(table_path(root, "events"), dated, mode="append")
    assert days_with_rows(root, "events") == [date(2024, 12, 31), date(2025, 3, 2)]


def test_last_version_counts_commits(root: Path) -> None:
    before = last_version(root, "user_index")
    _write_run(root, RUN, 1)
    assert last_version(root, "user_index") == before + 1
