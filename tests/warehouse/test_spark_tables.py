"""Data tables are written once per batch, replaced per run, and laid out as their contract says."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.errors import ArgumentError, DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.run_files import last_version
from recsys_spark.warehouse.spark_check import check_schema, measure_rows, spark_schema
from recsys_spark.warehouse.spark_tables import append_once, read_run, read_table, stage_run
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, USER_INDEX, USERS
from tests.random_rows import random_table

RUN = "20250131-001-9f2c81aa"
OTHER = "20250131-002-9f2c81aa"


def _index_frame(spark: SparkSession, ids: list[str]):
    return spark.createDataFrame(list(enumerate(ids)), "user_idx int, user_id string")


def test_stage_run_replaces_only_its_own_run(spark: SparkSession, root: Path) -> None:
    stage_run(_index_frame(spark, ["a", "b"]), root, USER_INDEX, OTHER)
    for ids in (["x", "y", "z"], ["p"]):
        stage_run(_index_frame(spark, ids), root, USER_INDEX, RUN)
    stored = DeltaTable(table_path(root, "user_index")).to_pyarrow_table().to_pylist()
    found = {run: sorted(row["user_id"] for row in stored if row["run_id"] == run) for run in (RUN, OTHER)}
    assert found == {RUN: ["p"], OTHER: ["a", "b"]}
    assert [row.user_id for row in read_run(spark, root, USER_INDEX, RUN).collect()] == ["p"]
    assert last_version(root, "user_index") == 4  # created as 0, CHECKs as 1, then three stages


def test_stage_run_replaces_what_a_stage_that_was_killed_left(spark: SparkSession, root: Path) -> None:
    def stage(ids: list[str]) -> None:
        stage_run(_index_frame(spark, ids), root, USER_INDEX, RUN)

    # Killed while it writes, before the commit: files that no log names.
    broken = _index_frame(spark, ["a", "b", "c"]).withColumn(
        "user_idx", F.expr("if(user_id = 'c', raise_error('killed'), user_idx)").cast("int")
    )
    with pytest.raises(Exception, match="killed"):
        stage_run(broken, root, USER_INDEX, RUN)
    assert read_run(spark, root, USER_INDEX, RUN).collect() == []
    stage(["a", "b"])  # killed after the commit, before the ledger says so
    stage(["a", "b"])
    assert sorted(row.user_id for row in read_run(spark, root, USER_INDEX, RUN).collect()) == ["a", "b"]


def test_stage_run_refuses_a_run_id_that_is_not_one(spark: SparkSession, root: Path) -> None:
    with pytest.raises(ArgumentError, match="run_id: expected YYYYMMDD-NNN"):
        stage_run(_index_frame(spark, ["a"]), root, USER_INDEX, "x' OR '1'='1")


def test_read_run_of_no_files_has_the_declared_types(spark: SparkSession, root: Path) -> None:
    for table in (USER_INDEX, CANDIDATE_LISTS):
        empty = read_run(spark, root, table, RUN)
        check_schema(empty, table, without=("run_id",))
        assert measure_rows(empty, table).n_rows == 0


@pytest.mark.parametrize("name", ["interactions", "candidates"])
def test_read_run_gives_the_rows_that_were_staged_with_their_types(spark: SparkSession, root: Path, name: str) -> None:
    table = declared_tables()[name]
    frame = _random_frame(spark, table, 40, 3, without=("run_id",))
    stage_run(frame, root, table, RUN)
    found = read_run(spark, root, table, RUN)
    check_schema(found, table, without=("run_id",))
    as_delta = read_table(spark, root, table).where(F.col("run_id") == RUN).drop("run_id")
    assert measure_rows(found, table) == measure_rows(as_delta, table) == measure_rows(frame, table)


@pytest.fixture(scope="module")
def appended(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Batch 1 appended twice, the second time with other rows, then batch 2: five rows each."""
    root = tmp_path_factory.mktemp("appended")
    create_tables(root, [USERS])
    for seed, batch_seq in ((1, 1), (3, 1), (2, 2)):
        append_once(_random_frame(spark, USERS, 5, seed), root, USERS, batch_seq)
    return root


def _random_frame(spark: SparkSession, table: Table, n_rows: int, seed: int, without: tuple[str, ...] = ()):
    rows = random_table(table, n_rows, np.random.default_rng(seed)).drop(list(without))
    return spark.createDataFrame(rows.to_pylist(maps_as_pydicts="strict"), spark_schema(table, without))


def test_append_once_skips_a_batch_that_was_appended(appended: Path) -> None:
    ids = [random_table(USERS, 5, np.random.default_rng(seed))["user_id"].to_pylist() for seed in (1, 2)]
    stored = DeltaTable(table_path(appended, "users")).to_pyarrow_table()
    assert sorted(stored["user_id"].to_pylist()) == sorted(ids[0] + ids[1])


def test_read_table_at_a_version_leaves_out_what_came_later(spark: SparkSession, appended: Path) -> None:
    newest = last_version(appended, "users")
    for version, n_rows in ((newest - 2, 0), (newest - 1, 5), (newest, 10)):
        pinned = read_table(spark, appended, USERS, version)
        check_schema(pinned, USERS)
        figures = measure_rows(pinned, USERS)
        assert figures.n_rows == n_rows
    assert figures == measure_rows(read_table(spark, appended, USERS), USERS)


def test_read_run_finds_its_files_in_a_folder_whose_name_is_a_pattern_and_names_one_that_is_gone_or_cut(
    spark: SparkSession, tmp_path: Path
) -> None:
    root = tmp_path / "a [b] {c,d} 50% *?#x"
    create_tables(root, [USER_INDEX])
    stage_run(_index_frame(spark, ["a", "b"]).coalesce(1), root, USER_INDEX, RUN)
    assert sorted(row.user_id for row in read_run(spark, root, USER_INDEX, RUN).collect()) == ["a", "b"]
    path = max((root / "tables" / "user_index" / f"run_id={RUN}").glob("*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match=rf"{path.name}: expected {len(whole)} bytes, got {len(whole) - 1}"):
        read_run(spark, root, USER_INDEX, RUN)
    path.unlink()
    with pytest.raises(DamagedError, match=rf"{path.name}: expected a file, got none"):
        read_run(spark, root, USER_INDEX, RUN)


def test_read_run_counts_nulls_that_the_contract_rules_out(spark: SparkSession, root: Path) -> None:
    """Delta takes NOT NULL for granted when it reads, so that a damaged file would show zeros."""
    stage_run(_index_frame(spark, ["a"]).coalesce(1), root, USER_INDEX, RUN)
    (path,) = (root / "tables" / "user_index" / f"run_id={RUN}").glob("*.parquet")
    pq.write_table(pa.table({"user_idx": pa.array([None], pa.int32()), "user_id": ["a"]}), path)
    log = max((root / "tables" / "user_index" / "_delta_log").glob("*.json"))
    log.write_text(re.sub(r'"size":\d+', f'"size":{path.stat().st_size}', log.read_text()))
    assert measure_rows(read_run(spark, root, USER_INDEX, RUN), USER_INDEX).n_null["user_idx"] == 1


def test_stage_run_sorts_and_cuts_row_groups_for_lookup(spark: SparkSession, root: Path) -> None:
    n_rows, n_items = 3000, 100
    rows = random_table(CANDIDATE_LISTS, n_rows, np.random.default_rng(1)).drop(["run_id"])
    ids = pa.array([f"u{number}" for number in range(n_rows)])
    ranks = pa.array(np.tile(np.arange(n_items, dtype=np.int32), n_rows))
    ones = pa.array(np.ones(n_rows * n_items, dtype=np.float32))
    types = rows.schema.field("items").type.value_type
    sources = pa.StructArray.from_arrays(
        [pa.array(["s"] * len(ones)), ranks, ones], fields=list(types.field("sources").type.value_type)
    )
    of_item = pa.ListArray.from_arrays(
        pa.array(np.arange(len(ones) + 1, dtype=np.int32)), sources, type=types.field("sources").type
    )
    names = pa.array([f"i-{n}-{number}" for number in range(n_rows) for n in range(n_items)])
    by_name = {"item_id": names, "rank": ranks, "score": ones, "sources": of_item}
    items = pa.StructArray.from_arrays([by_name[one.name] for one in types], fields=list(types))
    offsets = pa.array(np.arange(0, len(ones) + 1, n_items, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, items, type=rows.schema.field("items").type)
    for name, column in (("user_id", ids), ("items", lists)):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    frame = spark.createDataFrame(rows, spark_schema(CANDIDATE_LISTS, without=("run_id",)))
    stage_run(frame, root, CANDIDATE_LISTS, RUN)
    folder = root / "tables" / "candidates" / f"run_id={RUN}"
    for path in folder.glob("*.parquet"):
        file = pq.ParquetFile(path)
        users = file.read(columns=["user_id"])["user_id"].to_pylist()
        assert users == sorted(users)
        assert max(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)) <= 600


def test_stage_run_keeps_the_order_when_a_sort_spills(spark: SparkSession, root: Path) -> None:
    # The session of the tests spills after 2000 rows.
    stage_run(_index_frame(spark, [f"u{(n * 7919) % 10_007}" for n in range(10_007)]), root, USER_INDEX, RUN)
    for path in (root / "tables" / "user_index").rglob("*.parquet"):
        users = pq.ParquetFile(path).read(columns=["user_id"])["user_id"].to_pylist()
        assert users == sorted(users)


def test_create_tables_gives_the_declared_schema_when_read_by_spark(spark: SparkSession, root: Path) -> None:
    """Of every table as its log says it in Spark's words; three that have every type between them are read."""
    tables = declared_tables()
    by_spark = [tables[name] for name in ("events", "item_factors", "candidates")]
    assert _kinds(by_spark) == _kinds(tables.values())
    for table in tables.values():
        logs = sorted((root / "tables" / table.name / "_delta_log").glob("*.json"))
        actions = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        schema = [one["metaData"]["schemaString"] for one in actions if "metaData" in one][-1]
        stored = StructType.fromJson(json.loads(schema))
        assert _types(stored) == _types(spark_schema(table)), table.name
        assert arrow_schema(table).names == list(table.names)
        if table in by_spark:
            assert _types(read_table(spark, root, table).schema) == _types(spark_schema(table)), table.name


def _types(schema: StructType) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in schema]


def _kinds(tables: Iterable[Table]) -> set[str]:
    """The kinds of types that columns have, at any depth."""
    return {kind for table in tables for kind in re.findall(r"\w+(?=[,<>]|$)", spark_schema(table).simpleString())}
