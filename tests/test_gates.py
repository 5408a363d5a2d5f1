"""Each gate on lists passes on a good bundle and fails on the fault that it is there for."""

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.gate import Gate, Measured
from recsys_spark.gates import coverage, fallback_share, list_form, run_gates, top_item_share, volume
from recsys_spark.steps.context import Context
from tests.staged_lists import DAY, GOOD, RUN_ID, Lists, staged


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(lists: Lists, *sets: str, measured: Measured = Measured(), **kwargs: Any) -> dict[str, Gate]:  # noqa: B008
        context = Context(make_config(*sets), DAY, RUN_ID, 1, spark)
        inputs = staged(spark, lists, **kwargs)
        gates = (list_form, coverage, volume, top_item_share, fallback_share)
        return {gate.name: gate for one in gates for gate in one(inputs, context, measured)}

    return run


def test_run_gates_passes_a_good_first_bundle_and_lists_what_it_skipped(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    found = verdicts({"u0": GOOD, "u1": GOOD})
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    assert {gate.name for gate in found.values() if gate.outcome == "skipped"} == {"volume", "fallback_share"}
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


@pytest.mark.parametrize(("previous", "outcome"), [(2, "passed"), (4, "passed"), (5, "failed"), (1, "failed")])
def test_volume_is_held_against_the_last_bundle(
    verdicts: Callable[..., dict[str, Gate]], previous: int, outcome: str
) -> None:
    gate = verdicts({"u0": GOOD, "u1": GOOD}, "audit.max_volume_ratio=1.9", measured=Measured(previous))["volume"]
    assert (gate.outcome, gate.figure) == (outcome, 2 / previous)


def test_top_item_share_is_of_first_places(verdicts: Callable[..., dict[str, Gate]]) -> None:
    gate = verdicts({"u0": GOOD, "u1": GOOD}, "audit.max_top_item_share=0.9")["top_item_share"]
    assert (gate.outcome, gate.figure) == ("failed", 1.0)


def test_a_gate_that_crashes_has_failed(spark: SparkSession, make_config: Callable[..., Config]) -> None:
    inputs = staged(spark, {"u0": GOOD}) | {"candidates": spark.range(1)}
    context = Context(make_config(), DAY, RUN_ID, 1, spark)
    crashed = [gate for gate in run_gates(inputs, context, Measured(10)) if gate.name == "crashed"]
    assert [gate.outcome for gate in crashed] == ["failed"] * 4  # form, coverage, first places, content


@pytest.mark.parametrize(
    ("share", "outcome"), [(None, "skipped"), (0.5, "passed"), (0.51, "failed")], ids=["no such source", "few", "many"]
)
def test_fallback_share_is_that_of_the_step_blend(
    spark: SparkSession, make_config: Callable[..., Config], share: float | None, outcome: str
) -> None:
    context = Context(make_config("audit.max_fallback_share=0.5"), DAY, RUN_ID, 1, spark)
    (gate,) = fallback_share({}, context, Measured(share_fallback=share))
    assert (gate.outcome, gate.figure) == (outcome, share)
