"""The source `user_cf` proposes what near users have."""

from pyspark.sql import SparkSession

from recsys_spark.sources import check_params, user_cf
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps

LOG = [
    Event(user, item, "buy", before(days=days))
    for user, items, days in (("ann", "xy", 1), ("bob", "xyz", 1), ("cleo", "vw", 1), ("dora", "v", 1), ("eve", "u", 1))
    for item in items
]


def _lists(spark: SparkSession, make_config, *sets: str, log: list[Event] = LOG) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["user_cf"]', *sets)
    context = make_context(spark, config)
    inputs = {"events": make_events(spark, log), "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables = run_steps(inputs, context)
    rows = user_cf.generate(tables, check_params(config)["user_cf"], context).collect()
    users = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    items = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    return {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}


def test_generate_proposes_what_near_users_have(spark: SparkSession, make_config) -> None:
    assert _lists(spark, make_config) == {"ann": ["z"], "dora": ["w"]}


def test_generate_leaves_out_what_nobody_is_shown(spark: SparkSession, make_config) -> None:
    log = [*LOG, Event("dora", "w2", "buy", before(days=60)), Event("cleo", "w2", "buy", before(days=60))]
    assert _lists(spark, make_config, "candidates.seen=keep", log=log)["dora"] == ["v", "w"]


def test_generate_counts_the_newest_users_of_an_item(spark: SparkSession, make_config) -> None:
    # Of the users of x and of y only ann, the smaller index of equal times, is kept; nobody is near to anybody.
    lists = _lists(spark, make_config, "sources.user_cf.max_users_per_item=1")
    assert lists == {}
