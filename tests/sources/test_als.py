"""The source `als` follows the factors of the run, and what a long vector is to count for."""

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.sources import als, check_params
from recsys_spark.steps import als as step
from recsys_spark.steps import index, interactions
from recsys_spark.steps.context import Context
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users

# Items by index: long but half beside the user's direction; short and in it; a shorter one; one that nobody is shown.
VECTORS = {"a": ([3.0, 3.0], True), "b": ([2.0, 0.0], True), "c": ([0.5, 0.1], True), "d": ([9.0, 9.0], False)}
LOG = [Event("ann", item, "buy", before(days=1)) for item in "d"] + [
    Event("bob", item, "buy", before(days=1)) for item in "abc"
]


def _indexed(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    tables = inputs | index.run(inputs, context)
    return tables | interactions.run(tables, context)


def _lists(spark: SparkSession, make_config, *sets: str) -> dict[str, list[tuple[str, float]]]:
    config = make_config(TYPES_SET, 'sources.enabled=["als"]', *sets)
    context = make_context(spark, config)
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables = _indexed(inputs, context)
    users = {row.user_id: row.user_idx for row in tables["user_index"].collect()}
    items = {row.item_id: row.item_idx for row in tables["item_index"].collect()}
    tables["user_factors"] = spark.createDataFrame(
        [(idx, [1.0, 0.0]) for idx in users.values()], "user_idx int, vector array<float>"
    )
    tables["item_factors"] = spark.createDataFrame(
        [(items[name], *vector) for name, vector in VECTORS.items()],
        "item_idx int, vector array<float>, shown boolean",
    )
    rows = als.generate({name: tables[name] for name in als.READS}, check_params(config)["als"], context).collect()
    names = {idx: name for name, idx in (users | items).items() if name in items}
    return {
        user: [(names[one["item_idx"]], one["score"]) for row in rows if row.user_idx == idx for one in row["items"]]
        for user, idx in users.items()
    }


def _items(lists: dict[str, list[tuple[str, float]]], user: str) -> list[str]:
    return [item for item, _ in lists[user]]


def test_generate_ranks_by_product_at_one_and_by_cosine_at_zero(spark: SparkSession, make_config) -> None:
    by_product = _lists(spark, make_config, "sources.als.norm_exponent=1.0")["ann"]
    assert by_product == [("a", 3.0), ("b", 2.0), ("c", 0.5)]
    by_cosine = _lists(spark, make_config, "sources.als.norm_exponent=0.0")["ann"]
    assert [item for item, _ in by_cosine] == ["b", "c", "a"]
    # a: 3 / |(3, 3)|; b: 2 / 2; c: 0.5 / |(0.5, 0.1)|; float32.
    scores = [1.0, 0.5 / np.hypot(0.5, 0.1), 3 / np.hypot(3, 3)]
    np.testing.assert_allclose([score for _, score in by_cosine], scores, rtol=1e-6)


def test_generate_proposes_what_is_new_and_may_be_shown(spark: SparkSession, make_config) -> None:
    lists = _lists(spark, make_config, "sources.als.norm_exponent=1.0")
    assert _items(lists, "ann") == ["a", "b", "c"]  # d was bought, and is not sold any more
    assert _items(lists, "bob") == []


def test_generate_keeps_seen_items_if_the_policy_does_and_cuts_its_lists(spark: SparkSession, make_config) -> None:
    sets = ("candidates.seen=keep", "sources.als.max_items=2", "sources.als.norm_exponent=1.0")
    lists = _lists(spark, make_config, *sets)
    assert _items(lists, "bob") == ["a", "b"]
    assert _items(lists, "ann") == ["a", "b"]


def test_generate_follows_the_factors_of_the_step(spark: SparkSession, make_config) -> None:
    config = make_config(
        TYPES_SET,
        'sources.enabled=["als"]',
        "als.factors=2",
        "als.alpha=10.0",
        "als.iterations=4",
        "als.regularization=0.01",
    )
    context = make_context(spark, config)
    # Two groups, each with items of its own; everybody misses one of them.
    log = [
        Event(f"{group}{user}", f"{group}-{item}", "buy", before(days=1))
        for group in "pq"
        for user in range(4)
        for item in range(4)
        if user != item
    ]
    inputs = {"events": make_events(spark, log), "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables = _indexed(inputs, context)
    tables |= step.run(tables, context)
    rows = als.generate(tables, check_params(config)["als"], context).collect()
    users = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    items = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    assert {users[row.user_idx]: items[row["items"][0]["item_idx"]] for row in rows} == {
        f"{group}{user}": f"{group}-{user}" for group in "pq" for user in range(4)
    }
