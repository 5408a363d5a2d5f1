"""The source `item_cf` follows the settings and the similarities of the run."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.item_cf import step_item_cf as step
from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.indexed_log import indexed_log, names_of
from tests.local_frame import computed_tables
from tests.proposed import proposed

LOG = [
    Event(user, item, "buy", before(days=1))
    for user, items in {"ann": "xy", "bob": "yz", "cleo": "xyz", "dora": "x"}.items()
    for item in items
]
# Plain cosine, so that a score is told by counting users.
PLAIN = ("item_cf.similarity=cosine", "item_cf.shrinkage=0.0", "item_cf.min_co_occurrence=1")


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataFrame]:
    root = tmp_path_factory.mktemp("item_cf")
    context = make_context(spark, load_config(sets=(f"storage.root={root}", TYPES_SET, *PLAIN)))
    made = indexed_log(context, LOG) | {"items": make_items(spark, {})}
    return made | computed_tables(step.run(made, context))


def _lists(spark: SparkSession, make_config, tables: dict[str, DataFrame], *sets: str) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["item_cf"]', *PLAIN, *sets)
    rows = proposed("item_cf", tables, make_context(spark, config)).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    return {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}


def test_generate_proposes_what_is_near_and_new(spark: SparkSession, make_config, tables) -> None:
    # dora has x alone: y shares two of its three users with x, z one.
    assert _lists(spark, make_config, tables) == {"ann": ["z"], "bob": ["x"], "dora": ["y", "z"]}


def test_generate_keeps_seen_items_if_the_policy_does_and_cuts_its_lists(
    spark: SparkSession, make_config, tables
) -> None:
    lists = _lists(spark, make_config, tables, "candidates.seen=keep", "sources.item_cf.max_items=2")
    # x and y are near by 2 / 3, x and z by 1 / sqrt(3 * 2), y and z by 2 / sqrt(3 * 2).  A third item is left out: of
    # ann y, who gets as much as x; of bob z, as much as y; of cleo x, who gets less than y and z of both others.
    assert lists == {"ann": ["z", "x"], "bob": ["x", "y"], "cleo": ["y", "z"], "dora": ["y", "z"]}
