"""A frame is held against its contract: columns without a job, rows in one."""

from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import ContractError
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows, spark_schema
from recsys_spark.warehouse.tables import INTERACTIONS, ITEMS

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = [(0, 0, 1.0, NOW, 1, None), (0, 1, 0.0, NOW, 2, NOW), (1, 0, 2.5, NOW, 1, None)]


def _frame(spark: SparkSession, rows: list[tuple[object, ...]]):
    schema = spark_schema(INTERACTIONS, without=("run_id",))
    for field in schema:
        field.nullable = True
    return spark.createDataFrame(rows, schema)


def test_check_schema_names_every_fault_at_once(spark: SparkSession) -> None:
    frame = _frame(spark, ROWS).drop("weight").withColumns({"n_events": F.lit("1"), "extra": F.lit(1)})
    with pytest.raises(ContractError) as caught:
        check_schema(frame, INTERACTIONS, without=("run_id",))
    for part in ("missing weight: float", "n_events: expected int, got string", "unexpected extra: int"):
        assert part in str(caught.value)


def test_check_schema_accepts_the_contract(spark: SparkSession) -> None:
    check_schema(_frame(spark, ROWS), INTERACTIONS, without=("run_id",))


def test_check_rows_names_duplicates_nulls_and_broken_conditions(spark: SparkSession) -> None:
    faulty = [*ROWS, ROWS[0], (2, 0, -1.0, NOW, 1, None), (3, 0, 1.0, None, 1, None)]
    figures = measure_rows(_frame(spark, faulty), INTERACTIONS)
    assert figures.n_rows == 6
    with pytest.raises(ContractError) as caught:
        check_rows(figures, INTERACTIONS, "run_id=r")
    for part in ("unique (user_idx, item_idx), got 1 dup", "no null in last_time, got 1", "weight >= 0, got 1 rows"):
        assert part in str(caught.value)


def test_measure_rows_of_an_empty_frame_is_zero(spark: SparkSession) -> None:
    figures = measure_rows(_frame(spark, []), INTERACTIONS)
    assert (figures.n_rows, figures.n_distinct_keys) == (0, 0)
    check_rows(figures, INTERACTIONS, "run_id=r")


def test_content_hash_ignores_order_and_partitions_and_sees_a_value(spark: SparkSession) -> None:
    first = measure_rows(_frame(spark, ROWS), INTERACTIONS).content_hash
    assert measure_rows(_frame(spark, ROWS[::-1]).repartition(7), INTERACTIONS).content_hash == first
    changed = [(0, 0, 1.5, *ROWS[0][3:]), *ROWS[1:]]
    assert measure_rows(_frame(spark, changed), INTERACTIONS).content_hash != first
    assert measure_rows(_frame(spark, [*ROWS, ROWS[0]]), INTERACTIONS).content_hash != first


def test_content_hash_reads_maps_in_any_order(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], spark_schema(ITEMS))
    row = dict.fromkeys(ITEMS.names) | {"item_id": "a", "valid_from": NOW, "content_sha256": "c", "batch_seq": 1}
    hashes = [
        measure_rows(spark.createDataFrame([row | {"attributes": attributes}], empty.schema), ITEMS).content_hash
        for attributes in ({"x": "1", "y": "2"}, {"y": "2", "x": "1"}, {"x": "2", "y": "1"})
    ]
    assert hashes[0] == hashes[1] != hashes[2]
