"""The group `popularity`, on a log whose features can be counted by hand."""

from pyspark.sql import SparkSession

from recsys_spark.features.groups import popularity
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events
from tests.local_frame import local_frame


def _inputs(spark: SparkSession) -> dict:
    log = [
        Event("ann", "x", "buy", before(days=28)),
        Event("ann", "x", "buy", before(days=100)),
        Event("bob", "x", "return", before(days=40)),
        Event(None, "x", "buy", before(days=0.25)),
        Event(None, "x", "buy", before(days=200)),
        Event("ann", "x", "show", before(days=1)),
    ]
    pairs = [
        (0, 0, before(days=28), 2),
        (1, 0, before(days=40), 1),
        (2, 0, before(days=1), 0),  # nothing but a dislike
        (3, 2, before(days=9), 1),
        (3, 3, before(days=9), 1),
    ]
    return {
        "events": make_events(spark, log),
        "interactions": local_frame(spark, pairs, "user_idx int, item_idx int, last_time timestamp, n_events int"),
        "index": local_frame(
            spark,
            [(0, "x", before(days=300)), (1, "unsold", CUTOFF)],
            "item_idx int, item_id string, created_at timestamp",
        ),
    }


def test_compute_gives_every_item_a_row(spark: SparkSession, make_config) -> None:
    inputs = _inputs(spark)
    frame = popularity.compute(inputs["index"], inputs, make_config(TYPES_SET), CUTOFF).drop("created_at", "item_idx")
    rows = {row.item_id: row.asDict() for row in frame.collect()}
    assert frame.columns == ["item_id", *[feature.name for feature in popularity.GROUP.features]]
    assert rows["x"] == {
        "item_id": "x",
        "n_events": 5,
        "n_events_1d": 1,
        "n_events_7d": 1,
        "n_events_28d": 2,
        "n_events_90d": 3,
        "n_anonymous_28d": 1,
        "n_negative_events": 1,
        "return_rate": 1 / 4,
        "n_users": 2,
        "n_users_1d": 0,
        "n_users_7d": 0,
        "n_users_28d": 1,
        "n_users_90d": 2,
        "days_since_first": 200.0,
        "days_since_last": 0.25,
        "popularity_28d": 1 / 2,
        "trend_7d": (1 + 1) / (1 / 4 + 1),
        "age_days": 300.0,
    }
    zeros = {name: 0 for name in rows["x"] if name.startswith("n_")}
    nulls = dict.fromkeys(("return_rate", "days_since_first", "days_since_last", "trend_7d", "age_days"))
    assert rows["unsold"] == {"item_id": "unsold", **zeros, **nulls, "popularity_28d": 0.0}


def test_compute_knows_no_popularity_where_nobody_was_active(spark: SparkSession, make_config) -> None:
    inputs = _inputs(spark)
    inputs["interactions"] = inputs["interactions"].where("n_events = 0")
    rows = popularity.compute(inputs["index"], inputs, make_config(TYPES_SET), CUTOFF).collect()
    assert {row.item_id: row.popularity_28d for row in rows} == {"x": None, "unsold": None}


def test_trend_is_one_for_an_item_whose_weeks_are_the_same(spark: SparkSession, make_config) -> None:
    inputs = _inputs(spark)
    log = [Event("ann", "x", "buy", before(days=7 * week + 3)) for week in range(6)]
    log += [Event("ann", "unsold", "buy", before(days=age)) for age in (7, 8, 8, 8, 35, 35, 36)]
    inputs["events"] = make_events(spark, log)
    rows = popularity.compute(inputs["index"], inputs, make_config(TYPES_SET), CUTOFF).collect()
    at_the_edges = (1 + 1) / ((3 + 2) / 4 + 1)
    assert {row.item_id: row.trend_7d for row in rows} == {"x": 1.0, "unsold": at_the_edges}
