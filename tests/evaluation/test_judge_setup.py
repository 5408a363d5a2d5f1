"""Which published list a judged user is held against; figures of whole runs are in test_backtest."""

from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.evaluation.judge import fit_variants, with_published
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.local_frame import local_frame
from tests.staged_lists import list_rows

NOW = datetime(2025, 1, 31, tzinfo=UTC)


def _frame(spark: SparkSession, name: str, rows: list[dict]) -> DataFrame:
    return local_frame(spark, rows, spark_schema(TABLES[name], without=("run_id",)))


def test_a_judged_user_is_held_against_what_the_reader_returns(spark: SparkSession) -> None:
    own = list_rows({"u1": [("x", 1, 1.0), ("y", 2, 0.5)], "u2": []})
    shared = list_rows({"FR": [("z", 1, 1.0)], "": [("gone", 1, 1.0), ("x", 2, 0.5)]})
    fallback = [row | {"segment": row["user_id"] or None} for row in shared]
    tables = {
        "candidates": _frame(spark, "candidates", [own[0] | {"variant": "new"}, own[1]]),
        "fallback_candidates": _frame(spark, "fallback_candidates", fallback),
        "item_index": _frame(spark, "item_index", [{"item_idx": at, "item_id": one} for at, one in enumerate("xyz")]),
    }
    judged = local_frame(
        spark, [("u1", "FR"), ("u2", "FR"), ("u3", "FR"), ("u4", "IS"), ("u5", None)], "user_id string, segment string"
    )
    found = {row["user_id"]: (row["published"], row["variant"]) for row in with_published(judged, tables).collect()}
    assert found == {
        "u1": ([0, 1], "new"),
        "u2": ([], "main"),  # who has seen everything keeps the empty list
        "u3": ([2], None),
        "u4": ([-1, 0], None),
        "u5": ([-1, 0], None),
    }
    assert fit_variants(tables["candidates"]) == ("main", "new")
    assert fit_variants(tables["candidates"].where("variant = 'main'")) == ()
