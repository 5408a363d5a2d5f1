"""Parser of event logs: a record becomes one event, or a reason to refuse it.

Owns: the meaning of every column of an event.  `event_parser` makes the parser, `read_file` calls it for each record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from recsys_spark.config.schema import Events
from recsys_spark.ingest.records import Fields, RowFault
from recsys_spark.ingest.values import (
    US_PER_DAY,
    identifier,
    is_blank,
    number,
    position,
    shown,
    text_of,
    time_reader,
    to_datetime,
    to_us,
)

# Seconds that are read as milliseconds fall into 1970; no engagement log is older than the web.
FIRST_US = to_us(datetime(1990, 1, 1, tzinfo=UTC))
# Events without a time are stored under this day or later days, which are before every date that is run.
UNDATED_US = to_us(datetime(2000, 1, 1, tzinfo=UTC))
# 128 bits: among 10^12 events a collision has a chance of 10^-15.
_KEY_BYTES = 16

EVENT_COLUMNS = (
    "event_key",
    "user_id",
    "item_id",
    "event_type",
    "event_time",
    "event_id",
    "value",
    "session_id",
    "surface",
    "position",
    "propensity",
    "attributes",
    "ds",
)


@dataclass(frozen=True)
class EventSpec:
    """How the events of a file are read.  Times are microseconds since 1970.

    latest_us, earliest_us: later and earlier events are refused.  lines_us: the times that stand for the lines of a log
    that has only an order, line 0 at the start.
    """

    events: Events
    latest_us: int
    earliest_us: int | None
    lines_us: range = range(UNDATED_US, UNDATED_US + US_PER_DAY)


Parse = Callable[[Fields, int], tuple[Any, ...]]


def event_parser(spec: EventSpec, as_text: bool) -> Parse:
    """A function from a record and the number of its line to the values of EVENT_COLUMNS; it raises RowFault.

    as_text: the format has only text, so numbers come as text (CSV).  event_time is in microseconds, ds in days since
    1970.  event_key covers event_id and day, or all fields where there is no event_id: the day is part of it, so that
    an event can only repeat inside the partition in which it is stored.  Where events have no time, it covers no day,
    and in place of the time the position or line that gives their order, if they have one.
    """
    columns = spec.events.columns
    read_user, read_item, read_optional = columns.user_id, columns.item_id, _optional_reader(spec.events, as_text)
    read_type, type_column = _type_reader(spec.events), columns.event_type
    read_moment = {"order": _order_reader, "none": _no_reader}.get(spec.events.clock, _event_time_reader)(spec, as_text)

    def parse(fields: Fields, line: int) -> tuple[Any, ...]:
        get = fields.get
        # First: a type that is skipped, such as a search, need not name an item.
        event_type = read_type(get(type_column))
        item_id = identifier(get(read_item), "item_id")
        user = get(read_user)
        user_id = None if is_blank(user) else identifier(user, "user_id")
        time_us, moment, scope = read_moment(fields, line)
        event_id, *others = read_optional(fields)
        identity = (event_id, *scope) if event_id is not None else (user_id, item_id, event_type, *moment, *others)
        # ascii() of a tuple of plain values is unambiguous, and the same in every version of Python.
        key = blake2b(ascii(identity).encode(), digest_size=_KEY_BYTES).hexdigest()
        return (key, user_id, item_id, event_type, time_us, event_id, *others, time_us // US_PER_DAY)

    return parse


def _type_reader(events: Events) -> Callable[[Any], str]:
    """A function from the logged type to ours; it raises RowFault."""
    names = type_names(events)
    unknown = "unknown_type" if events.unknown_types == "quarantine" else "skipped_type"

    def read(value: Any) -> str:
        found = names.get(value) if type(value) is str else None
        if found is not None:
            return found
        if is_blank(value):
            if events.default_type:
                return events.default_type
            raise RowFault("bad_event_type", "expected an event type, got none; events.default_type gives one")
        if type(value) is int and str(value) in names:
            return names[str(value)]
        if type(value) not in (str, int):
            raise RowFault("bad_event_type", f"expected a string, got {shown(value)}")
        raise RowFault(unknown, f"expected one of {', '.join(names)}"[:300] + f", got {shown(value)}")

    return read


def type_names(events: Events) -> dict[str, str]:
    """Our event type by its name in the log; the settings are checked to give each name once."""
    return {raw: name for name, declared in events.types.items() for raw in declared.raw or [name]}


# From a record and its line: the time to store, its part in the key of an event, and its part beside an event_id.
_Moment = Callable[[Fields, int], tuple[int, tuple[int, ...], tuple[int, ...]]]


def _order_reader(spec: EventSpec, as_text: bool) -> _Moment:
    column, lines_us = spec.events.columns.position, spec.lines_us

    def read(fields: Fields, line: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        value = fields.get(column)
        if is_blank(value):
            return lines_us[min(line, len(lines_us) - 1)], (line,), ()
        place = position(value, as_text, first=0)
        return UNDATED_US + place, (place,), ()

    return read


def _no_reader(spec: EventSpec, as_text: bool) -> _Moment:
    return lambda fields, line: (UNDATED_US, (), ())


def _event_time_reader(spec: EventSpec, as_text: bool) -> _Moment:
    read, column = time_reader(spec.events.time_format, spec.events.timezone), spec.events.columns.event_time
    latest, earliest = spec.latest_us, spec.earliest_us

    def read_bounded(fields: Fields, line: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        try:
            time_us = read(fields.get(column))
        except ValueError as err:
            raise RowFault("bad_time", str(err)[:200]) from err
        if time_us < FIRST_US:
            raise RowFault("bad_time", f"expected 1990 or later, got {to_datetime(time_us):%Y-%m-%d}; check the unit")
        if time_us > latest:
            raise RowFault("future", f"expected a time up to {to_datetime(latest)}, got {to_datetime(time_us)}")
        if earliest is not None and time_us < earliest:
            raise RowFault("too_late", f"expected {to_datetime(earliest)} or later, got {to_datetime(time_us)}")
        return time_us, (time_us,), (time_us // US_PER_DAY,)

    return read_bounded


def _optional_reader(events: Events, as_text: bool) -> Callable[[Fields], tuple[Any, ...]]:
    """A function to (event_id, value, session_id, surface, position, propensity, attributes), None where not given."""
    columns, kept = events.columns, tuple(events.attributes)
    # In a log without times the column is the place in the user's history, not that of a showing.
    position_column = "" if events.clock == "order" else columns.position
    low, high, cap = events.value_min, events.value_max, events.on_bad_value == "cap"

    def read_value(value: Any) -> float:
        found = number(value, "value", as_text)
        if low <= found <= high:
            return found
        if cap:
            return low if found < low else high
        raise RowFault("bad_value", f"expected {low} to {high}, got {found}")

    def read_propensity(value: Any) -> float:
        found = number(value, "propensity", as_text)
        if not 0 <= found <= 1:
            raise RowFault("bad_propensity", f"expected 0 to 1, got {found}")
        return found

    def read(fields: Fields) -> tuple[Any, ...]:
        get = fields.get
        event_id, session, surface = get(columns.event_id), get(columns.session_id), get(columns.surface)
        value, place, chance = get(columns.value), get(position_column), get(columns.propensity)
        attributes = [(name, text_of(get(name), "attributes")) for name in kept if get(name) is not None]
        return (
            None if is_blank(event_id) else identifier(event_id, "event_id"),
            None if value is None else read_value(value),
            None if is_blank(session) else identifier(session, "session_id"),
            None if is_blank(surface) else identifier(surface, "surface"),
            None if place is None else position(place, as_text),
            None if chance is None else read_propensity(chance),
            attributes or None,
        )

    return read
