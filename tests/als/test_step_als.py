"""The step fits what was engaged with, and gives factors that keep their contracts."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.als import step_als
from recsys_spark.als.kernels.objective import Ridge
from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.features.declared import declared_tables
from recsys_spark.signals import step_index, step_interactions
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import EVENTS, INTERACTIONS, ITEMS, USERS
from tests.als_oracle import assert_rows_near, solved
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users
from tests.kept_rows import kept_rows, kept_tables, no_broadcasts
from tests.local_frame import local_frame

BOUGHT = {"ann": "xy", "bob": "xyz", "cleo": "yzz", "dora": "x", "gil": "o", "hal": "pq", "ida": "p"}
# `o` is old: nobody had it for 90 days; p and q were had long ago by `hal`, and just now by `ida`.
AGES = {("gil", "o"): {"days": 90}, ("hal", "p"): {"days": 30}, ("hal", "q"): {"days": 15}}
AGES["ida", "p"] = {"seconds": 0.000001}
LOG = [
    *(
        Event(user, item, "buy", before(**AGES.get((user, item), {"days": 1})))
        for user, items in BOUGHT.items()
        for item in items
    ),
    # In the index, without an interaction.
    Event("ann", "w", "block", before(days=1)),
    Event("eve", "v", "show", before(days=1)),
    Event("fay", "w", "show", before(days=1)),
]
SHELF = {name: {"category": "hats" if name in "xw" else "shoes", "tags": ["new"]} for name in "xyzw"}
PEOPLE = {name: {"attributes": {"country": "FR"}} for name in ("ann", "bob", "fay")}
SMALL = (
    TYPES_SET, "als.factors=2", "als.alpha=4.0", "als.regularization=0.03", "als.nu=0.5", "als.half_life_days=0.0",
    "als.iterations=4", "als.tolerance=0.0", "interactions.half_life_days=0.0", "candidates.available_within_days=28",
)  # fmt: skip


class Found(NamedTuple):
    """Rows of users and of items by id, and the figures."""

    users: dict[str, dict[str, Any]]
    items: dict[str, dict[str, Any]]
    figures: dict[str, float]


def _indexed(spark: SparkSession, users: list[str], items: list[str]) -> dict[str, DataFrame]:
    """The tables of a day without an interaction."""
    none = {table.name: local_frame(spark, [], spark_schema(table)) for table in (EVENTS, ITEMS, USERS, INTERACTIONS)}
    user_index = local_frame(spark, enumerate(users), "user_idx int, user_id string")
    return none | {
        "user_index": user_index,
        "item_index": local_frame(spark, enumerate(items), "item_idx int, item_id string"),
    }


@pytest.fixture(scope="module")
def world(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, DataFrame], Callable[..., Context]]]:
    """The tables of LOG, and what makes the context of a run."""
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"

    def make(*sets: str) -> Context:
        return make_context(spark, load_config(sets=(root, *SMALL, *sets)))

    tables = {"events": make_events(spark, LOG), "items": make_items(spark, SHELF), "users": make_users(spark, PEOPLE)}
    with no_broadcasts(spark):
        tables |= step_index.run(tables, make())
        tables |= step_interactions.run(tables, make())
        yield kept_tables(tables), make


def _run(tables: dict[str, DataFrame], context: Context) -> Found:
    """What a run gives, whose tables keep their contracts."""
    outputs = step_als.run(tables, context)
    assert list(outputs) == ["user_factors", "item_factors"]
    found = []
    for name, frame in outputs.items():
        table = declared_tables()[name]
        found.append({row[table.key[0]]: row.asDict() for row in kept_rows(frame, table)})
    context.scratch("als").drop()
    return Found(*found, context.figures)


def _of(rows: dict[str, dict[str, Any]], column: str) -> dict[str, object]:
    return {name: row[column] for name, row in rows.items()}


@pytest.fixture(scope="module")
def found(world) -> Found:
    tables, make = world
    return _run(tables, make())


def test_run_gives_factors_of_everything_that_has_a_weight(world, found: Found) -> None:
    tables, make = world
    users, items, _ = found
    assert _of(users, "n") == {"ann": 2, "bob": 3, "cleo": 2, "dora": 1, "gil": 1, "hal": 2, "ida": 1}
    assert _of(items, "n") == {"x": 3, "y": 3, "z": 2, "o": 1, "p": 2, "q": 1}
    assert _of(users, "weight") == {
        "ann": 2.0, "bob": 3.0, "cleo": 3.0, "dora": 1.0, "gil": 1.0, "hal": 2.0, "ida": 1.0,
    }  # fmt: skip
    assert _of(items, "weight") == {"x": 3.0, "y": 3.0, "z": 3.0, "o": 1.0, "p": 2.0, "q": 1.0}
    idx = {row.user_id: row.user_idx for row in tables["user_index"].collect()}
    assert _of(users, "user_idx") == {user: idx[user] for user in users}
    # Users are their history folded in: those who only block or look count among the columns, at zero.
    n_items, had = tables["item_index"].count(), "xyzopq"
    assert n_items == len("xyzopqwv")
    matrix = np.zeros((len(BOUGHT), n_items), np.float32)
    matrix[:, : len(had)] = [[float(bought.count(item)) for item in had] for bought in BOUGHT.values()]
    y = np.zeros((n_items, 2), np.float32)
    y[: len(had)] = [items[item]["vector"] for item in had]
    settings = make().config.als
    folded = solved(matrix, y, Ridge(settings.alpha, settings.regularization, settings.nu)).X
    # Of the greatest factor: float32, and the items in another order.
    assert_rows_near(np.array([users[user]["vector"] for user in BOUGHT]), folded, 1e-4)


def test_run_says_how_it_was_fitted(found: Found) -> None:
    expected = {
        "n_iterations": 4.0,
        "n_resumed": 0.0,
        "alpha": 4.0,
        "regularization": 0.03,
        "nu": 0.5,
        "unobserved": 1.0,
    }
    assert {name: found.figures[name] for name in expected} == expected
    # That of factors of zero: twelve entries, and alpha times their weights.
    assert 0 < found.figures["objective"] < 12 + 4 * 13


def test_run_tells_what_may_be_shown_and_fits_the_rest_too(found: Found) -> None:
    assert _of(found.items, "shown") == {"o": False, "p": True, "q": True, "x": True, "y": True, "z": True}


@pytest.mark.parametrize(("ridge", "said"), [("auto", "fitted again with 1"), ("1000.0", "or set it to auto")])
def test_a_ridge_that_leaves_nothing_is_weakened_unless_a_person_wrote_it(world, ridge: str, said: str) -> None:
    tables, make = world
    context = make("validation.fallback.als.regularization=1000.0", f"als.regularization={ridge}", "als.iterations=2")
    found = _run(tables, context)
    assert said in context.warnings[-1]
    assert context.warnings[0].startswith("als: regularization 1000 leaves next to nothing of the factors")
    if ridge == "auto":
        assert found.figures["regularization"] < 1000.0
        assert found.figures["explained"] > 1e-3
    else:
        assert found.figures["regularization"] == 1000.0
        assert len(context.warnings) == 1


def test_run_lets_interactions_grow_old(world) -> None:
    tables, make = world
    pairs, _ = step_als._matrix(tables, make("als.half_life_days=15.0"))
    names = tables["user_index"].join(pairs, on="user_idx").join(tables["item_index"], on="item_idx")
    weights = {(row.user_id, row.item_id): row.weight for row in names.collect()}
    assert len(weights) == 12
    old = {pair: weights[pair] for pair in [("hal", "p"), ("hal", "q"), ("ida", "p")]}
    assert old == pytest.approx({("hal", "p"): 0.5**2, ("hal", "q"): 0.5, ("ida", "p"): 1}, rel=1e-6)


@pytest.mark.parametrize(("users", "items"), [([], []), (["ann"], ["x"])], ids=["empty", "nobody-engaged"])
def test_run_of_a_log_without_interactions_has_no_factors(
    spark: SparkSession, make_config, users: list[str], items: list[str]
) -> None:
    found = _run(_indexed(spark, users, items), make_context(spark, make_config(*SMALL)))
    assert (found.users, found.items) == ({}, {})
    assert found.figures["objective"] == 0.0


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

    monkeypatch.setattr(step_als, "fit_factors", noted)
    tables = _indexed(spark, ["ann"], ["w", "x", "z"])
    base = [("x", 70, [1.0, 0.5]), ("z", 71, [0.25, 2.0]), ("gone", 0, [4.0, 4.0])]
    if with_base:
        tables["base_item_factors"] = local_frame(spark, base, "item_id string, item_idx int, vector array<float>")
    context = make_context(spark, make_config(f"als.warm_start={str(warm).lower()}"))
    with pytest.raises(Noted):
        step_als.run(tables, context)
    assert starts == [{1: [1.0, 0.5], 2: [0.25, 2.0]} if known else None]


def test_run_fits_attributes_beside_the_interactions(world) -> None:
    tables, make = world
    context = make(
        'als.item_attributes=["category","tags"]', 'als.user_attributes=["country"]', "als.attribute_weight=2.0"
    )
    pairs, sizes = step_als._matrix(tables, context)
    user_names = {row.user_idx: row.user_id for row in tables["user_index"].collect()}
    item_names = {row.item_idx: row.item_id for row in tables["item_index"].collect()}
    n_users, n_items = len(user_names), len(item_names)
    assert (sizes.n_users, sizes.n_items) == (n_users, n_items)
    assert (sizes.n_user_rows, sizes.n_item_rows) == (n_users + 3, n_items + 1)  # hats, shoes, new; FR
    attributes = {
        (user_names.get(row.user_idx, row.user_idx - n_users), item_names.get(row.item_idx, row.item_idx - n_items)):
        row.weight
        for row in pairs.collect()
        if row.user_idx >= n_users or row.item_idx >= n_items
    }  # fmt: skip
    expected = {(0 if item in "xw" else 1, item) for item in "wxyz"} | {(2, item) for item in "wxyz"}
    expected |= {(user, 0) for user in ("ann", "bob", "fay")}
    assert attributes == dict.fromkeys(expected, 2.0)
    users, items, _ = _run(tables, context)
    assert _of(items, "n") == {"w": 0, "x": 3, "y": 3, "z": 2, "o": 1, "p": 2, "q": 1}
    assert _of(users, "n") == {"ann": 2, "bob": 3, "cleo": 2, "dora": 1, "fay": 0, "gil": 1, "hal": 2, "ida": 1}
    assert (items["w"]["weight"], users["fay"]["weight"]) == (0.0, 0.0)
