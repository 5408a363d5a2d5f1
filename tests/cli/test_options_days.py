"""A date argument is a day of the calendar that its events can have happened before, or it is refused by name."""

from datetime import UTC, date, datetime, timedelta

import pytest

from recsys_spark.cli.options import parse_day
from recsys_spark.errors import ArgumentError


def test_parse_day_reads_iso_days_and_leaves_none() -> None:
    assert parse_day("2024-02-29") == date(2024, 2, 29)
    assert parse_day("1999-12-31") == date(1999, 12, 31)
    assert parse_day(None) is None


@pytest.mark.parametrize(
    "text", ["2026-02-30", "20261-1-1", "today", "2024-2-9", "2024-02-29 ", "\u0662\u0660\u0662\u0664-01-01"]
)
def test_parse_day_refuses_what_is_no_day(text: str) -> None:
    with pytest.raises(ArgumentError, match="--date: expected"):
        parse_day(text)


def test_parse_day_takes_tomorrow_and_nothing_later() -> None:
    today = datetime.now(UTC).date()
    assert parse_day(str(today + timedelta(days=1))) == today + timedelta(days=1)
    with pytest.raises(ArgumentError, match="cannot have happened yet"):
        parse_day(str(today + timedelta(days=3)))
