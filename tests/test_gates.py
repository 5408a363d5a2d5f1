"""Each gate passes on a good bundle and fails on the fault that it is there for."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.gates import Gate, run_gates
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.spark import spark_schema

DAY = date(2025, 2, 1)
NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
GOOD = [("x", 1, 2.0), ("y", 2, 1.0)]

Lists = dict[str, list[tuple[str, int, float]]]


def _inputs(spark: SparkSession, lists: Lists, active: tuple[str, ...] = ("u0", "u1")) -> dict[str, DataFrame]:
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
        "candidates": frame("candidates", rows),
        "fallback_candidates": frame(
            "fallback_candidates", [{"segment": None, "items": rows[0]["items"] if rows else [], "generated_at": NOW}]
        ),
    }


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(lists: Lists, *sets: str, previous_lists: int | None = None, **kwargs: object) -> dict[str, Gate]:
        context = Context(make_config(*sets), DAY, "20250201-001-9f2c81aa", 1, spark)
        return {gate.name: gate for gate in run_gates(_inputs(spark, lists, **kwargs), context, previous_lists)}

    return run


def test_run_gates_passes_a_good_first_bundle_and_lists_what_it_skipped(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    found = verdicts({"u0": GOOD, "u1": GOOD})
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    assert {gate.name for gate in found.values() if gate.outcome == "skipped"} == {"volume"}
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
    assert {gate.outcome for gate in run_gates(inputs, context, 10)} == {"failed"}
