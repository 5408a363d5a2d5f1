"""Verdict of a gate, and the gates that an operator has decided to pass over.

Owns: the verdict of one gate and its text.  Made by the modules of gates, recorded by the audit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from recsys_spark.errors import ArgumentError


@dataclass(frozen=True)
class Gate:
    """One verdict.  outcome: passed, failed or skipped; figure: what was measured, None if nothing was."""

    name: str
    outcome: str
    figure: float | None
    bound: str
    detail: str = ""

    def __str__(self) -> str:
        text = f"gate {self.name}: expected {self.bound}, got {self.figure}"
        return f"{text} ({self.detail})" if self.detail else text


@dataclass(frozen=True)
class Measured:
    """Figures that the run measured before its audit, None where it did not.

    previous_lists: lists in the newest bundle of an earlier date.  drift_cosine, share_fallback: figures of the steps
    `embed` and `blend`.
    """

    previous_lists: int | None = None
    drift_cosine: float | None = None
    share_fallback: float | None = None


@dataclass(frozen=True)
class Forced:
    """Gates that may fail without a refusal, by name, and why; the audit records both."""

    gates: frozenset[str] = frozenset()
    why: str = ""

    def refused(self, gates: Iterable[Gate]) -> list[Gate]:
        """Those of `gates` that failed and are not forced."""
        return [gate for gate in gates if gate.outcome == "failed" and gate.name not in self.gates]


def verdict(name: str, passed: bool, figure: float | None, bound: str, detail: str = "") -> Gate:
    """The verdict of a gate whose figure was compared with its bound."""
    return Gate(name, "passed" if passed else "failed", figure, bound, detail)


def forced_gates(gates: list[str], why: str) -> Forced:
    """What --force and --why say; ArgumentError if one is given without the other."""
    if bool(gates) != bool(why.strip()):
        raise ArgumentError(
            f"--force: expected gates together with --why, got {', '.join(gates) or 'none'} and {why[:80]!r}; say "
            "which gates of `recsys-spark status` may fail and why, it is recorded in audits"
        )
    return Forced(frozenset(gates), why.strip())
