"""Which published list a judged user is held against; figures of whole runs are in test_backtest."""

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from recsys_spark.adapters.exam import with_published
from tests.staged_lists import frame, list_rows

NOW = datetime(2025, 1, 31, tzinfo=UTC)


def test_a_judged_user_is_held_against_what_the_reader_returns(spark: SparkSession) -> None:
    own = list_rows({"u1": [("x", 1, 1.0), ("y", 2, 0.5)], "u2": []})
    shared = list_rows({"FR": [("z", 1, 1.0)], "": [("w", 1, 1.0)]})
    fallback = [row | {"segment": row["user_id"] or None} for row in shared]
    tables = {
        "candidates": frame(spark, "candidates", [*own, own[0] | {"variant": "more", "items": own[0]["items"][:1]}]),
        "fallback_candidates": frame(spark, "fallback_candidates", fallback),
    }
    judged = spark.createDataFrame(
        [("u1", "FR"), ("u2", "FR"), ("u3", "FR"), ("u4", "IS"), ("u5", None)], "user_id string, segment string"
    )
    found = {
        row["user_id"]: {one["name"]: list(one["item_ids"]) for one in row["published"]}
        for row in with_published(judged, tables).collect()
    }
    assert found == {
        "u1": {"published/main": ["x", "y"], "published/more": ["x"]},
        "u2": {"published/main": [], "published/more": ["z"]},  # who has seen everything keeps the empty list
        "u3": {"published/main": ["z"], "published/more": ["z"]},
        "u4": {"published/main": ["w"], "published/more": ["w"]},
        "u5": {"published/main": ["w"], "published/more": ["w"]},
    }
