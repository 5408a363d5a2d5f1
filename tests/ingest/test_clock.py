"""Logs that do not say when things happened: how that is told, and what is off then."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.ingest.clock import clock_note, known_clock, next_day
from recsys_spark.pipeline.gates.days import check_days, warnings_of
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES
from tests.one_event import append_event

NOON = datetime(2025, 1, 6, 12, tzinfo=UTC)


def record_events(root: Path, batch_seq: int, first: datetime, last: datetime, n_events: int) -> None:
    """What ingest records of a batch of events, as far as a clock is told by it."""
    batch: dict[str, Any] = {"batch_seq": batch_seq, "kind": "events", "state": "done", "history": False}
    batch |= {"received_at": last, "recorded_at": last, "files": [], "mapping": "{}", "affected_dates": []}
    append_rows(root, INGEST_BATCHES, [batch | {"min_event_time": first, "max_event_time": last}])
    file: dict[str, Any] = {"batch_seq": batch_seq, "kind": "events", "path": "a", "sha256": "b", "state": "ingested"}
    zero = ("bytes", "mtime_ns", "n_duplicate", "n_quarantined", "n_malformed", "n_continued")
    file |= {"mapping_hash": "c", "unknown_columns": [], **dict.fromkeys(zero, 0)}
    append_rows(root, INGEST_FILES, [file | {"lines_in": n_events, "n_new": n_events - 1, "n_anonymous": 1}])


@pytest.mark.parametrize("n_events", [999, 1000])
def test_known_clock_finds_that_all_of_many_events_have_one_time(
    root: Path, make_config: Callable[..., Config], n_events: int
) -> None:
    config = make_config()
    assert known_clock(config).events.clock == "time"  # nothing is known
    record_events(root, 1, NOON, NOON, n_events)
    assert known_clock(config).events.clock == ("none" if n_events >= 1000 else "time")
    assert known_clock(make_config("events.clock=time")).events.clock == "time"
    record_events(root, 2, NOON, NOON.replace(hour=13), n_events)
    assert known_clock(config).events.clock == "time"


def test_known_clock_leaves_all_settings_of_a_log_with_times(root: Path, make_config: Callable[..., Config]) -> None:
    config = make_config("events.clock=time", 'sources.enabled=["content","popular"]')
    assert known_clock(config) == config
    assert clock_note(config) == []


@pytest.mark.parametrize("clock", ["order", "none"])
def test_known_clock_turns_off_all_that_tells_by_age(clock: str, make_config: Callable[..., Config]) -> None:
    disliked = "events.types={buy={},hide={role='dislike',exclude_days=9}}"
    config = known_clock(make_config(f"events.clock={clock}", "candidates.seen=repeat_after_days", disliked))
    days = {
        (section, name)
        for section, settings in config.model_dump().items()
        for name, value in settings.items()
        if section != "validation"
        and name.endswith("_days")
        and name.split("_")[0] in ("half", "window", "available", "active")
        and value
    }
    assert days == set()
    for name, params in (config.sources.model_extra or {}).items():
        assert not params.get("half_life_days"), name
    assert not [name for name in config.validation.auto if name.endswith("half_life_days")]
    # Whether it was long ago nobody knows: it is hidden for good.
    assert config.candidates.seen == "exclude"
    assert {one.exclude_days for one in config.events.types.values()} == {0}
    assert config.interactions.max_events_per_user_day > 10**12
    assert config.sources.params("popular")["lists"] == ["global", "segment"]
    assert config.sources.params("popular")["window_days"] == 36_500
    assert [clock in note and "decay" in note for note in clock_note(config)] == [True]


def test_a_log_without_times_is_run_today_and_misses_no_day(root: Path, make_config: Callable[..., Config]) -> None:
    config = known_clock(make_config("events.clock=order"))
    append_event(root, date(2000, 1, 2))
    today = next_day(config)
    assert abs((today - datetime.now(UTC).date()).days) <= 1
    assert warnings_of(check_days(config, RunLedger(config.root), today, Forced())) == []


def test_sources_that_the_log_has_nothing_for_are_off_where_they_are_auto(
    root: Path, make_config: Callable[..., Config]
) -> None:
    usual = ["popular", "item_cf", "als", "low_pass"]
    assert known_clock(make_config()).sources.enabled == [*usual, "successors"]
    assert known_clock(make_config("events.clock=none")).sources.enabled == usual
    file = {"batch_seq": 1, "kind": "items", "path": "in", "sha256": "", "state": "ingested", "reason": None}
    file |= dict.fromkeys(("n_anonymous", "n_duplicate", "n_quarantined", "n_malformed", "bytes", "mtime_ns"), 0)
    append_rows(root, INGEST_FILES, [file | {"mapping_hash": "", "lines_in": 7, "n_new": 7, "unknown_columns": {}}])
    assert known_clock(make_config("events.clock=order")).sources.enabled == [*usual, "successors", "content"]
    written = 'sources.enabled=["successors"]'
    assert known_clock(make_config("events.clock=none", written)).sources.enabled == ["successors"]
