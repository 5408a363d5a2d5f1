"""A model that is not the trained one is refused before anything is embedded, and no bad vector gets through."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.errors import EXIT_REFUSED, DamagedError
from recsys_spark.numeric.hashing import hashed
from recsys_spark.pipeline.gates.embeddings import item_embeddings, user_embeddings
from recsys_spark.pipeline.gates.verdict import Measured
from recsys_spark.two_tower import step_embed
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import SUFFIX
from recsys_spark.warehouse.blobs import put_blob
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TWO_TOWER_MODELS
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users, run_steps
from tests.kept_rows import kept_tables, no_broadcasts
from tests.local_frame import local_frame
from tests.tower_fits import SETTINGS, SHAPE, make_model, make_weights

BUCKETS = 4096
USERS = TowerInputs((Field("segment", "category"),), BUCKETS)
ITEMS = TowerInputs((Field("brand", "category"),), BUCKETS)
FEATURES = ('two_tower.user_features=["segment"]', 'two_tower.item_features=["brand"]')
SETS = (TYPES_SET, *SETTINGS, *FEATURES, "segments.attribute=country", "two_tower.item_words=[]")
BAD_BRANDS = ["overflows", "cancels out", "is far too long"]


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DataFrame]]:
    """Six users of a country each, and six items of a brand each, three of them of BAD_BRANDS; everybody has two."""
    context = make_context(spark, load_config(sets=(f"storage.root={tmp_path_factory.mktemp('day')}", *SETS)))
    brands = ["fine", *BAD_BRANDS, "good", "sound"]
    countries = ["A", "B", *BAD_BRANDS, "C"]
    log = [Event(f"u{n}", f"i{item}", "buy", before(days=1)) for n in range(6) for item in (0, 4)]
    items = make_items(spark, {f"i{n}": {"brand": brand} for n, brand in enumerate(brands)})
    users = make_users(spark, {f"u{n}": {"attributes": {"country": one}} for n, one in enumerate(countries)})
    with no_broadcasts(spark):
        yield kept_tables(run_steps({"events": make_events(spark, log), "items": items, "users": users}, context))


@pytest.fixture
def world(
    spark: SparkSession, day: dict[str, DataFrame], make_config: Callable[..., Any]
) -> tuple[dict[str, DataFrame], Context]:
    return day, make_context(spark, make_config(*SETS))


def _weights() -> dict[str, np.ndarray]:
    """Finite weights by which BAD_BRANDS, as a brand and as a segment, have no embedding."""
    weights = make_weights(USERS, ITEMS, SHAPE)
    for tower, name in (("user", "segment"), ("item", "brand")):
        for part in ("out", "out_bias", "history"):
            weights[f"{tower}.{part}"] = np.zeros_like(weights[f"{tower}.{part}"])
        weights[f"{tower}.into"] = np.ones_like(weights[f"{tower}.into"])
        overflow, zero, long = hashed(name, BAD_BRANDS, BUCKETS)
        weights[f"{tower}.buckets"][overflow] = 3e38
        weights[f"{tower}.buckets"][zero] = -weights[f"{tower}.bias"]
        weights[f"{tower}.buckets"][long] = [1e30, -1e30, 0, 0]
    return weights


def _model_row(context: Context, rel_path: str, version: str) -> dict[str, DataFrame]:
    rows = [(version, rel_path, 1, "{}")]
    schema = spark_schema(TWO_TOWER_MODELS, without=("run_id",))
    return {"two_tower_models": local_frame(context.spark, rows, schema)}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_model_that_was_altered_swapped_or_lost_is_refused_and_no_payload_runs(
    world: tuple[dict[str, DataFrame], Context], tmp_path: Path
) -> None:
    """Fault row 38."""
    tables, context = world
    canary = tmp_path / "canary"
    blob = put_blob(context.config.root, make_model(None, USERS, ITEMS), SUFFIX)
    stored = context.config.root / blob.rel_path
    whole = stored.read_bytes()
    payload = pickle.dumps(Payload(canary))
    damages: dict[str, Callable[[], object]] = {
        f"expected sha256 {blob.sha256}, got": lambda: _flip(stored),
        f"over {len(payload)} bytes; the file was swapped": lambda: stored.write_bytes(payload),
        "expected a file with sha256": stored.unlink,
    }
    tables = tables | _model_row(context, blob.rel_path, blob.sha256)
    for text, damage in damages.items():
        stored.write_bytes(whole)
        damage()
        with pytest.raises(DamagedError, match=text) as caught:
            step_embed.run(tables, context)
        assert caught.value.exit_code == EXIT_REFUSED
    # A pickle that a row names with its own hash is no model either.
    evil = put_blob(context.config.root, payload, SUFFIX)
    with pytest.raises(DamagedError, match="expected safetensors"):
        step_embed.run(tables | _model_row(context, evil.rel_path, evil.sha256), context)
    other = put_blob(context.config.root, make_model(), SUFFIX)
    with pytest.raises(DamagedError, match="expected the user features segment, got segment, n_events"):
        step_embed.run(tables | _model_row(context, other.rel_path, other.sha256), context)
    assert "n_items_without_embedding" not in context.figures  # nothing was embedded
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()  # it would have run


def test_embeddings_that_are_not_finite_or_zero_fail_the_gate_for_items_and_leave_users_out(
    world: tuple[dict[str, DataFrame], Context],
) -> None:
    """Fault row 39."""
    tables, context = world
    blob = put_blob(context.config.root, make_model(_weights(), USERS, ITEMS), SUFFIX)
    found = step_embed.run(tables | _model_row(context, blob.rel_path, blob.sha256), context)
    assert context.figures["n_users_without_embedding"] == 3
    assert {row.user_id for row in found["user_embeddings"].collect()} == {"u0", "u1", "u5"}
    vectors = np.array([row.vector for row in found["item_embeddings"].collect()])
    assert vectors.shape == (6, SHAPE.dim)
    assert np.isfinite(vectors).all()
    gates = [*item_embeddings(found, context, Measured()), *user_embeddings(found, context, Measured())]
    verdicts = {gate.name: gate for gate in gates}
    assert (verdicts["item_embeddings_unusable"].outcome, verdicts["item_embeddings_unusable"].figure) == ("failed", 3)
    assert verdicts["user_embeddings_unusable"].outcome == "passed"
