"""Single logged values as the types of our columns; what does not fit raises RowFault with the column's reason.

Owns: the rules of ids, texts and numbers.  Called by `parse_event` and `parse_catalogue`.
"""

import json
import math
from datetime import timedelta
from typing import Any

from recsys_spark.kernels.records import RowFault, Unreadable
from recsys_spark.warehouse.tables import ID_MAX_BYTES

_MAX_INT32 = 2**31 - 1


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
    # A duration of nanoseconds is one of pandas, whose isoformat is another notation than that of a timedelta.
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
    """UTF-8 of `value`; JSON can write half a surrogate pair, which no UTF-8 can."""
    try:
        return value.encode()
    except UnicodeEncodeError as err:
        raise RowFault(f"bad_{column}", "expected valid Unicode, got half a surrogate pair") from err


def _decoded(value: bytes, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise RowFault(f"bad_{column}", "expected UTF-8, got other bytes") from err
