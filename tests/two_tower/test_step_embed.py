"""The step embeds everybody and everything that is indexed, with the model of the run and with no other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.errors import DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.numeric.hashing import hashed
from recsys_spark.two_tower import step_embed as step
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import SUFFIX, load_model
from recsys_spark.two_tower.kernels.towers import Shape, embed
from recsys_spark.warehouse.blobs import put_blob
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TWO_TOWER_MODELS
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps
from tests.kept_rows import kept_rows, kept_tables, no_broadcasts
from tests.local_frame import local_frame
from tests.tower_fits import ITEMS, SETTINGS, SHAPE, USERS, make_model, make_weights

LOG = [
    Event(user, item, "buy", before(days=days))
    for user, items in {"ann": "xyz", "bob": "yz"}.items()
    for days, item in enumerate(items, 1)
]
SHELF: dict[str, dict[str, Any]] = {
    "x": {"title": "red tea", "price": 2.0},
    "y": {"title": "green tea", "price": 3.0},
    "old": {"title": "no more", "created_at": before(days=300)},
    "new": {"title": "a red cup", "price": 5.0, "created_at": before(days=1)},
}
MODELS = spark_schema(TWO_TOWER_MODELS, without=("run_id",))


World = tuple[dict[str, DataFrame], Context]
Rows = dict[str, dict[str, dict[str, Any]]]


class Found(NamedTuple):
    """What a run gave: the rows of each table by id, and its figures."""

    users: dict[str, dict[str, Any]]
    items: dict[str, dict[str, Any]]
    figures: dict[str, float]


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A day on which `dora` signed up and `new` came in; no model."""
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    day = make_context(spark, load_config(sets=(root, TYPES_SET, "segments.attribute=country")))
    users = {"ann": {"attributes": {"country": "A"}}, "dora": {"attributes": {"country": "B"}}}
    inputs = {"events": make_events(spark, LOG), "items": make_items(spark, SHELF), "users": make_users(spark, users)}
    with no_broadcasts(spark):
        made = kept_tables(run_steps(inputs, day))
        context = make_context(spark, load_config(sets=(root, TYPES_SET, *SETTINGS)))
        yield made | {"two_tower_models": local_frame(spark, [], MODELS)}, context


def _with_towers(world: World, **changes: Any) -> World:
    tables, context = world
    towers = context.config.two_tower.model_copy(update=changes)
    return tables, replace(context, config=context.config.model_copy(update={"two_tower": towers}))


def _with_model(world: World, data: bytes) -> World:
    tables, context = world
    blob = put_blob(context.config.root, data, SUFFIX)
    rows = [(blob.sha256, blob.rel_path, blob.n_bytes, "{}")]
    return tables | {"two_tower_models": local_frame(context.spark, rows, MODELS)}, context


def _run(world: World) -> Found:
    """What a run gives, whose tables keep their contracts."""
    tables, context = world[0], replace(world[1], figures={})
    outputs = step.run(tables, context)
    assert list(outputs) == ["user_embeddings", "item_embeddings"]
    found = []
    for name, frame in outputs.items():
        table = declared_tables()[name]
        found.append({row[table.key[0]]: row.asDict() for row in kept_rows(frame, table)})
    return Found(*found, context.figures)


def test_run_without_a_model_gives_no_embeddings(world: World) -> None:
    assert _run(world) == ({}, {}, {})


@pytest.fixture(scope="module")
def embedded(world: World) -> Found:
    """With a model that started warm, though there is no base run."""
    return _run(_with_model(world, make_model(started_warm=True)))


def test_run_embeds_everybody_and_everything_that_is_indexed(world: World, embedded: Found) -> None:
    model = load_model(make_model(started_warm=True))
    users, items, figures = embedded
    assert set(users) == {"ann", "bob", "dora"}
    assert set(items) == {"x", "y", "z", "old", "new"}
    table = {
        "item_id": ["new", "z"],
        "title": pa.array(["a red cup", None], pa.string()),
        "price": pa.array([5.0, None], pa.float64()),
    }
    expected = embed(model.item, model.item_inputs.encode(pa.table(table)), None, True)
    # float32, and other rows beside them.
    np.testing.assert_allclose([items["new"]["vector"], items["z"]["vector"]], expected, atol=1e-6)
    # Who has only a country has an embedding too, and who has bought has that of their newest items.
    half = 0.5 ** (1 / SHAPE.half_life_items)
    x, y, z = (np.array(items[one]["vector"]) for one in "xyz")
    pooled = [(x + half * y + half**2 * z) / (1 + half + half**2), np.zeros(SHAPE.dim)]
    known = pa.table({"segment": ["A", "B"], "n_events": [3, 0]})
    expected = embed(model.user, model.user_inputs.encode(known), np.array(pooled, np.float32), True)
    np.testing.assert_allclose([users["ann"]["vector"], users["dora"]["vector"]], expected, atol=1e-6)
    index = {row.item_id: row.item_idx for row in world[0]["item_index"].collect()}
    assert {one: row["item_idx"] for one, row in items.items()} == index
    assert {row["model_version"] for row in [*users.values(), *items.values()]} == {model.version}
    assert {one: row["shown"] for one, row in items.items()} == {
        "x": True,
        "y": True,
        "z": True,
        "old": False,
        "new": True,
    }
    assert figures == {
        "n_items": 5.0,
        "n_items_without_embedding": 0.0,
        "n_users": 3.0,
        "n_users_without_embedding": 0.0,
    }


def test_run_leaves_out_users_without_an_embedding_and_keeps_items(world: World) -> None:
    users = TowerInputs((Field("segment", "category"),), 4096)
    items = TowerInputs((Field("title", "category"),), 4096)
    weights = make_weights(users, items, SHAPE)
    weights["user.buckets"][hashed("segment", ["B"], 4096)] = 3e38
    weights["item.buckets"][hashed("title", ["red tea"], 4096)] = 3e38
    asked = _with_towers(world, user_features=["segment"], item_features=["title"], item_words=[])
    found = _run(_with_model(asked, make_model(weights, users, items, SHAPE)))
    # ann's newest item is x, which has none, and they have one all the same.
    assert set(found.users) == {"ann", "bob"}
    assert found.items["x"]["vector"] == [0.0] * SHAPE.dim
    assert {one: row["norm"] > 0 for one, row in found.items.items()} == {
        "x": False,
        "y": True,
        "z": True,
        "old": True,
        "new": True,
    }
    assert found.figures["n_users_without_embedding"] == 1
    assert found.figures["n_items_without_embedding"] == 1
    assert (found.figures["n_users"], found.figures["n_items"]) == (3, 5)


@pytest.mark.parametrize("started_warm", [True, False])
def _base(context: Context, embedded: Found) -> DataFrame:
    """Embeddings of an earlier run: x is where it is now, y at the opposite side, of twice the length; z and new are
    not in both; old has none.
    """
    x, y, old = (np.array(embedded.items[one]["vector"]) for one in ("x", "y", "old"))
    rows = [("x", x.tolist(), 1.0), ("y", (-2 * y).tolist(), 2.0), ("old", old.tolist(), 0.0)]
    return local_frame(context.spark, rows, "item_id string, vector array<float>, norm float")


def test_run_measures_the_drift_from_the_run_that_it_started_from(world: World, embedded: Found) -> None:
    tables, context = _with_model(world, make_model(started_warm=True))
    context = replace(context, figures={})
    step.run(tables | {"base_item_embeddings": _base(context, embedded)}, context)
    assert context.figures["drift_cosine"] == pytest.approx((1 - 1) / 2, abs=1e-6)  # norms are float32


@pytest.mark.parametrize(("same", "expected"), [(["x"], {"drift_cosine": pytest.approx(1, abs=1e-6)}), ([], {})])
def test_drift_is_that_of_items_of_both_runs_and_unknown_where_there_is_none(
    world: World, embedded: Found, same: list[str], expected: dict[str, object]
) -> None:
    context = replace(world[1], figures={})
    rows = [(item_id, row["vector"], row["norm"]) for item_id, row in embedded.items.items()]
    items = local_frame(context.spark, rows, "item_id string, vector array<float>, norm float")
    base = _base(context, embedded)
    step._measure_drift(items, base.where(base.item_id.isin(same)), context)
    assert context.figures == expected


@pytest.fixture(scope="module")
def embedded_cold(world: World, embedded: Found) -> Found:
    """With a model that started cold, though there is a base run, and a feature that no row had."""
    asked = _with_towers(world, item_features=["title", "vectors.text", "price"])
    tables, context = _with_model(asked, make_model(started_warm=False))
    return _run((tables | {"base_item_embeddings": _base(context, embedded)}, context))


def test_run_measures_no_drift_from_a_run_that_it_did_not_start_from(embedded_cold: Found) -> None:
    assert "drift_cosine" not in embedded_cold.figures


def test_run_accepts_a_model_without_a_vector_that_no_row_had(embedded_cold: Found) -> None:
    assert len(embedded_cold.items) == 5


@pytest.mark.parametrize(
    ("users", "items", "shape", "fault"),
    [
        (TowerInputs(USERS.fields[::-1], 32), ITEMS, SHAPE, "expected the user features segment, n_events, got n_ev"),
        (TowerInputs((), 0), ITEMS, SHAPE, "expected the user features segment, n_events, got none"),
        (
            USERS,
            TowerInputs((*ITEMS.fields, Field("brand", "category")), 64, 16),
            SHAPE,
            "expected the item features title, price, got title, price, brand",
        ),
        (
            USERS,
            TowerInputs((ITEMS.fields[0], Field("price", "values"), ITEMS.fields[2]), 64, 16),
            SHAPE,
            "price: expected values as list",
        ),
        (USERS, ITEMS, Shape(5, 3, True, 3, 2.0), r"expected Shape\(dim=4, .* got Shape\(dim=5"),
    ],
)
def test_run_refuses_a_model_of_other_features_or_another_form(
    world: World, users: TowerInputs, items: TowerInputs, shape: Shape, fault: str
) -> None:
    with pytest.raises(DamagedError, match=fault):
        step.run(*_with_model(world, make_model(None, users, items, shape)))
