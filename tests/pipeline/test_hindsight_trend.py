"""Hindsight over days, and the days on which somebody is called."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from recsys_spark.pipeline.hindsight_trend import TRAILING, alarms_of, trend
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import RUN_STEPS, RUNS

NOW = datetime(2025, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST = date(2025, 1, 1)


def record(
    root: Path,
    recalls: list[float],
    popular: float = 0.1,
    half: float = 0.02,
    first: int = 0,
    days: int = 1,
    publish: int | None = None,
) -> None:
    """One run a day whose hindsight found `recalls`, give or take `half`."""
    for at, recall in enumerate(recalls, start=first):
        day = FIRST + timedelta(days=at)
        run_id = f"{day:%Y%m%d}-001-9f2c81aa"
        run = {"run_id": run_id, "data_date": day, "state": "published", "fingerprint": "", "config_hash": ""}
        run |= {
            "code_version": "",
            "pins": {},
            "base_run_id": None,
            "seed": 1,
            "recorded_at": NOW + timedelta(hours=at),
        }
        append_rows(root, RUNS, [run])
        judged = {"against_publish_seq": float(at if publish is None else publish), "window_days": float(days)}
        figures = judged | {"n_users": 50.0, "k": 20.0, "recall": recall, "recall_low": recall - half}
        figures |= {"recall_high": recall + half, "popular": popular, "over_popular_high": recall - popular + half}
        step = {"run_id": run_id, "step": "hindsight", "started_at": NOW, "seconds": 1.0, "n_rows": {}}
        append_rows(root, RUN_STEPS, [step | {"content_hashes": {}, "figures": figures, "recorded_at": NOW}])


def test_steady_days_call_nobody(root: Path) -> None:
    record(root, [0.2] * 10)
    found = trend(RunLedger(root))
    assert [one.day for one in found] == [FIRST + timedelta(days=at) for at in range(10)]
    assert all(not one.alarms for one in found)


@pytest.mark.parametrize(("popular", "called"), [(0.23, True), (0.21, False)])
def test_lists_below_popularity_are_an_alarm_if_it_is_no_chance(root: Path, popular: float, called: bool) -> None:
    record(root, [0.2], popular=popular)
    (one,) = trend(RunLedger(root))
    assert bool(one.alarms) == called
    assert alarms_of(RunLedger(root), one.run_id) == list(one.alarms)
    assert not called or "recall@20 0.2000, popularity 0.2300 (50 users)" in one.alarms[0]


@pytest.mark.parametrize(("recall", "called"), [(0.15, True), (0.19, False)])
def test_lists_below_those_before_them_are_an_alarm_if_it_is_no_chance(root: Path, recall: float, called: bool) -> None:
    record(root, [0.2] * TRAILING)
    record(root, [recall], first=TRAILING)
    assert bool(trend(RunLedger(root))[-1].alarms) == called


def test_few_days_say_nothing_of_a_trend(root: Path) -> None:
    record(root, [0.2] * (TRAILING - 1))
    record(root, [0.15], first=TRAILING - 1)
    assert not trend(RunLedger(root))[-1].alarms


def test_days_on_which_nobody_was_judged_are_left_out(root: Path) -> None:
    assert trend(RunLedger(root)) == []
    record(root, [0.2], first=1)
    step = {"run_id": "20250102-001-9f2c81aa", "step": "hindsight", "started_at": NOW, "seconds": 1.0, "n_rows": {}}
    append_rows(
        root, RUN_STEPS, [step | {"content_hashes": {}, "figures": {"n_users": 0.0}, "recorded_at": NOW + HOUR}]
    )
    assert trend(RunLedger(root)) == [], "the newest record of a run holds"


def test_a_bundle_that_stays_current_counts_once_and_only_equal_windows_are_compared(root: Path) -> None:
    record(root, [0.2] * TRAILING, publish=1)
    assert [one.day for one in trend(RunLedger(root))] == [FIRST + timedelta(days=TRAILING - 1)]
    record(root, [0.2] * TRAILING, first=TRAILING)
    record(root, [0.1], first=2 * TRAILING, days=5)
    assert not trend(RunLedger(root))[-1].alarms
    record(root, [0.1], first=2 * TRAILING + 1)
    assert trend(RunLedger(root))[-1].alarms
