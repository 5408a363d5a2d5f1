"""Outputs of a step, computed once: rows checked against their table's contract; tables in one partition, for joins."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows
from tests.engagement import settings


def kept_rows(frame: DataFrame, table: Table) -> list[Row]:
    """The rows of `frame`, which keep the contract of `table`."""
    check_schema(frame, table, without=("run_id",))
    once = frame.coalesce(1).persist()
    rows = once.collect()
    check_rows(measure_rows(once, table), table, "in a test")
    once.unpersist()
    return rows


def kept_tables(tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """`tables`, each computed once, in one partition: what joins them need not move their rows."""
    return {name: frame.coalesce(1).persist() for name, frame in tables.items()}


@contextmanager
def no_broadcasts(spark: SparkSession) -> Iterator[None]:
    """Joins of small tables without a broadcast, which is a job of its own."""
    with settings(spark, spark__sql__autoBroadcastJoinThreshold=-1):
        yield
