"""The source `als` follows the factors of the run, and what a long vector is to count for."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.als import step_als as step
from recsys_spark.config.load import load_config
from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed

# Items by index: long but half beside the user's direction; short and in it; a shorter one; one that nobody is shown;
# the shortest.
VECTORS = {
    "a": ([3.0, 3.0], True),
    "b": ([2.0, 0.0], True),
    "c": ([0.5, 0.1], True),
    "d": ([9.0, 9.0], False),
    "e": ([0.1, 0.0], True),
}
LOG = [Event("ann", item, "buy", before(days=1)) for item in "d"] + [
    Event("bob", item, "buy", before(days=1)) for item in "abce"
]


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataFrame]:
    """The tables of the log, and the vectors that all users and the items have."""
    root = tmp_path_factory.mktemp("als")
    made = indexed_log(make_context(spark, load_config(sets=(f"storage.root={root}", TYPES_SET))), LOG)
    users, items = names_of(made, "user"), {name: idx for idx, name in names_of(made, "item").items()}
    made["user_factors"] = spark.createDataFrame(
        [(idx, [1.0, 0.0]) for idx in users], "user_idx int, vector array<float>"
    )
    made["item_factors"] = spark.createDataFrame(
        [(items[name], *vector) for name, vector in VECTORS.items()],
        "item_idx int, vector array<float>, shown boolean",
    )
    return made


def _lists(
    spark: SparkSession, make_config, tables: dict[str, DataFrame], *sets: str
) -> dict[str, list[tuple[str, float]]]:
    config = make_config(TYPES_SET, 'sources.enabled=["als"]', *sets)
    context = make_context(spark, config)
    rows = proposed("als", tables, context).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    lists = {users[row.user_idx]: [(items[one["item_idx"]], one["score"]) for one in row["items"]] for row in rows}
    return {user: lists.get(user, []) for user in users.values()}


def test_generate_ranks_by_product_at_one_what_is_new_and_may_be_shown_and_cuts_its_lists(
    spark: SparkSession, make_config, tables
) -> None:
    lists = _lists(spark, make_config, tables, "sources.als.norm_exponent=1.0", "sources.als.max_items=3")
    # ann bought d, which is not sold any more; e would be the fourth.  bob had all others.
    assert lists == {"ann": [("a", 3.0), ("b", 2.0), ("c", 0.5)], "bob": []}


def test_generate_ranks_by_cosine_at_zero_and_keeps_seen_items_if_the_policy_does(
    spark: SparkSession, make_config, tables
) -> None:
    lists = _lists(spark, make_config, tables, "candidates.seen=keep", "sources.als.norm_exponent=0.0")
    # b: 2 / 2; e: 0.1 / 0.1, the larger index; c: 0.5 / |(0.5, 0.1)|; a: 3 / |(3, 3)|; float32.
    expected = {"b": 1.0, "e": 1.0, "c": 0.5 / np.hypot(0.5, 0.1), "a": 3 / np.hypot(3, 3)}
    assert lists.keys() == {"ann", "bob"}
    for row in lists.values():
        assert [item for item, _ in row] == list(expected)
        np.testing.assert_allclose([score for _, score in row], list(expected.values()), rtol=1e-6)


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
    tables = indexed_log(context, log) | {"items": make_items(spark, {})}
    tables |= step.run(tables, context)
    rows = proposed("als", tables, context).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    assert {users[row.user_idx]: items[row["items"][0]["item_idx"]] for row in rows} == {
        f"{group}{user}": f"{group}-{user}" for group in "pq" for user in range(4)
    }
