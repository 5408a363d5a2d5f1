"""Hindsight over days: what published bundles were worth, and when somebody must look at them.

Owns: the trend and its alarms.  Called by `status`, and by the runner at the end of a run; reads the ledger, no Spark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import fmean

from recsys_spark.run_ledger import latest_runs
from recsys_spark.tables.catalog import RUN_STEPS
from recsys_spark.tables.ledger import read_rows

TRAILING = 7  # bundles before it that a bundle is held against


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
    over_popular_high: float
    gini: float | None
    alarms: tuple[str, ...] = ()


def trend(root: Path) -> list[Hindsight]:
    """One for each date of which the newest run judged anybody, in the order of the dates, with its alarms."""
    days = {row["run_id"]: row["data_date"] for row in latest_runs(root)}
    recorded = sorted(read_rows(root, RUN_STEPS), key=lambda row: row["recorded_at"])
    steps = {row["run_id"]: row["figures"] for row in recorded if row["step"] == "hindsight"}
    of_days = {days[run_id]: (run_id, figures) for run_id, figures in steps.items() if figures.get("n_users")}
    found: list[Hindsight] = []
    for day, (run_id, figures) in sorted(of_days.items()):
        one = Hindsight(
            run_id,
            day,
            int(figures["n_users"]),
            int(figures["k"]),
            figures["recall"],
            figures["recall_low"],
            figures["recall_high"],
            figures["popular"],
            figures["over_popular_high"],
            figures.get("gini"),
        )
        found.append(_alarmed(one, found))
    return found


def alarms_of(root: Path, run_id: str) -> list[str]:
    """What the run's hindsight says that somebody must look at."""
    return [text for one in trend(root) if one.run_id == run_id for text in one.alarms]


def _alarmed(one: Hindsight, earlier: Sequence[Hindsight]) -> Hindsight:
    """Below popularity, or below the mean of the bundles before it, by more than chance."""
    alarms = []
    if one.over_popular_high < 0:
        alarms.append(
            f"the lists that were current before {one.day} found less than the most engaged items: recall@{one.k} "
            f"{one.recall:.4f}, popularity {one.popular:.4f} ({one.n_users} users); see the table quality"
        )
    before = [other.recall for other in earlier[-TRAILING:] if other.k == one.k]
    if len(before) == TRAILING and one.high < fmean(before):
        alarms.append(
            f"the lists that were current before {one.day} found less than those before them: recall@{one.k} "
            f"{one.recall:.4f} (at most {one.high:.4f}), mean of {TRAILING} bundles {fmean(before):.4f}; see the "
            "table quality"
        )
    return replace(one, alarms=tuple(alarms))
