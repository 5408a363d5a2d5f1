"""Pairs shown of late: counted once each, converted only by an engagement at or after the first showing."""

from pyspark.sql import SparkSession

from recsys_spark.signals.exposures import shown_pairs
from tests.engagement import CUTOFF, before
from tests.local_frame import local_frame

SHOWN = "user_idx int, item_idx int, event_time timestamp"
PAIRS = "user_idx int, item_idx int, last_time timestamp, n_events int, weight float"


def test_showings_counts_a_pair_from_the_first_day_of_the_window(spark: SparkSession) -> None:
    times = [before(days=28, microseconds=1), before(days=28), before(days=1)]
    shown = local_frame(spark, [(0, 1, time) for time in times], SHOWN)
    rows = shown_pairs(shown, local_frame(spark, [], PAIRS), CUTOFF, 28).collect()
    assert [tuple(row) for row in rows] == [(0, 1, 2, False)]


def test_showings_converts_at_or_after_the_first_showing(spark: SparkSession) -> None:
    cases = {
        0: (before(days=5), 1, 0.5, True),
        1: (before(days=5, microseconds=1), 1, 0.5, False),
        2: (before(days=4), 0, 0.0, False),  # a dislike
        3: (before(days=4), 2, 0.0, False),  # bought and returned
    }
    shown = local_frame(spark, [(user, 1, before(days=days)) for user in cases for days in (30, 5, 2)], SHOWN)
    rows = [(user, 1, *case[:3]) for user, case in cases.items()]
    rows += [(user, 2, before(days=1), 1, 1.0) for user in cases]
    found = shown_pairs(shown, local_frame(spark, rows, PAIRS), CUTOFF, 28).collect()
    assert sorted(tuple(row) for row in found) == [(user, 1, 2, case[3]) for user, case in cases.items()]
