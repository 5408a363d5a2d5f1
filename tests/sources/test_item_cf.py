"""The source `item_cf` follows the settings and the similarities of the run."""

from pyspark.sql import SparkSession

from recsys_spark.sources import check_params, item_cf
from recsys_spark.steps import item_cf as step
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps

LOG = [
    Event(user, item, "buy", before(days=1))
    for user, items in {"ann": "xy", "bob": "yz", "cleo": "xyz", "dora": "x"}.items()
    for item in items
]
# Plain cosine, so that a score is told by counting users.
PLAIN = ("item_cf.similarity=cosine", "item_cf.shrinkage=0.0", "item_cf.min_co_occurrence=1")


def _lists(spark: SparkSession, make_config, *sets: str) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["item_cf"]', *PLAIN, *sets)
    context = make_context(spark, config)
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables = run_steps(inputs, context)
    tables |= step.run(tables, context)
    rows = item_cf.generate(tables, check_params(config)["item_cf"], context).collect()
    users = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    items = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    return {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}


def test_generate_proposes_what_is_near_and_new(spark: SparkSession, make_config) -> None:
    # dora has x alone: y shares two of its three users with x, z one.
    assert _lists(spark, make_config) == {"ann": ["z"], "bob": ["x"], "dora": ["y", "z"]}


def test_generate_keeps_seen_items_if_the_policy_does(spark: SparkSession, make_config) -> None:
    # z: 1 / sqrt(3 * 2) + 2 / sqrt(3 * 2), more than x and y, which get 2 / 3 of each other.
    assert _lists(spark, make_config, "candidates.seen=keep")["ann"] == ["z", "x", "y"]


def test_generate_cuts_its_lists(spark: SparkSession, make_config) -> None:
    assert _lists(spark, make_config, "sources.item_cf.max_items=1")["dora"] == ["y"]
