"""Inputs of the blend as frames of a few rows."""

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES

ITEM_IDS = ["i0", "i1", "i2", "i3", "i4"]


def frame(spark: SparkSession, table: str, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, spark_schema(TABLES[table], without=("run_id",)))


def interaction(
    user_idx: int, item_idx: int, last: datetime, until: datetime | None = None, n_events: int = 1
) -> tuple:
    return (user_idx, item_idx, 0.0, last, n_events, until)


def make_inputs(spark: SparkSession, **rows: list[tuple]) -> dict[str, DataFrame]:
    n_users = 1 + max((row[0] for row in rows.get("interactions", [])), default=0)
    inputs = {
        "user_index": [(user, f"u{user}") for user in range(n_users)],
        "item_index": list(enumerate(ITEM_IDS)),
        "user_features": [(f"u{user}", ["FR", None][user % 2], []) for user in range(n_users)],
        "interactions": [],
        "source_candidates": [],
    } | rows
    return {name: frame(spark, name, rows) for name, rows in inputs.items()}
