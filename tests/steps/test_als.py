"""The step fits what was engaged with, and gives factors that keep their contracts."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.features import declared_tables
from recsys_spark.kernels.als import Ridge
from recsys_spark.steps import als, index, interactions
from recsys_spark.steps.context import Context
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from tests.als_oracle import assert_rows_near, solved
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users

LOG = [
    Event(user, item, "buy", before(days=1))
    for user, items in {"ann": "xy", "bob": "xyz", "cleo": "yzz", "dora": "x"}.items()
    for item in items
]
SMALL = (
    "als.factors=2", "als.alpha=4.0", "als.regularization=0.02", "als.nu=1.0", "als.half_life_days=0.0",
    "als.iterations=4", "als.tolerance=0.0", "interactions.half_life_days=0.0",
)  # fmt: skip


def _tables(
    spark: SparkSession, make_config, log: list[Event], *sets: str, items=None, users=None
) -> tuple[dict[str, DataFrame], Context]:
    context = make_context(spark, make_config(TYPES_SET, *SMALL, *sets))
    catalogues = {"items": make_items(spark, items or {}), "users": make_users(spark, users or {})}
    tables = {"events": make_events(spark, log), **catalogues}
    tables |= index.run(tables, context)
    tables |= interactions.run(tables, context)
    context.figures.clear()
    return tables, context


def _run(tables: dict[str, DataFrame], context: Context) -> tuple[dict[str, dict], dict[str, dict]]:
    """Rows of users and of items by id."""
    outputs = als.run(tables, context)
    assert list(outputs) == ["user_factors", "item_factors"]
    for name, frame in outputs.items():
        table = declared_tables()[name]
        check_schema(frame.persist(), table, without=("run_id",))
        check_rows(measure_rows(frame, table), table, "in a test")
    users = {row.user_id: row.asDict() for row in outputs["user_factors"].collect()}
    items = {row.item_id: row.asDict() for row in outputs["item_factors"].collect()}
    context.scratch("als").drop()
    return users, items


def _of(rows: dict[str, dict], column: str) -> dict[str, object]:
    return {name: row[column] for name, row in rows.items()}


def _matrix(ids: str, log: dict[str, str]) -> np.ndarray:
    return np.array([[float(items.count(item)) for item in ids] for items in log.values()], np.float32)


def test_run_gives_factors_of_everything_that_has_a_weight(spark: SparkSession, make_config) -> None:
    log = [*LOG, Event("ann", "w", "block", before(days=1)), Event("eve", "v", "show", before(days=1))]
    tables, context = _tables(spark, make_config, log)
    users, items = _run(tables, context)
    assert _of(users, "n") == {"ann": 2, "bob": 3, "cleo": 2, "dora": 1}
    assert _of(items, "n") == {"x": 3, "y": 3, "z": 2}
    assert _of(users, "weight") == {"ann": 2.0, "bob": 3.0, "cleo": 3.0, "dora": 1.0}
    assert _of(items, "weight") == {"x": 3.0, "y": 3.0, "z": 3.0}
    assert set(_of(items, "shown").values()) == {True}
    index = {row.user_id: row.user_idx for row in tables["user_index"].collect()}
    assert _of(users, "user_idx") == {user: index[user] for user in users}
    # Users are their history folded in: those who only block or look count among the columns, at zero.
    matrix = _matrix("xyz", {"ann": "xy", "bob": "xyz", "cleo": "yzz", "dora": "x"})
    n_items = tables["item_index"].count()
    y = np.zeros((n_items, 2), np.float32)
    y[:3] = [items[item]["vector"] for item in "xyz"]
    matrix = np.pad(matrix, ((0, 0), (0, n_items - 3)))
    settings = context.config.als
    folded = solved(matrix, y, Ridge(settings.alpha, settings.regularization, settings.nu)).X
    # Of the greatest factor: float32, and the items in another order.
    assert_rows_near(np.array([users[user]["vector"] for user in ("ann", "bob", "cleo", "dora")]), folded, 1e-4)


def test_run_says_how_it_was_fitted(spark: SparkSession, make_config) -> None:
    tables, context = _tables(spark, make_config, LOG, "als.nu=0.5", "als.regularization=0.03")
    _run(tables, context)
    objective = context.figures["objective"]
    expected = {
        "n_iterations": 4.0,
        "n_resumed": 0.0,
        "alpha": 4.0,
        "regularization": 0.03,
        "nu": 0.5,
        "unobserved": 1.0,
    }
    assert {name: context.figures[name] for name in expected} == expected
    assert 0 < objective < 8 + 4 * 9  # that of factors of zero: eight entries, and alpha times their weights


def test_run_tells_what_may_be_shown_and_fits_the_rest_too(spark: SparkSession, make_config) -> None:
    log = [*LOG, Event("ann", "old", "buy", before(days=90))]
    tables, context = _tables(spark, make_config, log, "candidates.available_within_days=28")
    assert _of(_run(tables, context)[1], "shown") == {"old": False, "x": True, "y": True, "z": True}


def test_run_lets_interactions_grow_old(spark: SparkSession, make_config) -> None:
    log = [Event("ann", "x", "buy", before(days=30)), Event("ann", "y", "buy", before(days=15))]
    log += [Event("bob", "x", "buy", before(days=0, seconds=0.000001))]
    tables, context = _tables(spark, make_config, log, "als.half_life_days=15.0")
    users, items = _run(tables, context)
    assert users["ann"]["weight"] == pytest.approx(0.5**2 + 0.5, rel=1e-6)
    assert items["x"]["weight"] == pytest.approx(0.5**2 + 1, rel=1e-6)
    assert _of(users, "n") == {"ann": 2, "bob": 1}


@pytest.mark.parametrize("log", [[], [Event("ann", "x", "show", before(days=1))]], ids=["empty", "nobody-engaged"])
def test_run_of_a_log_without_interactions_has_no_factors(spark: SparkSession, make_config, log: list[Event]) -> None:
    tables, context = _tables(spark, make_config, log)
    assert _run(tables, context) == ({}, {})
    assert context.figures["objective"] == 0.0


class Noted(Exception):  # noqa: N818 - what a test waits for
    """A fit was asked for."""


@pytest.mark.parametrize(
    ("warm", "with_base", "known"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_run_starts_from_the_base_run_if_there_is_one_and_it_is_told_to(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch, warm: bool, with_base: bool, known: bool
) -> None:
    starts = []

    def noted(pairs, sizes, settings, seed, scratch, start):
        starts.append(None if start is None else {row.item_idx: row.vector for row in start.collect()})
        raise Noted

    monkeypatch.setattr(als, "fit_factors", noted)
    ids = spark.createDataFrame([(0, "w"), (1, "x"), (2, "z")], "item_idx int, item_id string")
    empty = spark.createDataFrame([], "user_idx int, item_idx int, weight float, last_time timestamp")
    tables = {"user_index": spark.createDataFrame([(0, "ann")], "user_idx int, user_id string"), "item_index": ids}
    base = [("x", 70, [1.0, 0.5]), ("z", 71, [0.25, 2.0]), ("gone", 0, [4.0, 4.0])]
    if with_base:
        tables["base_item_factors"] = spark.createDataFrame(base, "item_id string, item_idx int, vector array<float>")
    context = make_context(spark, make_config(f"als.warm_start={str(warm).lower()}"))
    with pytest.raises(Noted):
        als.run(tables | {"interactions": empty}, context)
    assert starts == [{1: [1.0, 0.5], 2: [0.25, 2.0]} if known else None]


def test_run_fits_attributes_beside_the_interactions(spark: SparkSession, make_config) -> None:
    items = {name: {"category": "hats" if name in "xw" else "shoes", "tags": ["new"]} for name in "xyzw"}
    users = {name: {"attributes": {"country": "FR"}} for name in ("ann", "bob", "fay")}
    log = [*LOG, Event("fay", "w", "show", before(days=1))]  # in the index, without an interaction
    sets = ('als.item_attributes=["category","tags"]', 'als.user_attributes=["country"]', "als.attribute_weight=2.0")
    tables, context = _tables(spark, make_config, log, *sets, items=items, users=users)
    pairs, sizes = als._matrix(tables, context)
    n_users, n_items = tables["user_index"].count(), tables["item_index"].count()
    assert (sizes.n_users, sizes.n_items) == (n_users, n_items)
    assert (sizes.n_user_rows, sizes.n_item_rows) == (n_users + 3, n_items + 1)  # hats, shoes, new; FR
    user_names = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    item_names = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    attributes = {
        (user_names.get(row.user_idx, row.user_idx - n_users), item_names.get(row.item_idx, row.item_idx - n_items)):
        row.weight
        for row in pairs.collect()
        if row.user_idx >= n_users or row.item_idx >= n_items
    }  # fmt: skip
    expected = {(0 if item in "xw" else 1, item) for item in "wxyz"} | {(2, item) for item in "wxyz"}
    expected |= {(user, 0) for user in ("ann", "bob", "fay")}
    assert attributes == dict.fromkeys(expected, 2.0)
    found_users, found_items = _run(tables, context)
    assert _of(found_items, "n") == {"w": 0, "x": 3, "y": 3, "z": 2}
    assert _of(found_users, "n") == {"ann": 2, "bob": 3, "cleo": 2, "dora": 1, "fay": 0}
    assert (found_items["w"]["weight"], found_users["fay"]["weight"]) == (0.0, 0.0)
