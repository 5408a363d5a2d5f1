"""Who and what is indexed."""

from pyspark.sql import SparkSession

from recsys_spark.signals import step_index
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_context, make_events, make_items, make_users


def test_run_indexes_events_and_catalogue(spark: SparkSession, make_config) -> None:
    events = [
        Event("u2", "i3", "buy", before(days=1)),
        Event(None, "i1", "buy", before(days=900)),  # popularity counts it, so its item needs an index
        Event("u9", "i9", "show", before(days=1)),
        Event("future", "future", "buy", CUTOFF),
    ]
    inputs = {
        "events": make_events(spark, events),
        "items": make_items(spark, {"i3": {}, "i2": {}}),
        "users": make_users(spark, {"u1": {}}),
    }
    context = make_context(spark, make_config(TYPES_SET))
    outputs = step_index.run(inputs, context)
    assert sorted(tuple(row) for row in outputs["user_index"].collect()) == [(0, "u1"), (1, "u2"), (2, "u9")]
    assert sorted(tuple(row) for row in outputs["item_index"].collect()) == [(0, "i1"), (1, "i2"), (2, "i3"), (3, "i9")]
    assert context.figures == {"n_users": 3.0, "n_items": 4.0}


def test_run_gives_empty_indices_when_nothing_is_known(spark: SparkSession, make_config) -> None:
    inputs = {"events": make_events(spark, []), "items": make_items(spark, {}), "users": make_users(spark, {})}
    outputs = step_index.run(inputs, make_context(spark, make_config()))
    assert [outputs[name].count() for name in ("user_index", "item_index")] == [0, 0]
