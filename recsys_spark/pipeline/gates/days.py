"""Gates on the days before a date: do they all have events, and completed runs?

Owns: the gates on days without events, and the dates without a run: days on which the pipeline was paused, or failed
and was not run again.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from recsys_spark.config.schema import Config
from recsys_spark.errors import GateRefused
from recsys_spark.pipeline.gates.verdict import Forced, Gate, verdict
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.warehouse.run_files import days_with_rows

_REMEDY = (
    "ingest the missing logs, give another --date, change [audit], or pass over a gate with --force GATE --why TEXT"
)


def dates_without_run(ledger: RunLedger, first: date | None = None, last: date | None = None) -> list[date]:
    """Dates from `first` to `last`, both inclusive, without a completed run; by default between those that have one."""
    done = ledger.completed_dates()
    if not done and (first is None or last is None):
        return []
    known = set(done)
    start, end = first or done[0], last or done[-1]
    return [day for day in days_between(start, end) if day not in known]


def dates_passed_over(ledger: RunLedger, day: date) -> list[date]:
    """The dates without a run between the newest completed date before `day` and `day`."""
    before = [one for one in ledger.completed_dates() if one < day]
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


def check_days(config: Config, ledger: RunLedger, day: date, forced: Forced) -> list[Gate]:
    """The verdicts on the days before `day`; raises GateRefused if one failed that is not forced.

    Many days in a row without events are refused, and so is a single one whose weekday has always had events: a shop
    that is closed on Saturdays has no events on Saturdays.  Where events have no times, no day is without any.
    """
    days = [known for known in days_with_rows(config.root, "events") if known < day]
    if not days:
        raise GateRefused(f"events: expected events before {day}, got none; ingest them, or give a later --date")
    n_empty = (day - days[-1]).days - 1 if config.events.is_timed else 0
    empty = [days[-1] + timedelta(days=at) for at in range(1, n_empty + 1)]
    bound = config.audit.max_days_without_events
    in_a_row = f"at most {bound} days without events before {day}"
    gates = [verdict("days_without_events", len(empty) <= bound, len(empty), in_a_row, f"the last were on {days[-1]}")]
    gates.append(_usual_days(empty, frozenset(days), config.audit.weekday_weeks))
    missed, most = dates_passed_over(ledger, day), config.audit.max_days_without_run
    at_most = f"at most {most} dates without a run before {day}"
    gates.append(verdict("days_without_run", len(missed) <= most, len(missed), at_most, gap_text(missed)))
    if refused := forced.refused(gates):
        raise GateRefused("events: " + "\n".join(map(str, refused)) + f"\n{_REMEDY}")
    return gates


def warnings_of(gates: list[Gate]) -> list[str]:
    """Warnings of a run that goes on in spite of the days before it."""
    found = [f"passed over: {gate}" for gate in gates if gate.outcome == "failed"]
    by_name = {gate.name: gate for gate in gates}
    empty, missed = by_name["days_without_events"], by_name["days_without_run"]
    if empty.figure:
        found.append(f"no events on {empty.figure:g} days before the date ({empty.detail})")
    if missed.figure:
        found.append(
            f"{missed.figure:g} dates before it have no run ({missed.detail}); `recsys-spark backfill` runs them"
        )
    return found


def _usual_days(empty: list[date], days: frozenset[date], n_weeks: int) -> Gate:
    """Is any of the empty days one whose weekday had events in each of the weeks before?"""
    bound = f"events on a weekday that had some in each of the {n_weeks} weeks before"
    if not n_weeks:
        return Gate("missing_day", "skipped", None, bound, "not asked for")
    weeks = [timedelta(weeks=at) for at in range(1, n_weeks + 1)]
    missing = [day for day in empty if all(day - week in days for week in weeks)]
    return verdict("missing_day", not missing, len(missing), bound, ", ".join(map(str, missing)))
