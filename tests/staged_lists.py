"""A small staged bundle as the audit reads it: three users, items x, y and z, and whatever a test makes wrong."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.local_frame import local_frame

DAY = date(2025, 2, 1)
NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
RUN_ID = "20250201-001-9f2c81aa"
GOOD = [("x", 1, 2.0), ("y", 2, 1.0)]

Lists = dict[str, list[tuple[str, int, float]]]


def frame(spark: SparkSession, name: str, rows: Sequence[dict[str, Any]]) -> DataFrame:
    """Rows of a table, nulls for columns that are not given."""
    return local_frame(spark, rows, spark_schema(TABLES[name], without=("run_id",)))


def list_rows(lists: Lists) -> list[dict[str, Any]]:
    """Rows of `candidates`: lists of (item_id, rank, score) by user."""
    return [
        {
            "user_id": user,
            "variant": "main",
            "items": [{"item_id": item, "rank": rank, "score": score, "sources": []} for item, rank, score in items],
            "generated_at": NOW,
        }
        for user, items in lists.items()
    ]


def staged(
    spark: SparkSession,
    lists: Lists,
    active: tuple[str, ...] = ("u0", "u1"),
    item_vectors: Sequence[list[float]] = (),
    user_vectors: Sequence[list[float]] = (),
    shards: Sequence[dict[str, object]] = (),
) -> dict[str, DataFrame]:
    """The tables that gates read but `events` and `items`; users who are not active were so 400 days ago."""
    users = ["u0", "u1", "u2"]
    rows = list_rows(lists)
    events = [
        {
            "user_idx": users.index(user),
            "item_idx": 0,
            "weight": 1.0,
            "last_time": NOW if user in active else NOW - timedelta(days=400),
            "n_events": 1,
        }
        for user in users
    ]
    fallback = [{"items": rows[0]["items"] if rows else [], "generated_at": NOW}]
    return {
        "interactions": frame(spark, "interactions", events),
        "user_index": frame(spark, "user_index", [{"user_idx": at, "user_id": user} for at, user in enumerate(users)]),
        "item_index": frame(spark, "item_index", [{"item_idx": at, "item_id": item} for at, item in enumerate("xyz")]),
        "two_tower_models": frame(
            spark, "two_tower_models", [{"model_version": "m", "rel_path": "m", "n_bytes": 1, "card": "{}"}]
        ),
        "item_embeddings": embeddings(spark, "item", item_vectors),
        "ann_shards": frame(spark, "ann_shards", shards),
        "user_embeddings": embeddings(spark, "user", user_vectors),
        "candidates": frame(spark, "candidates", rows),
        "fallback_candidates": frame(spark, "fallback_candidates", fallback),
    }


def embeddings(spark: SparkSession, kind: str, vectors: Sequence[list[float]], model: str = "m") -> DataFrame:
    """Rows whose column `norm` says that all is well."""
    rows = [
        {f"{kind}_id": str(at), f"{kind}_idx": at, "vector": vector, "norm": 1.0, "model_version": model, "shown": True}
        for at, vector in enumerate(vectors)
    ]
    return frame(spark, f"{kind}_embeddings", rows)
