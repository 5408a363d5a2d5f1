"""Frames of a few rows that stand in the plan itself, and outputs of steps as such frames: no Spark job reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def local_frame(
    spark: SparkSession, rows: Iterable[Mapping[str, Any] | Sequence[Any]], schema: StructType | str
) -> DataFrame:
    """Rows by the names of columns, nulls for those that are not given, or by their places.

    The rows are in the plan itself: no task has to unpickle them, and joins know how few they are, as of a table.
    """
    typed = StructType.fromDDL(schema) if isinstance(schema, str) else schema
    listed = [row if isinstance(row, Mapping) else dict(zip(typed.names, row, strict=True)) for row in rows]
    columns = [{name: row.get(name) for name in typed.names} for row in listed]
    return spark.createDataFrame(pa.Table.from_pylist(columns, to_arrow_schema(typed, timezone="UTC")), typed)


def computed(frame: DataFrame) -> DataFrame:
    """The frame with its rows worked out, as the next step reads what one has stored: nothing is made twice."""
    return frame.sparkSession.createDataFrame(frame.toArrow(), frame.schema)


def computed_tables(tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """What a step returned, each table with its rows worked out."""
    return {name: computed(frame) for name, frame in tables.items()}
