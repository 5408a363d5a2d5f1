"""What a step gives, computed once: rows that keep the contract of their table; and small inputs that cost no job."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from recsys_spark.tables.contract import Table
from tests.engagement import settings


def kept_rows(frame: DataFrame, table: Table) -> list[Row]:
    """The rows of `frame`, which keep the contract of `table`."""
    check_schema(frame, table, without=("run_id",))
    once = frame.coalesce(1).persist()
    rows = once.collect()
    check_rows(measure_rows(once, table), table, "in a test")
    once.unpersist()
    return rows


def local_frame(spark: SparkSession, rows: Iterable[tuple[object, ...]], schema: str | StructType) -> DataFrame:
    """`rows` as a frame that the driver holds: to look at it starts no job."""
    named = spark.createDataFrame([], schema).schema if isinstance(schema, str) else schema
    records = [dict(zip(named.names, row, strict=True)) for row in rows]
    return spark.createDataFrame(pa.Table.from_pylist(records, to_arrow_schema(named, timezone="UTC")), named)


def kept_tables(tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """`tables`, each computed once, in one partition: what joins them need not move their rows."""
    return {name: frame.coalesce(1).persist() for name, frame in tables.items()}


@contextmanager
def no_broadcasts(spark: SparkSession) -> Iterator[None]:
    """Joins of small tables without a broadcast, which is a job of its own."""
    with settings(spark, spark__sql__autoBroadcastJoinThreshold=-1):
        yield
