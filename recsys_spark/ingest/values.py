"""Conversion of single logged values to the types of our columns: ids, texts, numbers, times.

Owns: the rules of ids, texts, numbers and times.  A value that does not fit raises RowFault with the column's reason;
a time is microseconds since 1970 in UTC, and one that cannot be read raises ValueError.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from recsys_spark.ingest.records import RowFault, Unreadable
from recsys_spark.warehouse.tables import ID_MAX_BYTES

_MAX_INT32 = 2**31 - 1


US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTORS = {"epoch_s": US_PER_SECOND, "epoch_ms": 1000, "epoch_us": 1}
_FIRST_US = -62_135_596_800 * US_PER_SECOND  # 0001-01-01
_LAST_US = 253_402_300_800 * US_PER_SECOND - 1  # 9999-12-31
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
# Times of one file repeat by the second or minute; a day has 86 400 seconds.
_REMEMBERED = 1 << 16


def shown(value: Any) -> str:
    """A value as an error may show it: one short ASCII line, nested values by their type."""
    if isinstance(value, str):
        # Cut first: the value may be megabytes long.
        return ascii(value[:60])
    if isinstance(value, int | float):
        return str(value)[:60]
    return type(value).__name__


def identifier(value: Any, column: str) -> str:
    """An external id, byte for byte; integers as decimal strings.  Raises RowFault `bad_<column>`."""
    if type(value) is int:
        value = str(value)
    elif type(value) is bytes:
        value = _decoded(value, column)
    elif type(value) is not str:
        raise _fault(column, "a string or an integer", value)
    text: str = value
    if not text or text.isspace():
        raise _fault(column, "an id that is not blank", text)
    if len(text) > ID_MAX_BYTES or (not text.isascii() and len(_encoded(text, column)) > ID_MAX_BYTES):
        raise RowFault(f"bad_{column}", f"expected at most {ID_MAX_BYTES} bytes, got a string of {len(text)}")
    return text


def is_blank(value: Any) -> bool:
    """True for None and for text without a visible character: the value was not given."""
    return value is None or (type(value) is str and (not value or value.isspace()))


def text_of(value: Any, column: str) -> str:
    """Text of any scalar, nested values as JSON.

    Raises RowFault `bad_<column>` if it is not valid Unicode, or a native value that Python cannot hold.
    """
    if type(value) is str:
        if not value.isascii():
            _encoded(value, column)
        return value
    if type(value) is bytes:
        return _decoded(value, column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    try:
        if value is None or isinstance(value, dict | list | tuple):
            return json.dumps(value, sort_keys=True, default=_native_text)
        return _native_text(value)
    except (TypeError, ValueError) as err:
        raise _fault(column, "a value that text can hold", value) from err


def _native_text(value: Any) -> str:
    """Text of a native value of Parquet that JSON does not know; raises TypeError or ValueError if it has none."""
    if isinstance(value, Unreadable):
        raise TypeError("expected a value that Python can hold")
    if isinstance(value, bytes):
        return value.decode()
    # A duration of nanoseconds is a pandas object, whose isoformat differs from the notation of a timedelta.
    if hasattr(value, "isoformat") and not isinstance(value, timedelta):
        return str(value.isoformat())
    return str(value)


def number(value: Any, column: str, as_text: bool) -> float:
    """A finite float.  as_text: the format has only text (CSV).  Raises RowFault `bad_<column>`."""
    try:
        if as_text and type(value) is str and "_" not in value:
            value = float(value)
        if type(value) is int or (type(value) is not bool and hasattr(value, "as_integer_ratio")):
            value = float(value)  # int; Decimal of Parquet
        if type(value) is float and math.isfinite(value):
            return value
    except (ValueError, OverflowError):
        pass
    raise _fault(column, "a finite number", value)


def position(value: Any, as_text: bool, first: int = 1) -> int:
    """A position from `first`.  Raises RowFault `bad_position`."""
    found = number(value, "position", as_text)
    if not first <= found <= _MAX_INT32 or found != int(found):
        raise _fault("position", f"a whole number from {first}", value)
    return int(found)


def _fault(column: str, expected: str, value: Any) -> RowFault:
    return RowFault(f"bad_{column}", f"expected {expected}, got {shown(value)}")


def _encoded(value: str, column: str) -> bytes:
    """UTF-8 of `value`; JSON can write half a surrogate pair, UTF-8 cannot."""
    try:
        return value.encode()
    except UnicodeEncodeError as err:
        raise RowFault(f"bad_{column}", "expected valid Unicode, got half a surrogate pair") from err


def _decoded(value: bytes, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise RowFault(f"bad_{column}", "expected UTF-8, got other bytes") from err


def midnight(day: date) -> datetime:
    """00:00 UTC of `day`."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * US_PER_SECOND + since.microseconds


def to_datetime(time_us: int) -> datetime:
    """The aware time, UTC, of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=time_us)


def time_reader(time_format: str, timezone: str) -> Callable[[Any], int]:
    """A function from a logged value to microseconds since 1970; it raises ValueError with what was wrong.

    time_format: iso, epoch_s, epoch_ms, epoch_us or a strptime pattern.  timezone: zone of times without an offset; an
    hour that occurs twice there is taken as the first.  A native time (Parquet) is read as such in any format.
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
    """`time_us` itself; raises ValueError outside the years 1 to 9999, to which an offset or a wrong unit can lead."""
    if not _FIRST_US <= time_us <= _LAST_US:
        raise ValueError("expected a time of the years 1 to 9999; is time_format in the right unit?")
    return time_us
