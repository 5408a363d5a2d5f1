"""Each gate passes on a good bundle and fails on the fault that it is there for."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.gates import Gate, run_gates
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.spark import spark_schema
from tests.index_files import make_shards, unit_vectors

DAY = date(2025, 2, 1)
NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
GOOD = [("x", 1, 2.0), ("y", 2, 1.0)]
EMBEDDING_GATES = ("s_unusable", "s_of_other_size", "_norms")
SHARD_GATES = {"shards_damaged", "shards_of_other_model", "shards_items"}

Lists = dict[str, list[tuple[str, int, float]]]


def _inputs(
    spark: SparkSession,
    lists: Lists,
    active: tuple[str, ...] = ("u0", "u1"),
    item_vectors: Sequence[list[float]] = (),
    user_vectors: Sequence[list[float]] = (),
    shards: Sequence[dict[str, object]] = (),
) -> dict[str, DataFrame]:
    def frame(name: str, rows: list[dict[str, object]]) -> DataFrame:
        return spark.createDataFrame(rows, spark_schema(TABLES[name], without=("run_id",)))

    users = ["u0", "u1", "u2"]
    rows = [
        {
            "user_id": user,
            "variant": "main",
            "items": [{"item_id": item, "rank": rank, "score": score, "sources": []} for item, rank, score in items],
            "generated_at": NOW,
        }
        for user, items in lists.items()
    ]
    events = [
        {
            "user_idx": users.index(user),
            "item_idx": 0,
            "weight": 1.0,
            "last_time": NOW if user in active else NOW - timedelta(days=400),
            "n_events": 1,
            "excluded_until": None,
        }
        for user in users
    ]
    return {
        "interactions": frame("interactions", events),
        "user_index": frame("user_index", [{"user_idx": at, "user_id": user} for at, user in enumerate(users)]),
        "item_index": frame("item_index", [{"item_idx": at, "item_id": item} for at, item in enumerate("xyz")]),
        "item_embeddings": _embeddings(spark, "item", item_vectors),
        "ann_shards": frame("ann_shards", list(shards)),
        "user_embeddings": _embeddings(spark, "user", user_vectors),
        "candidates": frame("candidates", rows),
        "fallback_candidates": frame(
            "fallback_candidates", [{"segment": None, "items": rows[0]["items"] if rows else [], "generated_at": NOW}]
        ),
    }


def _embeddings(spark: SparkSession, kind: str, vectors: Sequence[list[float]]) -> DataFrame:
    """Rows whose column `norm` says that all is well."""
    rows = [
        {f"{kind}_id": str(at), f"{kind}_idx": at, "vector": vector, "norm": 1.0, "model_version": "m", "shown": True}
        for at, vector in enumerate(vectors)
    ]
    schema = spark_schema(TABLES[f"{kind}_embeddings"], without=("run_id",))
    return spark.createDataFrame([{name: row[name] for name in schema.names} for row in rows], schema)


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(
        lists: Lists,
        *sets: str,
        previous_lists: int | None = None,
        drift_cosine: float | None = None,
        missing_items: int = 0,
        shard: dict[str, object] | None = None,
        **kwargs: Any,
    ) -> dict[str, Gate]:
        context = Context(make_config("two_tower.dim=2", *sets), DAY, "20250201-001-9f2c81aa", 1, spark)
        n_items = len(kwargs.get("item_vectors", ()))
        if n_items:
            held = unit_vectors(n_items - missing_items, 2)
            kwargs["shards"] = make_shards(
                context.config.root, held, 1, "Flat", **{"model_version": "m"} | (shard or {})
            )
        gates = run_gates(_inputs(spark, lists, **kwargs), context, previous_lists, drift_cosine)
        return {gate.name: gate for gate in gates}

    return run


def test_run_gates_passes_a_good_first_bundle_and_lists_what_it_skipped(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    found = verdicts({"u0": GOOD, "u1": GOOD})
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    # No run has to have a model.
    embeddings = {f"{kind}_embedding{name}" for kind in ("item", "user") for name in EMBEDDING_GATES}
    skipped = {gate.name for gate in found.values() if gate.outcome == "skipped"}
    assert skipped == {"volume", "embedding_drift"} | embeddings | SHARD_GATES
    assert found["coverage"].figure == 2 / 2


@pytest.mark.parametrize(
    ("items", "gate"),
    [
        ([("x", 1, 2.0), ("x", 2, 1.0)], "lists_with_repeated_items"),
        ([("x", 1, 2.0), ("y", 3, 1.0)], "lists_with_wrong_ranks"),
        ([("x", 2, 2.0), ("y", 1, 1.0)], "lists_with_wrong_ranks"),
        ([("x", 1, 1.0), ("y", 2, 2.0)], "lists_with_wrong_scores"),
        ([("x", 1, float("nan"))], "lists_with_wrong_scores"),
        ([("x", 1, float("inf"))], "lists_with_wrong_scores"),
        ([("x", 1, 3.0), ("y", 2, 2.0), ("z", 3, 1.0)], "lists_longer_than_k"),
        ([("not in the index", 1, 1.0)], "unknown_items"),
    ],
)
def test_run_gates_refuses_a_list_that_is_wrong(
    verdicts: Callable[..., dict[str, Gate]], items: list[tuple[str, int, float]], gate: str
) -> None:
    found = verdicts({"u0": GOOD, "u1": items}, "candidates.k=2")
    assert [name for name, one in found.items() if one.outcome == "failed"] == [gate]
    assert found[gate].figure == 1


def test_run_gates_refuses_a_list_for_a_user_who_is_not_indexed(verdicts: Callable[..., dict[str, Gate]]) -> None:
    assert verdicts({"u0": GOOD, "u1": GOOD, "stranger": GOOD})["unknown_users"].outcome == "failed"


def test_coverage_counts_active_users_without_a_row(verdicts: Callable[..., dict[str, Gate]]) -> None:
    gate = verdicts({"u0": GOOD})["coverage"]
    assert (gate.outcome, gate.figure) == ("failed", 1 / 2)
    assert str(gate) == "gate coverage: expected >= 0.99, got 0.5 (2 active users)"


def test_coverage_accepts_an_empty_list(verdicts: Callable[..., dict[str, Gate]]) -> None:
    assert verdicts({"u0": GOOD, "u1": []})["coverage"].outcome == "passed"


@pytest.mark.parametrize(("previous", "outcome"), [(2, "passed"), (4, "passed"), (5, "failed"), (1, "passed")])
def test_volume_is_held_against_the_last_bundle(
    verdicts: Callable[..., dict[str, Gate]], previous: int, outcome: str
) -> None:
    gate = verdicts({"u0": GOOD, "u1": GOOD}, previous_lists=previous)["volume"]
    assert (gate.outcome, gate.figure) == (outcome, 2 / previous)


def test_top_item_share_is_of_first_places(verdicts: Callable[..., dict[str, Gate]]) -> None:
    gate = verdicts({"u0": GOOD, "u1": GOOD}, "audit.max_top_item_share=0.9")["top_item_share"]
    assert (gate.outcome, gate.figure) == ("failed", 1.0)


def test_a_gate_that_crashes_has_failed(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    inputs = _inputs(spark, {"u0": GOOD}) | {"candidates": spark.range(1)}
    context = Context(make_config(), DAY, "20250201-001-9f2c81aa", 1, spark)
    outcomes = {gate.name: gate.outcome for gate in run_gates(inputs, context, 10, None)}
    of_lists = {outcome for name, outcome in outcomes.items() if "embedding" not in name and name not in SHARD_GATES}
    assert of_lists == {"failed"}


@pytest.mark.parametrize(
    ("vector", "gate", "figure"),
    [
        ([0.0, 0.0], "s_unusable", 1),
        ([float("nan"), 1.0], "s_unusable", 1),
        ([float("-inf"), 1.0], "s_unusable", 1),
        ([0.6, 0.8, 0.0], "s_of_other_size", 1),
        ([1.002, 0.0], "_norms", 0.002),
        ([0.0, 0.998], "_norms", 0.002),
    ],
)
def test_embeddings_that_are_wrong_are_refused_whatever_their_norm_says(
    verdicts: Callable[..., dict[str, Gate]], vector: list[float], gate: str, figure: float
) -> None:
    vectors = {"item_vectors": [[0.6, 0.8], vector], "user_vectors": [vector, vector, [0.6, 0.8]]}
    found = verdicts({"u0": GOOD, "u1": GOOD}, "two_tower.normalize=true", **vectors)
    failed = {name: one.figure for name, one in found.items() if one.outcome == "failed"}
    twice = figure if gate == "_norms" else 2 * figure
    expected = {f"item_embedding{gate}": figure, f"user_embedding{gate}": twice}
    assert failed == {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}  # float32


def test_embeddings_of_any_length_pass_where_they_need_not_have_one(verdicts: Callable[..., dict[str, Gate]]) -> None:
    vectors = {"item_vectors": [[3.0, 4.0], [1e-9, 0.0]], "user_vectors": [[1e18, 1.0]]}
    found = verdicts({"u0": GOOD, "u1": GOOD}, "two_tower.normalize=false", **vectors)
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    assert found["item_embedding_norms"].outcome == found["user_embedding_norms"].outcome == "skipped"
    assert found["item_embeddings_unusable"].outcome == "passed"


@pytest.mark.parametrize(
    ("least", "cosine", "outcome"),
    [(0.9, 0.9, "passed"), (0.9, 0.89, "failed"), (0.9, None, "skipped"), (0.0, -1.0, "skipped")],
)
def test_embedding_drift_is_held_against_its_bound_if_there_is_one(
    verdicts: Callable[..., dict[str, Gate]], least: float, cosine: float | None, outcome: str
) -> None:
    sets = f"audit.min_embedding_cosine={least}"
    gate = verdicts({"u0": GOOD, "u1": GOOD}, sets, drift_cosine=cosine)["embedding_drift"]
    assert (gate.outcome, gate.figure) == (outcome, cosine)


ITEMS = {"item_vectors": [[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]}


def test_shards_that_hold_every_item_of_the_model_pass(verdicts: Callable[..., dict[str, Gate]]) -> None:
    found = verdicts({"u0": GOOD, "u1": GOOD}, **ITEMS)
    assert {(found[name].outcome, found[name].figure) for name in SHARD_GATES} == {("passed", 0), ("passed", 3)}


@pytest.mark.parametrize(
    ("wrong", "gate", "figure", "detail"),
    [
        ({"missing_items": 1}, "shards_items", 2, ""),
        ({"shard": {"model_version": "another"}}, "shards_of_other_model", 1, ""),
        ({"shard": {"sha256": "0" * 64}}, "shards_damaged", 1, "shard 0: blobs/"),
        ({"shard": {"vectors_rel_path": "blobs/none.f32"}}, "shards_damaged", 1, "shard 0: blobs/none.f32: expected"),
    ],
)
def test_shards_that_are_wrong_are_refused_by_name(
    verdicts: Callable[..., dict[str, Gate]], wrong: dict[str, Any], gate: str, figure: float, detail: str
) -> None:
    """Rows 40 and 41 of the fault matrix, at the gate."""
    found = verdicts({"u0": GOOD, "u1": GOOD}, **ITEMS, **wrong)
    assert [name for name, one in found.items() if one.outcome == "failed"] == [gate]
    assert found[gate].figure == figure
    assert found[gate].detail.startswith(detail)
