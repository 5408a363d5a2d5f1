"""Dates in their order, whatever becomes of one; what a run of a date does is in test_runner."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.cli import backfill as module
from recsys_spark.cli.backfill import backfill, dates_to_run
from recsys_spark.cli.console import Console
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, GateRefused, LockedError
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.runner import RunReport
from tests.ledgers import find_or_open_run, latest_runs, record_state

FIRST = date(2025, 1, 1)


def days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in numbers]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[date]]:
    """Stands in for `run_day`: completes a date, or raises what it is told; called, it returns the dates so far."""
    seen: list[date] = []
    faults: dict[date, Exception] = {}

    def run_day(spark: Any, config: Config, day: date, observe: Any, forced: Any) -> RunReport:
        seen.append(day)
        if day in faults:
            raise faults[day]
        run, _ = find_or_open_run(config, day)
        row = next(row for row in latest_runs(config.root) if row["run_id"] == run.run_id)
        record_state(config.root, row, "published")
        return RunReport(run.run_id, day, "published")

    monkeypatch.setattr(module, "run_day", run_day)

    def dates(**given: Exception) -> list[date]:
        faults.update({FIRST + timedelta(days=int(name[1:])): fault for name, fault in given.items()})
        return seen

    return dates


def run_dates(config: Config, chosen: list[date]) -> None:
    backfill(None, config, chosen, Console(json_logs=False), lambda *_: None, Forced())  # type: ignore[arg-type]


def test_dates_to_run_are_all_or_the_missing_ones(
    root: Path, make_config: Callable[..., Config], runs: Callable[..., list[date]]
) -> None:
    config = make_config()
    assert dates_to_run(config, *days(0, 3), missing=True) == days(0, 1, 2, 3)
    run_dates(config, days(1, 3))
    assert dates_to_run(config, *days(0, 4), missing=True) == days(0, 2, 4)
    assert dates_to_run(config, *days(0, 4), missing=False) == days(0, 1, 2, 3, 4)
    with pytest.raises(ArgumentError, match="--from 2025-01-02: expected a day up to --to 2025-01-01"):
        dates_to_run(config, *days(1, 0), missing=False)


def test_a_refused_date_does_not_stop_those_after_it_and_is_named_at_the_end(
    root: Path,
    make_config: Callable[..., Config],
    runs: Callable[..., list[date]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs(d1=GateRefused("events: none"))
    with pytest.raises(GateRefused, match="expected all dates to be run, got 2025-01-02 refused"):
        run_dates(make_config(), days(0, 1, 2))
    assert runs() == days(0, 1, 2)
    said = capsys.readouterr().out
    assert "2025-01-02: refused: events: none" in said
    assert "1 dates have no completed run: 2025-01-02" in said


def test_a_crash_or_a_lost_race_ends_it_at_once(
    root: Path, make_config: Callable[..., Config], runs: Callable[..., list[date]]
) -> None:
    runs(d1=LockedError("publishes: another run was published"))
    with pytest.raises(LockedError):
        run_dates(make_config(), days(0, 1, 2))
    assert runs() == days(0, 1)
