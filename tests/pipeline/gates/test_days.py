"""Days without events: what is waited for, what is refused, and what somebody has decided to pass over."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import GateRefused
from recsys_spark.ingest.clock import next_day
from recsys_spark.pipeline.gates.days import check_days, warnings_of
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.run_ledger import RunLedger
from tests.ledgers import find_or_open_run, latest_runs, record_state
from tests.one_event import append_event

FIRST = date(2025, 1, 6)  # a Monday
NOTHING = Forced()


@pytest.fixture
def config_with(root: Path, make_config: Callable[..., Config]) -> Callable[..., Config]:
    def make(days: list[date], *sets: str) -> Config:
        for day in days:
            append_event(root, day)
        return make_config(*sets)

    return make


def week(at: int, closed: tuple[int, ...] = ()) -> list[date]:
    """The days of week `at` but those that are closed, 0 for Monday."""
    return [FIRST + timedelta(weeks=at, days=day) for day in range(7) if day not in closed]


def test_next_day_follows_the_last_event(config_with: Callable[..., Config]) -> None:
    with pytest.raises(GateRefused, match="expected events before the date, got none"):
        next_day(config_with([]))
    assert next_day(config_with([FIRST, FIRST + timedelta(days=2)])) == FIRST + timedelta(days=3)


def test_check_days_warns_of_a_few_days_and_refuses_many(config_with: Callable[..., Config]) -> None:
    config = config_with([FIRST])
    assert warnings_of(check_days(config, RunLedger(config.root), FIRST + timedelta(days=1), NOTHING)) == []
    assert warnings_of(check_days(config, RunLedger(config.root), FIRST + timedelta(days=4), NOTHING)) == [
        f"no events on 3 days before the date (the last were on {FIRST})"
    ]
    with pytest.raises(GateRefused, match=r"gate days_without_events: expected at most 3 days .*, got 4 "):
        check_days(config, RunLedger(config.root), FIRST + timedelta(days=5), NOTHING)
    with pytest.raises(GateRefused, match=f"expected events before {FIRST}, got none"):
        check_days(config, RunLedger(config.root), FIRST, NOTHING)


def test_check_days_refuses_a_day_whose_weekday_always_had_events(config_with: Callable[..., Config]) -> None:
    """Closed on Sundays; the Tuesday of the fifth week is absent."""
    days = [day for at in range(4) for day in week(at, closed=(6,))]
    monday = FIRST + timedelta(weeks=4)
    config = config_with([*days, monday])
    assert [gate.outcome for gate in check_days(config, RunLedger(config.root), monday, NOTHING)] == [
        "passed"
    ] * 3  # after a Sunday
    with pytest.raises(GateRefused, match=r"gate missing_day: expected events on a weekday .* got 1 \(2025-02-04\)"):
        check_days(config, RunLedger(config.root), monday + timedelta(days=2), NOTHING)


def test_check_days_passes_over_what_is_forced_and_says_so(config_with: Callable[..., Config]) -> None:
    config = config_with([day for at in range(4) for day in week(at)])
    gates = check_days(
        config,
        RunLedger(config.root),
        FIRST + timedelta(weeks=4, days=1),
        Forced(frozenset({"missing_day"}), "a holiday"),
    )
    assert [gate.outcome for gate in gates] == ["passed", "failed", "passed"]
    assert warnings_of(gates)[0].startswith("passed over: gate missing_day: expected events on a weekday")


def test_check_days_asks_for_weekdays_only_if_it_is_told_to(config_with: Callable[..., Config]) -> None:
    days = [day for at in range(3) for day in week(at)]
    after = FIRST + timedelta(weeks=3, days=1)
    config = config_with(days)
    gates = check_days(config, RunLedger(config.root), after, NOTHING)
    assert [gate.outcome for gate in gates] == ["passed"] * 3
    config = config_with([], "audit.weekday_weeks=0")
    gates = check_days(config, RunLedger(config.root), after, NOTHING)
    assert [gate.outcome for gate in gates] == ["passed", "skipped", "passed"]
    config = config_with([], "audit.weekday_weeks=3")
    with pytest.raises(GateRefused, match="gate missing_day"):
        check_days(config, RunLedger(config.root), after, NOTHING)


def test_check_days_says_which_dates_have_no_run_and_refuses_them_if_asked(
    config_with: Callable[..., Config],
) -> None:
    config = config_with([FIRST + timedelta(days=at) for at in range(9)])
    run, _ = find_or_open_run(config, FIRST + timedelta(days=2))
    record_state(config.root, next(row for row in latest_runs(config.root) if row["run_id"] == run.run_id), "published")
    day, missed = FIRST + timedelta(days=5), "2025-01-09 to 2025-01-10"
    assert warnings_of(check_days(config, RunLedger(config.root), day, NOTHING)) == [
        f"2 dates before it have no run ({missed}); `recsys-spark backfill` runs them"
    ]
    strict = config_with([], "audit.max_days_without_run=1")
    with pytest.raises(GateRefused, match=rf"gate days_without_run: expected at most 1 .*, got 2 \({missed}\)"):
        check_days(strict, RunLedger(strict.root), day, NOTHING)
    assert check_days(strict, RunLedger(strict.root), FIRST + timedelta(days=4), NOTHING)[-1].outcome == "passed"
