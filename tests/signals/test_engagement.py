"""The rows that features aggregate: days with engagement, and pairs that engaged."""

from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from recsys_spark.signals.engagement import engaged_pairs, engagement_days
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events


def test_engagement_days_sums_a_day_of_an_item(spark: SparkSession, make_config) -> None:
    day = before(days=2)
    events = [
        Event("a", "i", "rate", day + timedelta(hours=1), 4.0),
        Event("b", "i", "rate", day + timedelta(hours=20), float("nan")),
        Event(None, "i", "return", day + timedelta(hours=3), 0.5),
        Event("a", "i", "show", day),
        Event("a", "i", "block", day),
    ]
    rows = engagement_days(make_events(spark, events), "item_id", make_config(TYPES_SET), CUTOFF).collect()
    assert len(rows) == 1
    row = rows[0].asDict()
    assert (row["n_events"], row["n_anonymous"], row["n_negative"], row["n_positive"]) == (3, 1, 1, 2)
    assert (row["n_values"], float(row["value_sum"]), row["days_ago"]) == (2, 4.5, 2)
    assert row["first_age_days"] == pytest.approx(2 - 1 / 24, rel=1e-15)
    assert row["last_age_days"] == pytest.approx(2 - 20 / 24, rel=1e-15)


def test_engagement_days_counts_whole_days_back(spark: SparkSession, make_config) -> None:
    times = [before(microseconds=1), before(days=28), before(days=28, microseconds=1)]
    events = make_events(spark, [Event("u", "i", "buy", time) for time in times])
    rows = engagement_days(events, "user_id", make_config(TYPES_SET), CUTOFF).collect()
    assert sorted(row.days_ago for row in rows) == [1, 28, 29]


def test_engaged_pairs_leaves_out_what_was_only_disliked(spark: SparkSession) -> None:
    schema = "user_idx int, item_idx int, last_time timestamp, n_events int"
    rows = [(0, 0, before(days=28), 1), (0, 1, before(days=1), 0), (1, 0, before(days=28, microseconds=1), 2)]
    found = engaged_pairs(spark.createDataFrame(rows, schema), CUTOFF).collect()
    assert {(row.user_idx, row.item_idx): row.days_ago for row in found} == {(0, 0): 28, (1, 0): 29}
