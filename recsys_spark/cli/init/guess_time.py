"""Inference of a log's time format: the format that reads a sample of its times, with the evidence for it.

Owns: the formats that a time may be guessed to have.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from recsys_spark.ingest.values import midnight, time_reader, to_datetime

EPOCH_UNITS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}  # units in a second

# Logs of people's behaviour do not go further back; the oldest public ones are of the nineties.
_FIRST_SECOND = datetime(1990, 1, 1, tzinfo=UTC).timestamp()

# A log has a few broken lines; a format that misses more than these is another one.
_MIN_SHARE = 0.99
_MAX_TRIED = 500  # distinct values

_DATES = (
    *("%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m-%d"),
    *(f"{day}{sep}{month}{sep}{year}" for year in ("%Y", "%y") for sep in "/.-" for day, month in (("%d", "%m"),)),
    *(f"{month}{sep}{day}{sep}{year}" for year in ("%Y", "%y") for sep in "/.-" for day, month in (("%d", "%m"),)),
    *("%d-%b-%Y", "%d/%b/%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%m %d, %Y"),
    *("%a, %d %b %Y", "%a %b %d %Y"),
)
_SHAPE = re.compile(
    r"(?P<date>.+?)"
    r"(?:(?P<gap>, | |T|:)"
    r"(?P<time>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<fraction>\.\d{1,6})?)?)(?P<half> ?[AaPp][Mm])?"
    r"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?)?"
)
# Year last, after the time: C's ctime, and what social networks make of it.
_CTIME = ("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S UTC %Y")
_COMPACT = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}


@dataclass(frozen=True)
class TimeGuess:
    """A format as `time_format` takes it, the evidence, and what a person should look at."""

    time_format: str
    why: str
    notes: tuple[str, ...] = ()


def guess_time(values: Sequence[Any], known_days: frozenset[date], today: date) -> TimeGuess | None:
    """The format that reads `values`; None if they are no times.

    known_days: days in the names of the files, the evidence where nothing else tells day and month apart.
    today: nothing in a log is later.
    """
    filled = [value for value in values if value is not None and str(value).strip()]
    if not filled:
        return None
    if all(isinstance(value, date) for value in filled):
        return TimeGuess(
            "iso",
            "the file stores times as such",
            _notes_of([time for value in filled if (time := read_time(value, "iso"))]),
        )
    if any(isinstance(value, bool | date | list | dict) for value in filled):
        return None
    texts = list(dict.fromkeys(str(value).strip() for value in filled))[:_MAX_TRIED]
    found = _guess_number(texts, today)
    # Ingest reads a number only as a count of seconds or of parts of a second.
    if found is None and all(isinstance(value, str) for value in filled):
        found = _guess_text(texts, known_days, today)
    return found


def read_time(value: Any, time_format: str) -> datetime | None:
    """`value` as ingest would read it with timezone UTC; None if the format does not read it."""
    try:
        return to_datetime(_reader(time_format)(value))
    except (ValueError, OverflowError):
        return None


@lru_cache
def _reader(time_format: str) -> Callable[[Any], int]:
    return time_reader(time_format, "UTC")


def _guess_number(texts: list[str], today: date) -> TimeGuess | None:
    """Seconds, milliseconds or microseconds since 1970, told by their size."""
    numbers = [float(text) for text in texts if re.fullmatch(r"\d{9,16}(\.\d+)?", text)]
    last = (midnight(today) + timedelta(days=2)).timestamp()
    for name, units in EPOCH_UNITS.items():
        n_inside = sum(_FIRST_SECOND <= number / units <= last for number in numbers)
        if n_inside >= _MIN_SHARE * len(texts):
            first = texts[0]
            return TimeGuess(name, f"{first} is then {_shown(read_time(first, name))}", _unread(n_inside, len(texts)))
    return None


def _guess_text(texts: list[str], known_days: frozenset[date], today: date) -> TimeGuess | None:
    formats = ["iso"] if "-" in texts[0][4:5] else []
    formats += _patterns(texts)
    counts = {one: sum(read_time(text, one) is not None for text in texts) for one in formats}
    best = max(counts.values(), default=0)
    if best < _MIN_SHARE * len(texts):
        return None
    left = [one for one in formats if counts[one] == best]
    rivals = [one for one in left if one != left[0] and _swapped(one) == left[0]]
    time_format, why, notes = _decide(left[0], rivals, texts, known_days, today)
    if time_format != "iso" and not why:
        day = "the day" if time_format.find("%d") < time_format.find("%m") else "the month"
        tried = _swapped(time_format) in counts and counts[_swapped(time_format)] < best
        why = f"{day} comes first: the other order does not read all values" if tried else f"{texts[0]!r} reads as such"
    why = why or f"{texts[0]!r} is ISO 8601"
    times = [time for text in texts if (time := read_time(text, time_format))]
    naive = () if _has_offset(texts, time_format) else ("the times carry no offset from UTC: set timezone if need be",)
    return TimeGuess(time_format, why, (*notes, *_unread(best, len(texts)), *_notes_of(times), *naive))


def _patterns(texts: list[str]) -> list[str]:
    """The strptime patterns that fit the form of most of `texts`."""
    if texts[0].isdigit():
        return [_COMPACT[len(texts[0])]] if len(texts[0]) in _COMPACT else []
    rests = Counter(_rest(text) for text in texts)
    rest = rests.most_common(1)[0][0]
    return [date_part + rest for date_part in _DATES] + list(_CTIME)


def _rest(text: str) -> str:
    """The pattern of all that follows the date in `text`."""
    shape = _SHAPE.fullmatch(text)
    if not shape or not shape["time"]:
        return ""
    hour = "%I" if shape["half"] else "%H"
    clock = f"{hour}:%M" + (":%S" if shape["second"] else "") + (".%f" if shape["fraction"] else "")
    half = "" if not shape["half"] else " %p" if shape["half"].startswith(" ") else "%p"
    zone = shape["zone"] or ""
    if zone.strip() not in ("", "UTC", "GMT"):
        zone = " %z" if zone.startswith(" ") else "%z"
    return f"{shape['gap']}{clock}{half}{zone}"


def _swapped(pattern: str) -> str:
    """The pattern with day and month in the other order."""
    return pattern.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")


def _decide(
    first: str, rivals: list[str], texts: list[str], known_days: frozenset[date], today: date
) -> tuple[str, str, tuple[str, ...]]:
    """The format, the evidence and a warning, where values can be read with the day or with the month first."""
    if not rivals:
        return first, "", ()
    days = {one: {time.date() for text in texts if (time := read_time(text, one))} for one in (first, *rivals)}
    in_names = {one: len(days[one] & known_days) for one in days}
    best = max(days, key=lambda one: in_names[one])
    if in_names[best] > min(in_names.values()):
        return best, "its days are those in the names of the files", ()
    past = [one for one in days if max(days[one]) <= today + timedelta(days=1)]
    if len(past) == 1:
        return past[0], "in the other order the log would have days that are yet to come", ()
    # Days of a log follow one another; read in the wrong order they are a month apart.
    spans = {one: (max(days[one]) - min(days[one])).days for one in days}
    dense = min(days, key=lambda one: spans[one])
    closer = 3 * spans[dense] < max(spans.values())
    chosen = dense if closer else first
    order = "day" if chosen.find("%d") < chosen.find("%m") else "month"
    why = f"{texts[0]!r} read with the {order} in front" + (", its days then follow one another" if closer else "")
    return chosen, why, (f"every value can be read with the day or the month in front; guessed: {order} first",)


def _has_offset(texts: list[str], time_format: str) -> bool:
    if time_format == "iso":
        return bool(re.search(r"(Z|[+-]\d{2}:?\d{2})$", texts[0][10:]))
    return "%z" in time_format or time_format.endswith(("UTC", "GMT"))


def _notes_of(times: list[datetime]) -> tuple[str, ...]:
    if len(set(times)) > 1 and all((time.hour, time.minute, time.second) == (0, 0, 0) for time in times):
        return ("the times are whole days: the order of events within a day is not known",)
    return ()


def _unread(n_read: int, n_values: int) -> tuple[str, ...]:
    text = f"{n_values - n_read} of {n_values} values are no such time and would be quarantined"
    return (text,) * (n_read < n_values)


def _shown(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "no time"
