"""What a gate says in words, and what can be forced."""

import pytest

from recsys_spark.errors import ArgumentError
from recsys_spark.pipeline.gates.verdict import Forced, forced_gates, verdict


def test_a_verdict_names_gate_figure_and_bound() -> None:
    assert str(verdict("coverage", False, 0.5, ">= 0.99", "2 users")) == (
        "gate coverage: expected >= 0.99, got 0.5 (2 users)"
    )
    assert verdict("coverage", True, 1.0, ">= 0.99").outcome == "passed"


def test_forced_gates_have_a_reason() -> None:
    assert forced_gates(["coverage", "volume"], " a sale ") == Forced(frozenset({"coverage", "volume"}), "a sale")
    assert forced_gates([], "") == Forced()


@pytest.mark.parametrize(("gates", "why"), [(["coverage"], ""), (["coverage"], "  "), ([], "a sale")])
def test_forced_gates_refuses_one_without_the_other(gates: list[str], why: str) -> None:
    with pytest.raises(ArgumentError, match=r"--force: expected gates together with --why"):
        forced_gates(gates, why)


def test_a_gate_that_is_forced_lets_no_other_one_pass() -> None:
    gates = [verdict(name, name == "drift", 0.5, ">= 0.9") for name in ("coverage", "volume", "drift")]
    forced = forced_gates(["coverage", "drift"], "a sale")
    assert [gate.name for gate in forced.refused(gates)] == ["volume"]
