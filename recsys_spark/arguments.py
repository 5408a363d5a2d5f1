"""Arguments that are more than text.

Owns: what a date on the command line may be, and ids and lengths of lists that a service asks for.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import overload

from recsys_spark.errors import ArgumentError


@overload
def parse_day(text: str) -> date: ...
@overload
def parse_day(text: str | None) -> date | None: ...
def parse_day(text: str | None) -> date | None:
    """The day that `text` names; raises ArgumentError unless it is a real YYYY-MM-DD of today or before."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ArgumentError(f"--date: expected YYYY-MM-DD, got {text[:80]!r}; for example 2026-01-31")
    try:
        day = date.fromisoformat(text)
    except ValueError as err:
        raise ArgumentError(f"--date: expected a day of the calendar, got {text} ({err}); correct it") from err
    # Events of today are in before tomorrow 00:00, so tomorrow is the last day that a run can be as of.
    last = datetime.now(UTC).date() + timedelta(days=1)
    if day > last:
        raise ArgumentError(f"--date: expected a day up to {last}, got {text}; its events cannot have happened yet")
    return day
