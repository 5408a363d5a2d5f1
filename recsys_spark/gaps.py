"""Dates without a run: days on which the pipeline was paused, or failed and was not run again.

Owns: which they are, and how they are said.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from recsys_spark.run_ledger import COMPLETED, latest_runs
from recsys_spark.warehouse.location import Location


def completed_dates(root: Location) -> list[date]:
    """The dates that have a completed run, ascending."""
    return sorted({row["data_date"] for row in latest_runs(root) if row["state"] in COMPLETED})


def dates_without_run(root: Location, first: date | None = None, last: date | None = None) -> list[date]:
    """Dates from `first` to `last`, both inclusive, without a completed run; by default between those that have one."""
    done = completed_dates(root)
    if not done and (first is None or last is None):
        return []
    known = set(done)
    start, end = first or done[0], last or done[-1]
    return [day for day in days_between(start, end) if day not in known]


def dates_passed_over(root: Location, day: date) -> list[date]:
    """The dates without a run between the newest completed date before `day` and `day`."""
    before = [one for one in completed_dates(root) if one < day]
    return days_between(before[-1] + timedelta(days=1), day - timedelta(days=1)) if before else []


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both inclusive."""
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


def gap_text(days: Sequence[date]) -> str:
    """Days as ranges, `2025-01-03, 2025-01-05 to 2025-01-08`."""
    ranges: list[list[date]] = []
    for day in days:
        if ranges and day == ranges[-1][-1] + timedelta(days=1):
            ranges[-1][1:] = [day]
        else:
            ranges.append([day])
    return ", ".join(" to ".join(map(str, one)) for one in ranges)
