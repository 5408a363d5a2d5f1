"""Trend of hindsight: metrics of the published bundles over the dates, and alarms that an operator must look at.

Owns: the trend and its alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import fmean

from recsys_spark.pipeline.run_ledger import RunLedger

TRAILING = 7  # earlier bundles that a bundle is compared with


@dataclass(frozen=True)
class Hindsight:
    """What a run's step `hindsight` measured, all at the same k, with 95 % bounds; alarms: what is wrong, in words."""

    run_id: str
    day: date
    n_users: int
    k: int
    recall: float
    low: float
    high: float
    popular: float
    window_days: int
    over_popular_high: float
    gini: float | None
    alarms: tuple[str, ...] = ()


def trend(ledger: RunLedger) -> list[Hindsight]:
    """One for each bundle that was judged, by the last date that judged it, in the order of the dates, with its alarms.

    A bundle that stays current for several dates is judged on each of them, and counts once.
    """
    days = {row["run_id"]: row["data_date"] for row in ledger.runs()}
    steps = {row["run_id"]: row["figures"] for row in ledger.step_rows if row["step"] == "hindsight"}
    judged = sorted((run_id for run_id, figures in steps.items() if figures.get("n_users")), key=days.__getitem__)
    last = {steps[run_id]["against_publish_seq"]: run_id for run_id in judged}
    found: list[Hindsight] = []
    for run_id in (run_id for run_id in judged if run_id in last.values()):
        figures = steps[run_id]
        one = Hindsight(
            run_id,
            days[run_id],
            int(figures["n_users"]),
            int(figures["k"]),
            figures["recall"],
            figures["recall_low"],
            figures["recall_high"],
            figures["popular"],
            int(figures["window_days"]),
            figures["over_popular_high"],
            figures.get("gini"),
        )
        found.append(_alarmed(one, found))
    return found


def alarms_of(ledger: RunLedger, run_id: str) -> list[str]:
    """The alarms of the run's hindsight."""
    return [text for one in trend(ledger) if one.run_id == run_id for text in one.alarms]


def _alarmed(one: Hindsight, earlier: Sequence[Hindsight]) -> Hindsight:
    """Below popularity, or below the mean of the bundles before it, by more than chance."""
    alarms = []
    if one.over_popular_high < 0:
        alarms.append(
            f"the lists that were current before {one.day} found less than the most engaged items: recall@{one.k} "
            f"{one.recall:.4f}, popularity {one.popular:.4f} ({one.n_users} users); see the table quality"
        )
    # In a longer window users do more, and the same list finds a smaller share of it.
    alike = [other.recall for other in earlier if (other.k, other.window_days) == (one.k, one.window_days)]
    before = alike[-TRAILING:]
    if len(before) == TRAILING and one.high < fmean(before):
        alarms.append(
            f"the lists that were current before {one.day} found less than those before them: recall@{one.k} "
            f"{one.recall:.4f} (at most {one.high:.4f}), mean of {TRAILING} bundles {fmean(before):.4f}; see the "
            "table quality"
        )
    return replace(one, alarms=tuple(alarms))
