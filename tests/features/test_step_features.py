"""Index, interactions and features together: against the oracle, point-in-time, for every partitioning, when empty."""

import random
from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.inputs import as_of
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows
from recsys_spark.warehouse.tables import ITEMS
from tests.engagement import (
    CUTOFF,
    TYPES_SET,
    Event,
    before,
    make_context,
    make_events,
    make_items,
    make_users,
    oracle_item,
    oracle_user,
    run_steps,
    settings,
)

OUTPUTS = ("user_index", "item_index", "interactions", "exposures", "user_features", "item_features")
KINDS = ["buy", "rate", "watch", "read", "return", "show", "show", "hide", "block"]

# Prices that are equal, free, missing, or none; ages that are known, or in the future; categories that are shared.
SHELF: dict[str, dict] = {
    "v": {"category": "tea", "price": 2.0, "created_at": before(days=400.5)},
    "w": {"category": "tea", "price": 2.0, "created_at": CUTOFF},
    "x": {"category": "cups", "price": 0.1},
    "y": {"category": "tea", "price": float("nan"), "created_at": before(days=1)},
    "z": {"price": 7.5},
    "unsold": {"category": "tea", "price": 0.0, "created_at": before(hours=6)},
    "dear": {"category": "tea", "price": float("inf")},
    "odd": {"category": "cups", "price": -1.0},
    "huge": {"category": "cups", "price": 1e300},
    "lone": {"price": 7.5},
    "named": {"title": "Tea", "category": "food"},
    "nameless": {"title": "Cup"},
}
# Who has a case of his own in the log, and the catalogue's word on users.
USERS: dict[str, dict] = {
    "newcomer": {},
    "nz": {"attributes": {"country": "NZ"}},
    "blank": {"attributes": {"country": " "}},
    "aged": {"attributes": {"age": "7"}},
}
PLANTED = [
    Event("tied", "b", "buy", before(days=2)),
    Event("tied", "a", "buy", before(days=2)),
    Event("tied", "c", "buy", before(days=1)),
    Event("tied", "d", "buy", before(days=9)),
    Event("tied", "d", "buy", before(days=3)),
    Event("tied", "e", "buy", before(days=8)),
    Event("tied", "hidden", "block", before(days=1)),
    Event("eve", "unlisted", "buy", before(days=1)),
]
SETS = (
    TYPES_SET,
    "interactions.window_days=60",
    "interactions.half_life_days=11",
    "interactions.max_events_per_user_day=2",
    "features.recent_items=4",
    "features.max_categories=1",
    "segments.attribute=country",
)


def _random_log(rng: random.Random, n_events: int) -> list[Event]:
    # Coarse times, so that there are ties and events on every bound.
    ages = [0.25, 1, 1.25, 6.75, 7, 7.25, 27.75, 28, 28.25, 35, 60, 60.25, 90, 90.25, 300]
    return [
        Event(
            rng.choice(["ann", "bob", "cleo", None]),
            rng.choice(["v", "w", "x", "y", "z"]),
            rng.choice(KINDS),
            before(days=rng.choice(ages)),
            rng.choice([None, 1.0, 2.5, 40.0, float("nan")]),
        )
        for _ in range(n_events)
    ]


def _future_log(rng: random.Random, n_events: int) -> list[Event]:
    """Events of forty days from the date on, and of its first moment one of each role."""
    later = [
        Event(
            rng.choice(["ann", "bob", "new", None]),
            rng.choice(["x", "y", "new"]),
            rng.choice(KINDS),
            CUTOFF + timedelta(hours=rng.randint(0, 40 * 24)),
            rng.choice([None, 5.0]),
        )
        for _ in range(n_events)
    ]
    at_the_date = [
        Event("ann", "x", "buy", CUTOFF),
        Event("bob", "y", "block", CUTOFF),
        Event("ann", "v", "show", CUTOFF),
        Event("new", "new", "buy", CUTOFF),
    ]
    return [*later, *at_the_date]


LOG = [*_random_log(random.Random(60), 250), *PLANTED]

# What the catalogue says from the date on: of items that it knew, with another price and category, and of one more.
FUTURE_SHELF: dict[str, dict] = {
    "v": {"valid_from": CUTOFF, "price": 0.5, "category": "new", "created_at": before(days=3)},
    "x": {"valid_from": CUTOFF + timedelta(hours=5), "price": 1e6, "category": "tea", "created_at": before(days=3)},
    "z": {"valid_from": CUTOFF + timedelta(hours=99), "price": 2.0, "category": "new", "created_at": before(days=3)},
    "brand-new": {"valid_from": CUTOFF, "price": 2.0, "category": "tea", "created_at": before(days=3)},
}

# A weight is stored as a float: seven digits.  What is made of weights alone is compared by them, the rest exactly.
# A mean of prices is a sum of doubles in another order.
_TOLERANCES = {"price_level": 1e-6, "mean_price": 1e-9}

Answer = tuple[dict[str, DataFrame], dict[str, float]]


def _run(spark: SparkSession, config: Config, inputs: dict[str, DataFrame], n_partitions: int) -> Answer:
    """Every table, and the figures, of three steps whose shuffles have so many partitions."""
    context = make_context(spark, config)
    with settings(spark, spark__sql__shuffle__partitions=n_partitions):
        tables = run_steps(inputs, context)
    spark.catalog.clearCache()
    return tables, context.figures


@pytest.fixture(scope="module")
def day(spark: SparkSession) -> Answer:
    """What a log with every case in it becomes, in three partitions."""
    inputs = {
        "events": make_events(spark, LOG).repartition(3),
        "items": make_items(spark, SHELF).repartition(3),
        "users": make_users(spark, USERS),
    }
    return _run(spark, load_config(sets=SETS), inputs, 3)


def _rows(tables: dict[str, DataFrame], name: str, key: str) -> dict[str, dict]:
    return {row[key]: row.asDict() for row in tables[name].collect()}


def _assert_row(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name == "category_affinities":
            assert [one.category for one in found[name]] == [category for category, _ in value]
            assert [one.share for one in found[name]] == pytest.approx([share for _, share in value], rel=1e-6)
        elif name in _TOLERANCES and value is not None:
            assert found[name] == pytest.approx(value, rel=_TOLERANCES[name]), name
        else:
            assert found[name] == value, name


def _assert_oracle(tables: dict[str, DataFrame], log: list[Event], config: Config, segments: dict[str, str]) -> None:
    """Every row of both tables is that of the oracle, and every table keeps its contract."""
    users, items = _rows(tables, "user_features", "user_id"), _rows(tables, "item_features", "item_id")
    assert users.keys() == {event.user_id for event in log} - {None} | USERS.keys()
    assert items.keys() == {event.item_id for event in log} | SHELF.keys()
    for user_id, row in users.items():
        named = {"user_id": user_id, "segment": segments.get(user_id)}
        _assert_row(row, named | oracle_user(user_id, log, config, SHELF))
    for item_id, row in items.items():
        sold = SHELF.get(item_id, {})
        named = {"item_id": item_id, "title": sold.get("title"), "category": sold.get("category")}
        _assert_row(row, named | oracle_item(item_id, log, config, SHELF))
    for name in OUTPUTS:
        table = declared_tables()[name]
        check_schema(tables[name], table, without=("run_id",))
        check_rows(measure_rows(tables[name], table), table, "in a test")


def test_run_matches_the_oracle_on_a_random_log(day: Answer) -> None:
    _assert_oracle(day[0], LOG, load_config(sets=SETS), {"nz": "NZ"})


def test_run_matches_the_oracle_on_a_random_log_when_all_events_count(spark: SparkSession) -> None:
    config = load_config(
        sets=(
            TYPES_SET,
            "interactions.window_days=0",
            "features.recent_items=3",
            "features.max_categories=1",
        )
    )
    log = _random_log(random.Random(0), 250)
    inputs = {"events": make_events(spark, log), "items": make_items(spark, SHELF), "users": make_users(spark, USERS)}
    _assert_oracle(_run(spark, config, inputs, 2)[0], log, config, {})


def test_run_lists_recent_items_newest_first_with_ties_by_id(day: Answer) -> None:
    assert _rows(day[0], "user_features", "user_id")["tied"]["recent_items"] == ["c", "a", "b", "d"]


def test_run_takes_segments_and_titles_from_the_catalogue(day: Answer) -> None:
    users, items = _rows(day[0], "user_features", "user_id"), _rows(day[0], "item_features", "item_id")
    segments = {user_id: users[user_id]["segment"] for user_id in ("nz", "blank", "aged", "newcomer", "eve")}
    assert segments == {"nz": "NZ", "blank": None, "aged": None, "newcomer": None, "eve": None}
    titles = {
        item_id: (items[item_id]["title"], items[item_id]["category"]) for item_id in ("named", "nameless", "unlisted")
    }
    assert titles == {"named": ("Tea", "food"), "nameless": ("Cup", None), "unlisted": (None, None)}


def test_run_is_changed_neither_by_anything_from_the_date_on_nor_by_partitions_and_order(
    spark: SparkSession, day: Answer
) -> None:
    """The catalogue is cut at the date as a run cuts it."""
    config = load_config(sets=SETS)
    log = [*LOG, *_future_log(random.Random(11), 100)]
    catalogue = make_items(spark, dict([*SHELF.items()][::-1])).unionByName(make_items(spark, FUTURE_SHELF))
    inputs = {
        "events": make_events(spark, log[::-1]).repartition(7),
        "items": as_of(catalogue.repartition(7), ITEMS, make_context(spark, config)),
        "users": make_users(spark, dict([*USERS.items()][::-1])),
    }
    tables, figures = _run(spark, config, inputs, 7)
    for name in OUTPUTS:
        assert sorted(map(str, tables[name].collect())) == sorted(map(str, day[0][name].collect())), name
    assert figures == day[1]


@pytest.mark.parametrize(
    ("log", "n_users", "n_items"),
    [
        ([], 0, 0),
        ([Event("ann", "x", "buy", before(days=1))], 1, 1),
        ([Event(None, "x", "buy", before(days=1))], 0, 1),
        ([Event("ann", "x", "block", before(days=1))], 1, 1),
    ],
    ids=["nothing", "one", "anonymous", "disliked"],
)
def test_run_keeps_the_contract_on_the_smallest_logs(
    spark: SparkSession, log: list[Event], n_users: int, n_items: int
) -> None:
    inputs = {"events": make_events(spark, log), "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables, _ = _run(spark, load_config(sets=(TYPES_SET,)), inputs, 1)
    for name, expected in (("user_features", n_users), ("item_features", n_items)):
        table = declared_tables()[name]
        check_schema(tables[name], table, without=("run_id",))
        figures = measure_rows(tables[name], table)
        check_rows(figures, table, "in a test")
        assert figures.n_rows == expected
