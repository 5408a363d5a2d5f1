"""Times of a log as microseconds since 1970 in UTC.

Owns: the formats that `time_format` names.  Called by `parse_event` and `parse_catalogue`.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTORS = {"epoch_s": US_PER_SECOND, "epoch_ms": 1000, "epoch_us": 1}
_FIRST_US = -62_135_596_800 * US_PER_SECOND  # 0001-01-01
_LAST_US = 253_402_300_800 * US_PER_SECOND - 1  # 9999-12-31
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
# Times of one file repeat by the second or minute; a day has 86 400 seconds.
_REMEMBERED = 1 << 16


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * US_PER_SECOND + since.microseconds


def to_datetime(time_us: int) -> datetime:
    """The aware time, UTC, of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=time_us)


def time_reader(time_format: str, timezone: str) -> Callable[[Any], int]:
    """A function from a logged value to microseconds since 1970; it raises ValueError with what was wrong.

    time_format: iso, epoch_s, epoch_ms, epoch_us or a strptime pattern.  timezone: zone of times without an offset; of
    an hour that occurs twice there, the first is meant.  A native time (Parquet) is read as such in any format.
    """
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    read_text = lru_cache(maxsize=_REMEMBERED)(_text_reader(time_format, zone))
    factor = _FACTORS.get(time_format)

    def read(value: Any) -> int:
        if type(value) is str:
            return read_text(value)
        if isinstance(value, datetime):
            return _aware_us(value, zone)
        if isinstance(value, date):
            return _aware_us(datetime(value.year, value.month, value.day), zone)  # noqa: DTZ001 - set by _aware_us
        if factor is not None and type(value) in (int, float):
            return _scaled(value, factor)
        raise ValueError(f"expected {time_format}, got {type(value).__name__}")

    return read


def _text_reader(time_format: str, zone: Any) -> Callable[[str], int]:
    if time_format == "iso":
        return lambda text: _aware_us(datetime.fromisoformat(text.strip()), zone)
    factor = _FACTORS.get(time_format)
    if factor is None:
        return lambda text: _aware_us(datetime.strptime(text.strip(), time_format), zone)  # noqa: DTZ007

    def read_number(text: str) -> int:
        if not _NUMBER.fullmatch(text.strip()):
            raise ValueError(f"expected {time_format}, got {text[:40]!a}")
        return _in_range(int(Decimal(text.strip()) * factor))

    return read_number


def _aware_us(moment: datetime, zone: Any) -> int:
    return _in_range(to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)))


def _scaled(value: int | float, factor: int) -> int:
    # Before any arithmetic: a product may overflow, and a long integer has no float.  NaN fails the comparison too.
    if not -_LAST_US <= value <= _LAST_US:
        raise ValueError("expected a finite number of the years 1 to 9999; is time_format in the right unit?")
    return _in_range(value * factor if type(value) is int else round(value * factor))


def _in_range(time_us: int) -> int:
    """`time_us` itself; an offset or a wrong unit can lead out of the calendar."""
    if not _FIRST_US <= time_us <= _LAST_US:
        raise ValueError("expected a time of the years 1 to 9999; is time_format in the right unit?")
    return time_us
