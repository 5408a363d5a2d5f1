"""The group `activity`, on a log whose features can be counted by hand."""

from pyspark.sql import SparkSession

from recsys_spark.features.groups import activity
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events


def _inputs(spark: SparkSession) -> dict:
    log = [
        Event("ann", "x", "rate", before(days=28), 4.0),
        Event("ann", "x", "rate", before(days=28), 5.0),
        Event("ann", "y", "return", before(days=1.5)),
        Event("ann", "z", "buy", before(days=29)),
        Event("ann", "z", "show", before(days=1)),
        Event(None, "x", "buy", before(days=1)),
    ]
    pairs = [
        (0, 0, before(days=28), 2),
        (0, 1, before(days=1.5), 1),
        (0, 2, before(days=29), 1),
        (1, 2, before(days=1), 0),  # nothing but a dislike
    ]
    return {
        "events": make_events(spark, log),
        "interactions": spark.createDataFrame(pairs, "user_idx int, item_idx int, last_time timestamp, n_events int"),
        "user_index": spark.createDataFrame([(0, "ann"), (1, "bob")], "user_idx int, user_id string"),
    }


def test_compute_gives_every_user_a_row(spark: SparkSession, make_config) -> None:
    inputs = _inputs(spark)
    frame = activity.compute(inputs["user_index"], inputs, make_config(TYPES_SET), CUTOFF)
    rows = {row.user_id: row.asDict() for row in frame.collect()}
    assert frame.columns == ["user_idx", "user_id", *[feature.name for feature in activity.GROUP.features]]
    assert rows["ann"] == {
        "user_idx": 0,
        "user_id": "ann",
        "n_events": 4,
        "n_events_1d": 0,
        "n_events_7d": 1,
        "n_events_28d": 3,
        "n_events_90d": 4,
        "n_negative_events": 1,
        "return_rate": 1 / 3,
        "n_active_days": 3,
        "n_items": 3,
        "n_items_1d": 0,
        "n_items_7d": 1,
        "n_items_28d": 2,
        "n_items_90d": 3,
        "days_since_first": 29.0,
        "days_since_last": 1.5,
        "mean_value": (4.0 + 5.0) / 2,
    }
    zeros = {name: 0 for name in rows["ann"] if name.startswith("n_")}
    nulls = dict.fromkeys(("days_since_first", "days_since_last", "mean_value", "return_rate"))
    assert rows["bob"] == {"user_idx": 1, "user_id": "bob", **zeros, **nulls}
