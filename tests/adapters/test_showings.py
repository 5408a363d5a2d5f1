"""Pairs shown of late: counted once each, converted only by an engagement at or after the first showing."""

from datetime import datetime

import pytest
from pyspark.sql import SparkSession

from recsys_spark.adapters.showings import showings
from tests.engagement import CUTOFF, before

SHOWN = "user_idx int, item_idx int, event_time timestamp"
PAIRS = "user_idx int, item_idx int, last_time timestamp, n_events int, weight float"


def test_showings_counts_a_pair_from_the_first_day_of_the_window(spark: SparkSession) -> None:
    times = [before(days=28, microseconds=1), before(days=28), before(days=1)]
    shown = spark.createDataFrame([(0, 1, time) for time in times], SHOWN)
    rows = showings(shown, spark.createDataFrame([], PAIRS), CUTOFF, 28).collect()
    assert [tuple(row) for row in rows] == [(0, 1, 2, False)]


@pytest.mark.parametrize(
    ("last_time", "n_events", "weight", "converted"),
    [
        (before(days=5), 1, 0.5, True),
        (before(days=5, microseconds=1), 1, 0.5, False),
        (before(days=4), 0, 0.0, False),  # a dislike
        (before(days=4), 2, 0.0, False),  # bought and returned
    ],
)
def test_showings_converts_at_or_after_the_first_showing(
    spark: SparkSession, last_time: datetime, n_events: int, weight: float, converted: bool
) -> None:
    shown = spark.createDataFrame([(0, 1, before(days=days)) for days in (30, 5, 2)], SHOWN)
    pairs = spark.createDataFrame([(0, 1, last_time, n_events, weight), (0, 2, before(days=1), 1, 1.0)], PAIRS)
    assert [tuple(row) for row in showings(shown, pairs, CUTOFF, 28).collect()] == [(0, 1, 2, converted)]
