"""Times of every configured format become the same microseconds in UTC."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.values import time_reader, to_datetime, to_us

NOON_US = 1_736_942_400_000_000  # 2025-01-15 12:00 UTC


@pytest.mark.parametrize(
    ("time_format", "timezone", "value"),
    [
        ("iso", "UTC", "2025-01-15T12:00:00Z"),
        ("iso", "UTC", " 2025-01-15 12:00:00 "),
        ("iso", "UTC", "2025-01-15T07:00:00-05:00"),
        ("iso", "America/New_York", "2025-01-15T07:00"),
        ("iso", "America/New_York", "2025-01-15T12:00:00Z"),
        ("epoch_s", "UTC", 1_736_942_400),
        ("epoch_s", "UTC", 1_736_942_400.0),
        ("epoch_s", "UTC", "1736942400.000"),
        ("epoch_ms", "UTC", 1_736_942_400_000),
        ("epoch_us", "Asia/Tokyo", "1736942400000000"),
        ("%d/%m/%Y %H:%M", "Europe/Berlin", "15/01/2025 13:00"),
        ("%d/%m/%Y %H:%M %z", "Europe/Berlin", "15/01/2025 17:30 +0530"),
        ("epoch_s", "UTC", datetime(2025, 1, 15, 12, tzinfo=UTC)),
        ("iso", "Asia/Kathmandu", datetime(2025, 1, 15, 17, 45)),  # noqa: DTZ001 - as Parquet gives it
        ("iso", "UTC", datetime(2025, 1, 15, 13, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_time_reader_reads_noon(time_format: str, timezone: str, value: object) -> None:
    assert time_reader(time_format, timezone)(value) == NOON_US


def test_time_reader_reads_a_native_date_as_its_midnight_in_the_zone() -> None:
    midnight = datetime(2025, 1, 15, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert time_reader("iso", "Asia/Tokyo")(date(2025, 1, 15)) == to_us(midnight)


@pytest.mark.parametrize(
    ("time_format", "value"),
    [
        ("iso", "15.01.2025"),
        ("iso", ""),
        ("iso", 1_736_942_400),
        ("iso", None),
        ("iso", True),
        ("epoch_s", True),
        ("epoch_s", "1_736_942_400"),
        ("epoch_s", "٣"),
        ("epoch_s", "1e9"),
        ("epoch_s", float("nan")),
        ("epoch_s", 1_736_942_400_000),  # milliseconds read as seconds: the year 57011
        ("epoch_ms", 10**30),
        ("epoch_s", 10**400),
        ("epoch_us", -(10**400)),
        ("epoch_s", 1e305),
        ("epoch_ms", float("-inf")),
        ("%d/%m/%Y", "2025-01-15"),
        ("iso", "0001-01-01T00:00:00+12:00"),
        ("iso", {"time": 1}),
    ],
)
def test_time_reader_refuses_what_is_no_time(time_format: str, value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        time_reader(time_format, "UTC")(value)


@given(st.datetimes(datetime(1600, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_time_reader_keeps_every_microsecond(moment: datetime) -> None:
    time_us = to_us(moment)
    assert to_datetime(time_us) == moment
    assert time_reader("iso", "UTC")(moment.isoformat()) == time_us
    assert time_reader("epoch_us", "UTC")(time_us) == time_us
    if time_us >= 0:
        assert time_reader("epoch_s", "UTC")(f"{time_us // 1_000_000}.{time_us % 1_000_000:06d}") == time_us


def test_time_reader_takes_the_first_of_an_hour_that_occurs_twice() -> None:
    # In Berlin the clocks went back from 03:00 to 02:00 on 2024-10-27: 02:30 was at 00:30 and at 01:30 UTC.
    read = time_reader("iso", "Europe/Berlin")
    assert read("2024-10-27T02:30:00") == to_us(datetime(2024, 10, 27, 0, 30, tzinfo=UTC))
