"""The time format is guessed from values alone, and what cannot be decided is said."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.cli.init.guess_time import guess_time, read_time

TODAY = date(2026, 3, 1)
START = datetime(2025, 5, 3, 10, 20, 30, tzinfo=UTC)
# Half a year, so that days above 12 occur.
TIMES = [START + timedelta(hours=31 * n) for n in range(120)]


def guessed(values: list[object], known_days: frozenset[date] = frozenset()) -> str | None:
    found = guess_time(values, known_days, TODAY)
    return found.time_format if found else None


@pytest.mark.parametrize(
    "pattern",
    [
        *("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d-%m-%Y", "%m/%d/%y %H:%M"),
        *("%d %b %Y %H:%M:%S", "%b %d, %Y, %I:%M %p", "%m %d, %Y", "%Y%m%d", "%Y%m%d%H%M%S", "%a %b %d %H:%M:%S %Y"),
        *("%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT", "%Y-%m-%d %H:%M:%S UTC", "%d/%m/%Y %H:%M:%S.%f"),
        *("%a %b %d %H:%M:%S %z %Y", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M:%S%z"),
    ],
)
def test_guess_time_finds_the_pattern(pattern: str) -> None:
    assert guessed([time.strftime(pattern) for time in TIMES]) == pattern


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%f+02:00"])
def test_guess_time_calls_iso_what_is_iso(form: str) -> None:
    assert guessed([time.strftime(form) for time in TIMES]) == "iso"


@pytest.mark.parametrize(("time_format", "units"), [("epoch_s", 1), ("epoch_ms", 1_000), ("epoch_us", 1_000_000)])
@pytest.mark.parametrize("write", [int, str])
def test_guess_time_tells_the_unit_of_epochs(time_format: str, units: int, write: type) -> None:
    assert guessed([write(int(time.timestamp()) * units) for time in TIMES]) == time_format


@given(st.integers(631152000, int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())), st.sampled_from([1, 1000, 10**6]))
def test_guess_time_never_takes_one_unit_for_another(second: int, units: int) -> None:
    names = {1: "epoch_s", 1000: "epoch_ms", 10**6: "epoch_us"}
    assert guessed([second * units]) == names[units]


def test_guess_time_takes_seconds_of_today() -> None:
    assert guessed([int(datetime(2026, 3, 1, 23, 59, tzinfo=UTC).timestamp())]) == "epoch_s"


def test_guess_time_takes_stored_times_as_they_are() -> None:
    assert guessed([START, START + timedelta(hours=1)]) == "iso"


@pytest.mark.parametrize(
    "values", [[], [None, ""], ["a", "b"], [1, 2, 3], [12.5], [True], [{"t": 1}], ["85123A"], [20250503]]
)
def test_guess_time_finds_none_when_values_are_no_times(values: list[object]) -> None:
    assert guess_time(values, frozenset(), TODAY) is None


def test_guess_time_forgives_a_few_broken_values_and_counts_them() -> None:
    values: list[object] = [time.strftime("%d/%m/%Y %H:%M") for time in TIMES[:100]] + ["soon"]
    found = guess_time(values, frozenset(), TODAY)
    assert found is not None
    assert found.time_format == "%d/%m/%Y %H:%M"
    assert any("1 of 101" in note for note in found.notes)


def test_guess_time_says_when_day_and_month_cannot_be_told_apart() -> None:
    found = guess_time(["03/04/2025", "03/04/2025"], frozenset(), TODAY)
    assert found is not None
    assert any("day or the month" in note for note in found.notes)


def test_guess_time_says_nothing_when_a_day_above_12_decides() -> None:
    found = guess_time(["03/04/2025 10:00", "25/04/2025 10:00"], frozenset(), TODAY)
    assert found is not None
    assert found.time_format == "%d/%m/%Y %H:%M"
    assert not any("day or the month" in note for note in found.notes)


def test_guess_time_believes_the_names_of_the_files() -> None:
    values: list[object] = ["03/04/2025 10:00", "03/04/2025 11:00"]
    assert guessed(values, frozenset({date(2025, 3, 4)})) == "%m/%d/%Y %H:%M"
    assert guessed(values, frozenset({date(2025, 4, 3)})) == "%d/%m/%Y %H:%M"


def test_guess_time_refuses_an_order_that_gives_days_to_come() -> None:
    # Day first, the second value would be 2 June 2026, after TODAY.
    assert guessed(["02/06/2026"]) == "%m/%d/%Y"
    assert guessed(["01/02/2026", "02/04/2026"]) == "%m/%d/%Y", "one day to come is enough"


def test_guess_time_takes_the_order_in_which_days_follow_one_another() -> None:
    assert guessed(["03/04/2025", "03/05/2025", "03/06/2025"]) == "%m/%d/%Y"
    assert guessed(["03/04/2025", "04/04/2025", "05/04/2025"]) == "%d/%m/%Y"


def test_guess_time_warns_when_there_is_no_offset_or_no_hour() -> None:
    found = guess_time(["2025-01-01", "2025-01-02"], frozenset(), TODAY)
    assert found is not None
    assert any("timezone" in note for note in found.notes)
    assert any("whole days" in note for note in found.notes)


def test_guess_time_needs_no_time_zone_when_times_carry_an_offset() -> None:
    found = guess_time(["2025-01-01T10:00:00Z", "2025-01-02T11:00:00Z"], frozenset(), TODAY)
    assert found is not None
    assert found.notes == ()


@pytest.mark.parametrize(
    ("value", "time_format"),
    [
        ("2025-05-03T12:20:30+02:00", "iso"),
        (1746267630, "epoch_s"),
        ("1746267630000", "epoch_ms"),
        ("03/05/2025 10:20:30", "%d/%m/%Y %H:%M:%S"),
        (datetime(2025, 5, 3, 12, 20, 30, tzinfo=timezone(timedelta(hours=2))), "iso"),
    ],
)
def test_read_time_gives_utc(value: object, time_format: str) -> None:
    assert read_time(value, time_format) == START


@pytest.mark.parametrize(("value", "time_format"), [("", "iso"), (None, "epoch_s"), ("x", "%Y"), (1e30, "epoch_s")])
def test_read_time_gives_none_when_the_format_does_not_read_it(value: object, time_format: str) -> None:
    assert read_time(value, time_format) is None
