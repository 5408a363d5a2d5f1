"""Index, interactions and features together: against the oracle, point-in-time, for every partitioning, when empty."""

import random
from datetime import timedelta

import pytest
from chispa import assert_df_equality
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.features import declared_tables
from recsys_spark.inputs import as_of
from recsys_spark.tables.catalog import ITEMS
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
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
}


def _inputs(spark: SparkSession, events: DataFrame, items: dict | None = None, users: dict | None = None) -> dict:
    return {"events": events, "items": make_items(spark, items or {}), "users": make_users(spark, users or {})}


def _rows(tables: dict[str, DataFrame], name: str, key: str) -> dict[str, dict]:
    return {row[key]: row.asDict() for row in tables[name].collect()}


def _random_log(rng: random.Random, n_events: int, newest_days: float = 0.0) -> list[Event]:
    # Coarse times, so that there are ties and events on every bound.
    ages = [
        newest_days + age for age in (0.25, 1, 1.25, 6.75, 7, 7.25, 27.75, 28, 28.25, 35, 60, 60.25, 90, 90.25, 300)
    ]
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


# A weight is stored as a float: seven digits.  What is made of weights alone is compared by them, the rest exactly.
# A mean of prices is a sum of doubles in another order.
_TOLERANCES = {"price_level": 1e-6, "mean_price": 1e-9}


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


@pytest.mark.parametrize(("window_days", "n_events"), [(60, 250), (0, 250)])
def test_run_matches_the_oracle_on_a_random_log(
    spark: SparkSession, make_config, window_days: int, n_events: int
) -> None:
    config = make_config(
        TYPES_SET, f"interactions.window_days={window_days}", "features.recent_items=3", "features.max_categories=1"
    )
    log = _random_log(random.Random(window_days), n_events)
    tables = run_steps(_inputs(spark, make_events(spark, log), SHELF, {"newcomer": {}}), make_context(spark, config))
    tables |= {name: tables[name].persist() for name in ("user_features", "item_features")}
    users, items = _rows(tables, "user_features", "user_id"), _rows(tables, "item_features", "item_id")
    assert users.keys() == {event.user_id for event in log} - {None} | {"newcomer"}
    assert items.keys() == SHELF.keys()
    for user_id, row in users.items():
        _assert_row(row, {"user_id": user_id, "segment": None, **oracle_user(user_id, log, config, SHELF)})
    for item_id, row in items.items():
        named = {"item_id": item_id, "title": None, "category": SHELF[item_id].get("category")}
        _assert_row(row, named | oracle_item(item_id, log, config, SHELF))
    for name in OUTPUTS:
        table = declared_tables()[name]
        check_schema(tables[name], table, without=("run_id",))
        check_rows(measure_rows(tables[name], table), table, "in a test")


def test_run_lists_recent_items_newest_first_with_ties_by_id(spark: SparkSession, make_config) -> None:
    log = [
        Event("ann", "b", "buy", before(days=2)),
        Event("ann", "a", "buy", before(days=2)),
        Event("ann", "c", "buy", before(days=1)),
        Event("ann", "d", "buy", before(days=9)),
        Event("ann", "d", "buy", before(days=3)),
        Event("ann", "e", "buy", before(days=8)),
        Event("ann", "hidden", "block", before(days=1)),
    ]
    context = make_context(spark, make_config(TYPES_SET, "features.recent_items=4"))
    tables = run_steps(_inputs(spark, make_events(spark, log)), context)
    assert _rows(tables, "user_features", "user_id")["ann"]["recent_items"] == ["c", "a", "b", "d"]


def test_run_takes_segments_and_titles_from_the_catalogue(spark: SparkSession, make_config) -> None:
    users = {
        "ann": {"attributes": {"country": "NZ"}},
        "bob": {"attributes": {"country": " "}},
        "cleo": {"attributes": {"age": "7"}},
        "dora": {},
    }
    items = {"x": {"title": "Tea", "category": "food"}, "y": {"title": "Cup"}}
    inputs = _inputs(spark, make_events(spark, [Event("eve", "z", "buy", before(days=1))]), items, users)
    tables = run_steps(inputs, make_context(spark, make_config(TYPES_SET, "segments.attribute=country")))
    segments = {user_id: row["segment"] for user_id, row in _rows(tables, "user_features", "user_id").items()}
    assert segments == {"ann": "NZ", "bob": None, "cleo": None, "dora": None, "eve": None}
    titles = {
        item_id: (row["title"], row["category"]) for item_id, row in _rows(tables, "item_features", "item_id").items()
    }
    assert titles == {"x": ("Tea", "food"), "y": ("Cup", None), "z": (None, None)}


_EVENTS = st.builds(
    Event,
    st.sampled_from(["ann", "bob", "new", None]),
    st.sampled_from(["x", "y", "new"]),
    st.sampled_from(KINDS),
    st.integers(0, 40 * 24).map(lambda hours: CUTOFF + timedelta(hours=hours)),
    st.sampled_from([None, 5.0]),
)


_PAST = _random_log(random.Random(11), 60)


def _answers(
    spark: SparkSession, make_config, log: list[Event], future_items: dict[str, dict]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Every row of every output as text, and the figures; the catalogue is cut at the date as a run cuts it."""
    context = make_context(spark, make_config(TYPES_SET, "interactions.max_events_per_user_day=2"))
    with settings(spark, spark__sql__shuffle__partitions=1):  # the quickest for so few rows
        inputs = _inputs(spark, make_events(spark, log))
        catalogue = make_items(spark, SHELF).unionByName(make_items(spark, future_items))
        tables = run_steps(inputs | {"items": as_of(catalogue, ITEMS, context)}, context)
        rows = {name: sorted(map(str, tables[name].collect())) for name in OUTPUTS}
    spark.catalog.clearCache()
    return rows, context.figures


@pytest.fixture
def past_alone(spark: SparkSession, make_config) -> tuple[dict[str, list[str]], dict[str, float]]:
    return _answers(spark, make_config, _PAST, {})


_FUTURE_ROWS = st.fixed_dictionaries(
    {
        "valid_from": st.integers(0, 99).map(lambda hours: CUTOFF + timedelta(hours=hours)),
        "price": st.sampled_from([0.5, 2.0, 1e6]),
        "category": st.sampled_from(["tea", "new"]),
        "created_at": st.just(before(days=3)),
    }
)


# Every example runs three steps; the fixtures do not change between examples.
@budget(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    future=st.lists(_EVENTS, min_size=5, max_size=40),
    items=st.dictionaries(st.sampled_from(["v", "x", "z", "brand-new"]), _FUTURE_ROWS, min_size=2),
)
def test_run_is_not_changed_by_anything_at_or_after_the_date(
    spark: SparkSession, make_config, past_alone: tuple, future: list[Event], items: dict[str, dict]
) -> None:
    at_the_date = [
        Event("ann", "x", "buy", CUTOFF),
        Event("bob", "y", "block", CUTOFF),
        Event("ann", "v", "show", CUTOFF),
        Event("new", "new", "buy", CUTOFF),
    ]
    assert _answers(spark, make_config, [*_PAST, *future, *at_the_date], items) == past_alone


def test_run_gives_the_same_rows_for_every_partitioning_and_order(spark: SparkSession, make_config) -> None:
    config = make_config(TYPES_SET, "interactions.half_life_days=11")
    log = _random_log(random.Random(3), 300)
    answers = []
    for n_partitions, order in ((3, 1), (7, -1)):
        coalesce = {"spark__sql__adaptive__coalescePartitions__enabled": "false"}
        with settings(spark, spark__sql__shuffle__partitions=n_partitions, **coalesce):
            events = make_events(spark, log[::order]).repartition(n_partitions)
            shelf = make_items(spark, dict(list(SHELF.items())[::order])).repartition(n_partitions)
            inputs = _inputs(spark, events) | {"items": shelf}
            tables = run_steps(inputs, make_context(spark, config))
            answers.append({name: tables[name].localCheckpoint() for name in ("user_features", "item_features")})
    for name, key in (("user_features", "user_id"), ("item_features", "item_id")):
        assert_df_equality(answers[0][name].orderBy(key), answers[1][name].orderBy(key), ignore_nullable=True)


@pytest.mark.parametrize(
    ("log", "n_users", "n_items"),
    [
        ([], 0, 0),
        ([Event("ann", "x", "buy", before(days=1))], 1, 1),
        ([Event(None, "x", "buy", before(days=1))], 0, 1),
        ([Event("ann", "x", "block", before(days=1))], 1, 1),
    ],
)
def test_run_keeps_the_contract_on_the_smallest_logs(
    spark: SparkSession, make_config, log: list[Event], n_users: int, n_items: int
) -> None:
    tables = run_steps(_inputs(spark, make_events(spark, log)), make_context(spark, make_config(TYPES_SET)))
    for name, expected in (("user_features", n_users), ("item_features", n_items)):
        table = declared_tables()[name]
        check_schema(tables[name], table, without=("run_id",))
        figures = measure_rows(tables[name], table)
        check_rows(figures, table, "in a test")
        assert figures.n_rows == expected
