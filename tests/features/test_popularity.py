"""The group `popularity`, on a log whose features can be counted by hand."""

from pyspark.sql import SparkSession

from recsys_spark.features import popularity
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events


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
    ]
    return {
        "events": make_events(spark, log),
        "interactions": spark.createDataFrame(pairs, "user_idx int, item_idx int, last_time timestamp, n_events int"),
        "item_index": spark.createDataFrame([(0, "x"), (1, "unsold")], "item_idx int, item_id string"),
    }


def test_compute_gives_every_item_a_row(spark: SparkSession, make_config) -> None:
    frame = popularity.compute(_inputs(spark), make_config(TYPES_SET), CUTOFF)
    rows = {row.item_id: row.asDict() for row in frame.collect()}
    assert frame.columns == ["item_id", *[feature.name for feature in popularity.GROUP.features]]
    assert rows["x"] == {
        "item_id": "x",
        "n_events": 5,
        "n_events_28d": 2,
        "n_anonymous_28d": 1,
        "n_negative_events": 1,
        "n_users": 2,
        "n_users_28d": 1,
        "days_since_first": 200.0,
        "days_since_last": 0.25,
    }
    zeros = {name: 0 for name in rows["x"] if name.startswith("n_")}
    assert rows["unsold"] == {"item_id": "unsold", **zeros, "days_since_first": None, "days_since_last": None}
