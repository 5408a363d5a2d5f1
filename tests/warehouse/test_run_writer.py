"""Files of a run and their commit, without a JVM."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from recsys_spark.errors import ContractError
from recsys_spark.features.declared import declared_tables
from recsys_spark.warehouse.contract import Column, MapOf, Table
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.run_files import list_run
from recsys_spark.warehouse.run_writer import commit_files, write_rows
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, SOURCE_CANDIDATES, USER_INDEX
from tests.random_rows import random_table

RUN, OTHER = "20250131-001-9f2c81aa", "20250131-002-9f2c81aa"


def as_they_come(batches: Iterator[pa.RecordBatch], _: Counter[str]) -> Iterator[pa.RecordBatch]:
    return batches


def batch_of(ids: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"user_idx": pa.array(range(len(ids)), pa.int32()), "user_id": pa.array(ids, pa.string())}
    )


def write(root: Path, table: Table, *batches: pa.RecordBatch, run_id: str = RUN) -> list[dict]:
    """One task's answer."""
    create_tables(root, [table])
    task = write_rows(table_path(root, table.name), table, run_id, as_they_come)
    return [row for batch in task(iter(batches)) for row in batch.to_pylist(maps_as_pydicts="strict")]


def commit(root: Path, table: Table, rows: list[dict], run_id: str = RUN) -> None:
    commit_files(Path(table_path(root, table.name)), table, run_id, rows)


def stored(root: Path, table: Table, run_id: str = RUN) -> pa.Table:
    found = DeltaTable(table_path(root, table.name)).to_pyarrow_table(filters=[("run_id", "=", run_id)])
    return found.drop(["run_id"])


@pytest.mark.parametrize("table", [CANDIDATE_LISTS, SOURCE_CANDIDATES, USER_INDEX], ids=lambda table: table.name)
def test_rows_are_what_they_were_when_delta_reads_them(tmp_path: Path, table: Table) -> None:
    rows = random_table(table, 500, np.random.default_rng(3)).drop(["run_id"])
    commit(tmp_path, table, write(tmp_path, table, *rows.to_batches(max_chunksize=70)))
    assert stored(tmp_path, table).to_pylist() == rows.to_pylist()


def test_the_log_says_of_a_file_what_readers_ask(tmp_path: Path) -> None:
    ids = ["a", 'quote " and \\', "ünïcode", "z" * 250]
    (row,) = write(tmp_path, USER_INDEX, batch_of(ids[:2]), batch_of(ids[2:]))
    commit(tmp_path, USER_INDEX, [row])
    (file,) = list_run(Path(table_path(tmp_path, "user_index")), "user_index", RUN, "user_id").files
    assert (file.rel_path, file.n_rows, file.low, file.high) == (row["path"], 4, "a", ids[2])
    assert file.size_bytes == (tmp_path / "tables" / "user_index" / file.rel_path).stat().st_size
    assert json.loads(row["stats"])["numRecords"] == 4


def test_pages_have_checksums(tmp_path: Path) -> None:
    (row,) = write(tmp_path, USER_INDEX, batch_of([f"user {number}" for number in range(5000)]))
    path = tmp_path / "tables" / "user_index" / row["path"]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_a_commit_takes_the_place_of_what_the_run_had_and_of_nothing_else(tmp_path: Path) -> None:
    commit(tmp_path, USER_INDEX, write(tmp_path, USER_INDEX, batch_of(["a"]), run_id=OTHER), OTHER)
    first = write(tmp_path, USER_INDEX, batch_of(["b"])) + write(tmp_path, USER_INDEX, batch_of(["c"]))
    commit(tmp_path, USER_INDEX, first)
    assert sorted(stored(tmp_path, USER_INDEX)["user_id"].to_pylist()) == ["b", "c"]
    commit(tmp_path, USER_INDEX, write(tmp_path, USER_INDEX, batch_of(["d"])))
    assert stored(tmp_path, USER_INDEX)["user_id"].to_pylist() == ["d"]
    commit(tmp_path, USER_INDEX, write(tmp_path, USER_INDEX, batch_of([])))
    assert stored(tmp_path, USER_INDEX).num_rows == 0, "a run that has no rows any more"
    assert stored(tmp_path, USER_INDEX, OTHER)["user_id"].to_pylist() == ["a"]


def test_without_rows_there_is_no_file_and_no_commit(tmp_path: Path) -> None:
    (row,) = write(tmp_path, USER_INDEX, batch_of([]))
    before = DeltaTable(table_path(tmp_path, "user_index")).version()
    commit(tmp_path, USER_INDEX, [row])
    assert DeltaTable(table_path(tmp_path, "user_index")).version() == before
    assert list(tmp_path.rglob("*.parquet")) == []


def test_row_groups_have_about_the_bytes_that_the_table_asks_for(tmp_path: Path) -> None:
    ids = [f"user {number:06d}" for number in range(50_000)]
    for n_batches in (1, 100):
        table = replace(USER_INDEX, row_group_bytes=100_000)
        size = len(ids) // n_batches
        batches = [batch_of(ids[first : first + size]) for first in range(0, len(ids), size)]
        (row,) = write(tmp_path / str(n_batches), table, *batches)
        file = pq.ParquetFile(tmp_path / str(n_batches) / "tables" / "user_index" / row["path"])
        rows = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        assert sum(rows) == len(ids)
        assert all(4_000 <= n_rows <= 6_000 for n_rows in rows[:-1])


def test_numbers_that_hardly_repeat_have_no_dictionary_and_others_do(tmp_path: Path) -> None:
    table = declared_tables()["candidates"]
    rows = random_table(table, 300, np.random.default_rng(3)).drop(["run_id"])
    (row,) = write(tmp_path, table, *rows.to_batches())
    group = pq.ParquetFile(tmp_path / "tables" / "candidates" / row["path"]).metadata.row_group(0)
    encoded = {group.column(at).path_in_schema: group.column(at).has_dictionary_page for at in range(group.num_columns)}
    assert encoded == {
        path: not path.endswith(".score")
        for path in (
            "user_id",
            "variant",
            "items.list.element.item_id",
            "items.list.element.rank",
            "items.list.element.score",
            "items.list.element.sources.list.element.source",
            "items.list.element.sources.list.element.rank",
            "items.list.element.sources.list.element.score",
            "generated_at",
        )
    }


def test_maps_have_dictionaries_of_their_keys(tmp_path: Path) -> None:
    table = Table("shares", "work", "", (Column("shares", MapOf("double"), ""), Column("run_id", "string", "")))
    table = replace(table, partition_by=("run_id",))
    rows = pa.table({"shares": pa.array([[("a", 0.5)], [("b", 0.25)]], pa.map_(pa.string(), pa.float64()))})
    (row,) = write(tmp_path, table, *rows.to_batches())
    group = pq.ParquetFile(tmp_path / "tables" / "shares" / row["path"]).metadata.row_group(0)
    assert [group.column(at).has_dictionary_page for at in range(2)] == [True, False]


def test_a_task_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fails_after_a_row_group() -> Iterator[pa.RecordBatch]:
        yield batch_of([f"user {number}" for number in range(20_000)])
        raise ValueError("lost")

    table = replace(USER_INDEX, row_group_bytes=1000)
    create_tables(tmp_path, [table])
    task = write_rows(table_path(tmp_path, table.name), table, RUN, as_they_come)
    with pytest.raises(ValueError, match="lost"):
        list(task(fails_after_a_row_group()))
    assert list(tmp_path.rglob("*.parquet")) == []


def test_what_the_maker_of_rows_counts_comes_back(tmp_path: Path) -> None:
    def counting(batches: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counts["rows"] += batch.num_rows
            yield batch

    create_tables(tmp_path, [USER_INDEX])
    task = write_rows(table_path(tmp_path, "user_index"), USER_INDEX, RUN, counting)
    (batch,) = task(iter([batch_of(["a"]), batch_of(["b", "c"])]))
    assert batch.to_pylist(maps_as_pydicts="strict")[0]["counts"] == {"rows": 3}


def test_other_columns_than_the_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"user_index: expected the columns .*'user_idx': 'int32'.* got .*'int64'"):
        write(tmp_path, USER_INDEX, pa.RecordBatch.from_pydict({"user_idx": [1], "user_id": ["a"]}))
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_null_where_none_may_be_is_written_for_the_check_that_names_it(tmp_path: Path) -> None:
    ids = pa.array([None, None], pa.string())
    (row,) = write(
        tmp_path, USER_INDEX, pa.RecordBatch.from_pydict({"user_idx": pa.array([0, 1], pa.int32()), "user_id": ids})
    )
    assert row["n_rows"] == 2
