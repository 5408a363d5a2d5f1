"""Changes of lists against brute force: every way in which two bundles can differ, in one frame."""

from datetime import UTC, date, datetime
from itertools import product
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.pipeline import step_changes
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES

NOW = datetime(2025, 2, 1, tzinfo=UTC)
HEAD = PublishRow(7, "publish", "20250131-001-9f2c81aa", date(2025, 1, 31), 6, (), "", "", 48, NOW, "")
LISTS = [None, [], ["a"], ["a", "b"], ["b", "a"], ["a", "b", "c"]]
PAIRS = {f"u{at:02d}": pair for at, pair in enumerate(product(LISTS, LISTS))}
VARIANTS = ("main", "other")


def frame(spark: SparkSession, at: int, score: float) -> DataFrame:
    """The lists on one side of every pair, in both variants; those of `other` are shorter by nothing but their name."""
    rows: list[dict[str, Any]] = [
        {
            "user_id": user,
            "variant": variant,
            "items": [
                {"item_id": item, "rank": rank, "score": score / rank, "sources": []}
                for rank, item in enumerate(pair[at], start=1)
            ],
            "generated_at": NOW,
            "run_id": "r",
        }
        for user, pair in PAIRS.items()
        for variant in VARIANTS
        if pair[at] is not None
    ]
    return spark.createDataFrame(rows, spark_schema(TABLES["candidates"]))


def expected() -> set[tuple[str, str, str, str]]:
    """By brute force."""
    found = set()
    for (user, (old, new)), variant in product(PAIRS.items(), VARIANTS):
        if old != new:
            kind = "added" if old is None else "removed" if new is None else "changed"
            found.add((user, variant, kind, HEAD.run_id))
    return found


@pytest.mark.parametrize("current", [HEAD, None], ids=["a bundle before", "none"])
def test_run_lists_every_user_whose_list_is_another(spark: SparkSession, current: PublishRow | None) -> None:
    context = Context(load_config(), date(2025, 2, 1), "r", 1, spark, current=current)
    inputs = {"candidates": frame(spark, 1, 2.0)}
    if current is not None:
        inputs["current_candidates"] = frame(spark, 0, 1.0)
    found = {tuple(row) for row in step_changes.run(inputs, context)["candidate_changes"].collect()}
    if current is None:
        has_list = {user for user, pair in PAIRS.items() if pair[1] is not None}
        assert found == {(user, variant, "added", None) for user in has_list for variant in VARIANTS}
    else:
        assert found == expected()
    assert context.figures == {"against_publish_seq": 7.0 if current else 0.0}
