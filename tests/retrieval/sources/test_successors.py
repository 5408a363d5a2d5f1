"""The source `successors` tells by order what no count of shared users can."""

import pytest
from pyspark.sql import SparkSession

from tests.engagement import TYPES_SET, Event, before, make_context, make_items
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed

CIRCLE = [f"i{number}" for number in range(8)]


@pytest.mark.parametrize(
    ("sets", "next_of_new"),
    [((), "i3"), (("sources.successors.history_items=1", "candidates.seen=keep"), "i3")],
)
def test_generate_goes_on_as_users_went_on(
    spark: SparkSession, make_config, sets: tuple[str, ...], next_of_new: str
) -> None:
    # Everybody had every item, in the order of a circle from a start of their own; one had two of them, the later last.
    log = [
        Event(f"u{user}", CIRCLE[(user + place) % 8], "buy", before(days=20 - place))
        for user in range(16)
        for place in range(8)
    ]
    log += [Event("new", "i1", "buy", before(days=2)), Event("new", "i2", "buy", before(days=1))]
    config = make_config(TYPES_SET, 'sources.enabled=["successors"]', *sets)
    context = make_context(spark, config)
    tables = indexed_log(context, log) | {"items": make_items(spark, {})}
    rows = proposed("successors", tables, context).collect()
    users, items = names_of(tables, "user"), names_of(tables, "item")
    lists = {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in rows}
    assert lists["new"][0] == next_of_new
    assert "new" in lists
    assert ("u0" in lists) == ("candidates.seen=keep" in sets)  # who has seen all is shown nothing
