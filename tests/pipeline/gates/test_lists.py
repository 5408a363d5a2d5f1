"""Each gate on lists passes on a good bundle and fails on the fault that it is there for."""

from collections.abc import Callable, Sequence

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.pipeline.gates.lists import coverage, fallback_share, list_form, run_gates, top_item_share, volume
from recsys_spark.pipeline.gates.verdict import Gate, Measured
from tests.staged_lists import DAY, GOOD, RUN_ID, Lists, frame, staged

Gates = Callable[..., list[Gate]]


@pytest.fixture
def verdicts(spark: SparkSession, make_config: Callable[..., Config]) -> Callable[..., dict[str, Gate]]:
    def run(
        gates: Sequence[Gates],
        lists: Lists,
        *sets: str,
        measured: Measured = Measured(),  # noqa: B008
        users: Sequence[str] = ("u0", "u1", "u2"),
    ) -> dict[str, Gate]:
        context = Context(make_config(*sets), DAY, RUN_ID, 1, spark)
        index = frame(spark, "user_index", [{"user_idx": at, "user_id": user} for at, user in enumerate(users)])
        inputs = staged(spark, lists) | {"user_index": index}
        return {gate.name: gate for one in gates for gate in one(inputs, context, measured)}

    return run


def test_run_gates_passes_a_good_first_bundle_and_lists_what_it_skipped(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    gates = (list_form, coverage, volume, top_item_share, fallback_share)
    found = verdicts(gates, {"u0": GOOD, "u1": GOOD})
    assert {gate.name for gate in found.values() if gate.outcome == "failed"} == set()
    assert {gate.name for gate in found.values() if gate.outcome == "skipped"} == {"volume", "fallback_share"}
    assert found["coverage"].figure == 2 / 2


# By the gate that refuses it, and no other.
WRONG_LISTS: dict[str, list[list[tuple[str, int, float]]]] = {
    "lists_with_repeated_items": [[("x", 1, 2.0), ("x", 2, 1.0)]],
    "lists_with_wrong_ranks": [[("x", 1, 2.0), ("y", 3, 1.0)], [("x", 2, 2.0), ("y", 1, 1.0)]],
    "lists_with_wrong_scores": [[("x", 1, 1.0), ("y", 2, 2.0)], [("x", 1, float("nan"))], [("x", 1, float("inf"))]],
    "lists_longer_than_k": [[("x", 1, 3.0), ("y", 2, 2.0), ("z", 3, 1.0)]],
    "unknown_items": [[("not in the index", 1, 1.0)]],
}


def test_list_form_refuses_each_list_that_is_wrong_and_a_user_who_is_not_indexed(
    verdicts: Callable[..., dict[str, Gate]],
) -> None:
    wrong = {f"{gate} {at}": items for gate, lists in WRONG_LISTS.items() for at, items in enumerate(lists)}
    found = verdicts(
        [list_form], {"u0": GOOD} | wrong | {"stranger": GOOD}, "candidates.k=2", users=("u0", "u1", *wrong)
    )
    expected = {gate: ("failed", len(lists)) for gate, lists in WRONG_LISTS.items()} | {"unknown_users": ("failed", 1)}
    assert {name: (gate.outcome, gate.figure) for name, gate in found.items()} == expected


def test_coverage_counts_active_users_without_a_row(verdicts: Callable[..., dict[str, Gate]]) -> None:
    gate = verdicts([coverage], {"u0": GOOD})["coverage"]
    assert (gate.outcome, gate.figure) == ("failed", 1 / 2)
    assert str(gate) == "gate coverage: expected >= 0.99, got 0.5 (2 active users)"


def test_coverage_accepts_an_empty_list(verdicts: Callable[..., dict[str, Gate]]) -> None:
    assert verdicts([coverage], {"u0": GOOD, "u1": []})["coverage"].outcome == "passed"


@pytest.mark.parametrize(
    ("previous", "most", "outcome"),
    [(2, 2.0, "passed"), (4, 2.0, "passed"), (5, 2.0, "failed"), (1, 2.0, "passed"), (1, 1.9, "failed")],
)
def test_volume_is_held_against_the_last_bundle(
    verdicts: Callable[..., dict[str, Gate]], previous: int, most: float, outcome: str
) -> None:
    lists, bound = {"u0": GOOD, "u1": GOOD}, f"audit.max_volume_ratio={most}"
    gate = verdicts([volume], lists, bound, measured=Measured(previous))["volume"]
    assert (gate.outcome, gate.figure) == (outcome, 2 / previous)


def test_top_item_share_is_of_first_places(verdicts: Callable[..., dict[str, Gate]]) -> None:
    gate = verdicts([top_item_share], {"u0": GOOD, "u1": GOOD}, "audit.max_top_item_share=0.9")["top_item_share"]
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
