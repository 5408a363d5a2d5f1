"""The step gives every engaged item its nearest, among what may be shown."""

from pyspark.sql import SparkSession

from recsys_spark.features import declared_tables
from recsys_spark.steps import item_cf
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps


def _tables(spark: SparkSession, make_config, log: list[Event], *sets: str):
    context = make_context(spark, make_config(TYPES_SET, "item_cf.min_co_occurrence=1", *sets))
    inputs = {"events": make_events(spark, log), "items": make_items(spark, {}), "users": make_users(spark, {})}
    return run_steps(inputs, context), context


def _lists(tables, context) -> dict[str, list[str]]:
    frame = item_cf.run(tables, context)["item_neighbors"]
    table = declared_tables()["item_neighbors"]
    check_schema(frame, table, without=("run_id",))
    check_rows(measure_rows(frame, table), table, "in a test")
    return {row.item_id: [one.item_id for one in row.neighbors] for row in frame.collect()}


def test_run_finds_items_that_share_users(spark: SparkSession, make_config) -> None:
    log = [Event(user, item, "buy", before(days=1)) for user, items in
           {"ann": "xy", "bob": "xyz", "cleo": "z", "dora": "w"}.items() for item in items]  # fmt: skip
    tables, context = _tables(spark, make_config, log)
    assert _lists(tables, context) == {"x": ["y", "z"], "y": ["x", "z"], "z": ["x", "y"]}
    assert context.figures["n_items_with_neighbors"] == 3.0
    assert context.figures["n_neighbors"] == 6.0


def test_run_counts_neither_returned_nor_disliked_items(spark: SparkSession, make_config) -> None:
    log = [Event("ann", item, "buy", before(days=2)) for item in "xyz"]
    log += [Event("ann", "z", "return", before(days=1)), Event("ann", "w", "block", before(days=1))]
    tables, context = _tables(spark, make_config, log)
    assert _lists(tables, context) == {"x": ["y"], "y": ["x"]}


def test_run_lists_what_may_be_shown_and_keeps_lists_of_what_is_no_longer_sold(
    spark: SparkSession, make_config
) -> None:
    log = [Event("ann", item, "buy", before(days=days)) for item, days in (("old", 90), ("x", 2), ("y", 1))]
    tables, context = _tables(spark, make_config, log, "candidates.available_within_days=28")
    assert _lists(tables, context) == {"old": ["x", "y"], "x": ["y"], "y": ["x"]}
