"""Each gate on embeddings and shards fails on the fault that it is there for."""

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.pipeline.gates.embeddings import drift, item_embeddings, model, shards, user_embeddings
from recsys_spark.pipeline.gates.verdict import Gate, Measured
from tests.index_files import make_shards, unit_vectors
from tests.staged_lists import DAY, RUN_ID, embeddings, staged

SHARD_GATES = {"shards_damaged", "shards_of_other_model", "shards_items"}


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(*sets: str, **kwargs: Any) -> dict[str, Gate]:
        context = Context(make_config("two_tower.dim=2", *sets), DAY, RUN_ID, 1, spark)
        gates = (item_embeddings, user_embeddings) if "user_vectors" in kwargs else (shards,)
        if gates == (shards,) and "item_vectors" in kwargs:
            held = unit_vectors(len(kwargs["item_vectors"]), 2)
            kwargs["shards"] = make_shards(context.config.root, held, 1, "Flat", model_version="m")
        inputs = staged(spark, {}, **kwargs)
        return {gate.name: gate for one in gates for gate in one(inputs, context, Measured())}

    return run


def test_a_run_without_a_model_skips_them_all(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    context = Context(make_config(), DAY, RUN_ID, 1, spark)
    inputs = staged(spark, {})
    gates = (item_embeddings, user_embeddings, model, drift, shards)
    outcomes = {gate.name: gate.outcome for one in gates for gate in one(inputs, context, Measured())}
    assert set(outcomes.values()) == {"skipped"}
    assert len(outcomes) == 3 + 3 + 1 + 1 + 3


UNUSABLE = [[0.0, 0.0], [float("nan"), 1.0], [float("-inf"), 1.0]]
OF_OTHER_SIZE = [0.6, 0.8, 0.0]


def test_embeddings_that_are_wrong_are_refused_whatever_their_norm_says(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    # Of users twice as many; a sound one, one that is too long, and one too short.
    found = verdicts(
        "two_tower.normalize=true",
        item_vectors=[[0.6, 0.8], *UNUSABLE, OF_OTHER_SIZE, [1.002, 0.0]],
        user_vectors=[*UNUSABLE, *UNUSABLE, OF_OTHER_SIZE, OF_OTHER_SIZE, [0.0, 0.998], [0.6, 0.8]],
    )
    failed = {name: one.figure for name, one in found.items() if one.outcome == "failed"}
    expected = {
        "item_embeddings_unusable": len(UNUSABLE),
        "item_embeddings_of_other_size": 1,
        "item_embedding_norms": 0.002,
        "user_embeddings_unusable": 2 * len(UNUSABLE),
        "user_embeddings_of_other_size": 2,
        "user_embedding_norms": 0.002,
    }
    assert failed == {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}  # float32


def test_embeddings_of_any_length_pass_where_they_need_not_have_one(verdicts: Callable[..., dict[str, Gate]]) -> None:
    vectors = {"item_vectors": [[3.0, 4.0], [1e-9, 0.0]], "user_vectors": [[1e18, 1.0]]}
    found = verdicts("two_tower.normalize=false", **vectors)
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    assert found["item_embedding_norms"].outcome == found["user_embedding_norms"].outcome == "skipped"
    assert found["item_embeddings_unusable"].outcome == "passed"


@pytest.mark.parametrize(
    ("least", "cosine", "outcome"),
    [
        (0.9, 0.9, "passed"),
        (0.9, 0.89, "failed"),
        (0.9, -0.95, "failed"),
        (0.9, None, "skipped"),
        (0.0, -1.0, "skipped"),
    ],
)
def test_drift_is_held_against_its_bound_if_there_is_one(
    spark: SparkSession, make_config: Callable[..., Config], least: float, cosine: float | None, outcome: str
) -> None:
    context = Context(make_config(f"audit.min_embedding_cosine={least}"), DAY, RUN_ID, 1, spark)
    (gate,) = drift({}, context, Measured(drift_cosine=cosine))
    assert (gate.outcome, gate.figure) == (outcome, cosine)


def test_model_refuses_embeddings_of_another_one(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    context = Context(make_config(), DAY, RUN_ID, 1, spark)
    inputs = staged(spark, {}, item_vectors=[[1.0, 0.0]])
    (sound,) = model(inputs | {"user_embeddings": embeddings(spark, "user", [[1.0, 0.0]])}, context, Measured())
    (foreign,) = model(inputs | {"user_embeddings": embeddings(spark, "user", [[1.0, 0.0]], "n")}, context, Measured())
    assert (sound.outcome, sound.figure) == ("passed", 0)
    assert (foreign.outcome, foreign.figure) == ("failed", 1)


THREE = [[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]
SIX = [*THREE, *THREE]


def test_shards_that_hold_every_item_of_the_model_pass(verdicts: Callable[..., dict[str, Gate]]) -> None:
    found = verdicts(item_vectors=THREE)
    assert {(found[name].outcome, found[name].figure) for name in SHARD_GATES} == {("passed", 0), ("passed", 3)}


def test_shards_that_are_wrong_are_refused_by_name(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    """Rows 40 and 41 of the fault matrix, at the gate."""
    context = Context(make_config("two_tower.dim=2"), DAY, RUN_ID, 1, spark)
    # Five items in four shards, of six that may be shown.
    rows = make_shards(context.config.root, unit_vectors(5, 2), 4, "Flat", model_version="m")
    rows[0] |= {"sha256": "0" * 64}
    rows[1] |= {"vectors_rel_path": "blobs/none.f32"}
    rows[2] |= {"model_version": "another"}
    found = {gate.name: gate for gate in shards(staged(spark, {}, item_vectors=SIX, shards=rows), context, Measured())}
    assert {name: (gate.outcome, gate.figure) for name, gate in found.items()} == {
        "shards_damaged": ("failed", 2),
        "shards_of_other_model": ("failed", 1),
        "shards_items": ("failed", 5),
    }
    assert found["shards_items"].bound == "6 items"
    assert found["shards_damaged"].detail.startswith("shard 0: blobs/")
    assert "; shard 1: blobs/none.f32: expected" in found["shards_damaged"].detail
    # As many shards of fewer items that may be shown: an index with items of which the bundle knows nothing.
    fewer = staged(spark, {}, item_vectors=SIX[:4], shards=rows)
    too_many = {gate.name: gate for gate in shards(fewer, context, Measured())}["shards_items"]
    assert (too_many.outcome, too_many.figure, too_many.bound) == ("failed", 5, "4 items")
