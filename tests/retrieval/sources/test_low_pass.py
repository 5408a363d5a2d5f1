"""The source `low_pass` reaches over paths that no two items share a user on."""

from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed


def test_generate_proposes_what_no_user_shares_with_the_history(spark: SparkSession, tmp_path: Path) -> None:
    # A chain of users, a b, b c, c d, and another far from it.  Who has a alone shares no user with c, two steps away.
    log = [
        Event(f"{chain}{user}", f"{chain}{item}", "buy", before(days=1))
        for chain in ("x", "y")
        for user, items in enumerate(("ab", "bc", "cd", "ab", "bc", "cd"))
        for item in items
    ] + [Event("new", "xa", "buy", before(days=1))]
    sets = (
        f"storage.root={tmp_path}",
        TYPES_SET,
        'sources.enabled=["low_pass"]',
        "sources.low_pass.rank=2",
    )
    config = load_config(sets=sets)
    context = make_context(spark, config)
    tables = indexed_log(context, log) | {"items": make_items(spark, {})}
    rows = proposed("low_pass", tables, context).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    lists = {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}
    assert lists["new"][:2] == ["xb", "xc"]
    assert set(lists) == set(users.values())
