"""The source `user_cf` proposes what near users have."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed

BOUGHT = {"ann": "xy", "bob": "xyz", "cleo": "vw", "dora": "v", "eve": "u", "gil": "v"}
LOG = [Event(user, item, "buy", before(days=1)) for user, items in BOUGHT.items() for item in items]
LOG += [Event(user, "w2", "buy", before(days=60)) for user in ("cleo", "dora")]  # nobody is shown it any more
LOG += [Event("gil", "w", "hide", before(days=1))]


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataFrame]:
    context = make_context(spark, load_config(sets=(f"storage.root={tmp_path_factory.mktemp('user_cf')}", TYPES_SET)))
    return indexed_log(context, LOG) | {"items": make_items(spark, {})}


def _lists(spark: SparkSession, make_config, tables: dict[str, DataFrame], *sets: str) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["user_cf"]', *sets)
    rows = proposed("user_cf", tables, make_context(spark, config)).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    return {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}


def test_generate_proposes_what_near_users_have(spark: SparkSession, make_config, tables) -> None:
    assert _lists(spark, make_config, tables) == {"ann": ["z"], "dora": ["w"]}


def test_generate_keeps_seen_items_if_the_policy_does_but_not_what_nobody_is_shown(
    spark: SparkSession, make_config, tables
) -> None:
    # w2 would be the last of cleo, dora and gil; gil does not want to see w.
    assert _lists(spark, make_config, tables, "candidates.seen=keep") == {
        "ann": ["x", "y", "z"],
        "bob": ["x", "y"],
        "cleo": ["v"],
        "dora": ["v", "w"],
        "gil": ["v"],
    }


def test_generate_counts_the_newest_users_of_an_item(spark: SparkSession, make_config, tables) -> None:
    # Of the users of x and of y only ann is kept, of those of v and w2 only cleo, the smaller index of equal times;
    # nobody is near to anybody.
    lists = _lists(spark, make_config, tables, "sources.user_cf.max_users_per_item=1")
    assert lists == {}
