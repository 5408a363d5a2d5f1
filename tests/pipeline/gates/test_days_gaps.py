"""Dates without a run, exactly."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.pipeline.gates.days import (
    dates_passed_over,
    dates_without_run,
    days_between,
    gap_text,
)
from recsys_spark.pipeline.run_ledger import RunLedger
from tests.ledgers import find_or_open_run, latest_runs, record_state

FIRST = date(2025, 1, 1)


def days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in numbers]


@pytest.fixture
def warehouse(root: Path, make_config: Callable[..., Config]) -> Path:
    """Runs of the days 0, 2, 3 and 7 are complete, one of day 5 was left open."""
    for number, state in ((0, "published"), (2, "backfilled"), (3, "published"), (5, "open"), (7, "published")):
        run, _ = find_or_open_run(make_config(), FIRST + timedelta(days=number))
        if state != "open":
            record_state(root, next(row for row in latest_runs(root) if row["run_id"] == run.run_id), state)
    return root


def test_dates_without_run_are_those_between_completed_ones(warehouse: Path) -> None:
    assert RunLedger(warehouse).completed_dates() == days(0, 2, 3, 7)
    assert dates_without_run(RunLedger(warehouse)) == days(1, 4, 5, 6)
    assert dates_without_run(RunLedger(warehouse), FIRST + timedelta(days=3), FIRST + timedelta(days=9)) == days(
        4, 5, 6, 8, 9
    )


def test_dates_passed_over_are_those_since_the_newest_run_before(warehouse: Path) -> None:
    assert dates_passed_over(RunLedger(warehouse), FIRST + timedelta(days=10)) == days(8, 9)
    assert dates_passed_over(RunLedger(warehouse), FIRST + timedelta(days=7)) == days(4, 5, 6)
    assert dates_passed_over(RunLedger(warehouse), FIRST + timedelta(days=8)) == []
    assert dates_passed_over(RunLedger(warehouse), FIRST) == []


def test_a_new_warehouse_has_no_gap(root: Path) -> None:
    assert dates_without_run(RunLedger(root)) == []
    assert dates_passed_over(RunLedger(root), FIRST) == []
    assert dates_without_run(RunLedger(root), FIRST, FIRST) == [FIRST]


def test_gap_text_writes_days_as_ranges() -> None:
    assert gap_text([]) == ""
    assert gap_text(days(0)) == "2025-01-01"
    assert gap_text(days(0, 2, 3, 4, 6)) == "2025-01-01, 2025-01-03 to 2025-01-05, 2025-01-07"
    assert days_between(FIRST, FIRST - timedelta(days=1)) == []
