"""Logs without times or without a catalogue: how they are detected, and which settings and sources are then off.

Owns: how it is found that there is no clock, or no catalogue, and which settings mean nothing then.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from recsys_spark.config.schema import Config
from recsys_spark.config.types import MAX_DAYS
from recsys_spark.errors import GateRefused
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.run_files import days_with_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES

_MIN_EVENTS = 1000

# All events of a user may be stored under one day.
_ANY_NUMBER = 1 << 53

_OFF = (
    "decay, candidates.available_within_days, candidates.active_within_days, interactions.max_events_per_user_day, "
    "trending lists, [hindsight] and the gates on days without events are off; what a user has had, or dislikes, is "
    "not shown again for good, unless candidates.seen is keep"
)


def known_clock(config: Config) -> Config:
    """The settings with `events.clock` resolved: auto becomes none where all events have the same time, else time.

    Sources for which the log has no data are off, where the run may choose sources.  Without times, all settings by
    which the age of an event decides whether, or how much, it counts are off.
    """
    clock = config.events.clock
    if clock == "auto":
        clock = "none" if _is_one_moment(config.root) else "time"
    config = config.model_copy(update={"events": config.events.model_copy(update={"clock": clock})})
    config = _without_sources(config, clock)
    return config if clock == "time" else _without_ages(config)


def _without_sources(config: Config, clock: str) -> Config:
    """The settings without sources for which the log has no data, where the run may choose sources."""
    if "sources.enabled" not in config.validation.auto:
        return config
    enabled = usable_sources(config, clock, _has_items(config.root))
    return config.model_copy(update={"sources": config.sources.model_copy(update={"enabled": enabled})})


def usable_sources(config: Config, clock: str, has_items: bool) -> list[str]:
    """The enabled sources for which a log has data.  has_items: whether there is a catalogue of items."""
    gone = (set() if has_items else {"content"}) | ({"successors"} if clock == "none" else set())
    return [name for name in config.sources.enabled if name not in gone]


def _has_items(root: Location) -> bool:
    """Whether a catalogue of items was ever accepted."""
    return any(row["kind"] == "items" and row["n_new"] for row in read_rows(root, INGEST_FILES, ("kind", "n_new")))


def clock_note(config: Config) -> list[str]:
    """The line that a run prints on a log without times.  config: by `known_clock`."""
    said = {
        "order": "only the order of a user's events is known (events.clock = order)",
        "none": "nothing is known of when events happened (events.clock = none)",
    }.get(config.events.clock)
    return [f"{said}: {_OFF}"] if said else []


def next_day(config: Config) -> date:
    """The day after the last event, or today (UTC) where events have no times; GateRefused if there is no event."""
    days = days_with_rows(config.root, "events")
    if not days:
        raise GateRefused(
            "events: expected events before the date, got none; put logs into the folder of [landing] events"
        )
    return days[-1] + timedelta(days=1) if config.events.is_timed else datetime.now(UTC).date()


def _is_one_moment(root: Location) -> bool:
    """Whether all events have one and the same time, and are too many for that to be chance."""
    rows = [row for row in read_rows(root, INGEST_BATCHES) if row["kind"] == "events" and row["min_event_time"]]
    if len({row[name] for row in rows for name in ("min_event_time", "max_event_time")}) != 1:
        return False
    files = read_rows(root, INGEST_FILES, ("kind", "n_new", "n_anonymous"))
    n_events: int = sum(row["n_new"] + row["n_anonymous"] for row in files if row["kind"] == "events")
    return n_events >= _MIN_EVENTS


def _without_ages(config: Config) -> Config:
    """The settings with everything off that depends on the age of an event."""
    sources: dict[str, Any] = dict(config.sources.model_extra or {})
    for name, params in sources.items():
        sources[name] = dict(params) | ({"half_life_days": 0.0} if "half_life_days" in params else {})
    popular = sources.get("popular", {})
    lists = [name for name in popular.get("lists", ()) if name != "trending"] or ["global"]
    sources["popular"] = popular | {"window_days": MAX_DAYS, "lists": lists}
    types = {name: one.model_copy(update={"exclude_days": 0}) for name, one in config.events.types.items()}
    seen = "exclude" if config.candidates.seen == "repeat_after_days" else config.candidates.seen
    changes: dict[str, dict[str, Any]] = {
        "events": {"types": types},
        "interactions": {"window_days": 0, "half_life_days": 0.0, "max_events_per_user_day": _ANY_NUMBER},
        "als": {"half_life_days": 0.0},
        "two_tower": {"half_life_days": 0.0, "training_days": MAX_DAYS},
        "candidates": {"available_within_days": 0, "active_within_days": 0, "seen": seen},
        "hindsight": {"window_days": 0, "ranking_examples": False},
        "validation": {"auto": [name for name in config.validation.auto if not name.endswith("half_life_days")]},
        "sources": sources,
    }
    sections = {name: getattr(config, name).model_copy(update=change) for name, change in changes.items()}
    return config.model_copy(update=sections)
