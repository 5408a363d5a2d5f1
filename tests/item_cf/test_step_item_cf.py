"""The step gives every engaged item its nearest, among what may be shown."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.errors import BoundExceeded
from recsys_spark.features.declared import declared_tables
from recsys_spark.item_cf import step_item_cf
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps
from tests.local_frame import computed

BASKETS = {"ann": "xy", "bob": "xyz", "cleo": "z", "dora": "w"}

# No two cases share a user or an item.
LOG = [
    *(Event(user, item, "buy", before(days=1)) for user, items in BASKETS.items() for item in items),
    *(Event("eve", item, "buy", before(days=2)) for item in ("kept", "liked", "returned")),
    Event("eve", "returned", "return", before(days=1)),
    Event("eve", "blocked", "block", before(days=1)),
    *(Event("fay", item, "buy", before(days=days)) for item, days in (("old", 90), ("new", 2), ("newer", 1))),
]

Answer = tuple[DataFrame, Context]


@pytest.fixture(scope="module")
def tables(spark: SparkSession) -> dict[str, DataFrame]:
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, {}), "users": make_users(spark, {})}
    return run_steps(inputs, make_context(spark, load_config(sets=(TYPES_SET,))))


@pytest.fixture(scope="module")
def sold_of_late(spark: SparkSession, tables: dict[str, DataFrame]) -> Answer:
    sets = (TYPES_SET, "item_cf.min_co_occurrence=1", "candidates.available_within_days=28")
    context = make_context(spark, load_config(sets=sets))
    frame = computed(step_item_cf.run(tables, context)["item_neighbors"])
    spark.catalog.clearCache()
    return frame, context


def _lists(answer: Answer, items: str) -> dict[str, list[str]]:
    """Of some items."""
    rows = [row for row in answer[0].collect() if row.item_id in items.split()]
    return {row.item_id: [one.item_id for one in row.neighbors] for row in rows}


def test_run_keeps_the_contract(sold_of_late: Answer) -> None:
    frame, table = sold_of_late[0], declared_tables()["item_neighbors"]
    check_schema(frame, table, without=("run_id",))
    check_rows(measure_rows(frame, table), table, "in a test")


def test_run_finds_items_that_share_users(sold_of_late: Answer) -> None:
    assert _lists(sold_of_late, "x y z w") == {"x": ["y", "z"], "y": ["x", "z"], "z": ["x", "y"]}
    # Of this case, and of the two below.
    assert sold_of_late[1].figures["n_items_with_neighbors"] == 3.0 + 2.0 + 3.0
    assert sold_of_late[1].figures["n_neighbors"] == 6.0 + 2.0 + 4.0


def test_run_counts_neither_returned_nor_disliked_items(sold_of_late: Answer) -> None:
    assert _lists(sold_of_late, "kept liked returned blocked") == {"kept": ["liked"], "liked": ["kept"]}


def test_run_lists_what_may_be_shown_and_keeps_lists_of_what_is_no_longer_sold(sold_of_late: Answer) -> None:
    found = _lists(sold_of_late, "old new newer")
    assert found == {"old": ["new", "newer"], "new": ["newer"], "newer": ["new"]}


def test_run_goes_on_by_cosine_where_the_sums_of_a_chosen_ridge_have_outgrown_their_bound(
    spark: SparkSession, tables: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_spark.item_cf.ridge.MAX_GRAM_BYTES", 7)
    config = load_config(sets=(TYPES_SET, "item_cf.min_co_occurrence=1"))
    chosen = config.model_copy(update={"item_cf": config.item_cf.model_copy(update={"similarity": "ridge"})})
    context = make_context(spark, chosen)
    assert computed(step_item_cf.run(tables, context)["item_neighbors"]).count() > 0
    (warning,) = context.warnings
    assert warning.startswith("item_cf: by cosine and not by ridge, as was chosen: item_cf: expected at most 7 bytes")
    written = make_context(spark, load_config(sets=(TYPES_SET, "item_cf.similarity=ridge")))
    with pytest.raises(BoundExceeded):
        step_item_cf.run(tables, written)
    spark.catalog.clearCache()
