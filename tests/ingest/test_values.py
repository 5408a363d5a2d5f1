"""Single values: ids byte for byte, numbers finite, texts valid Unicode, and nothing else."""

from datetime import date, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.records import RowFault, Unreadable
from recsys_spark.ingest.values import identifier, is_blank, number, position, shown, text_of
from recsys_spark.warehouse.tables import ID_MAX_BYTES


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda text: not text.isspace())
)
def test_identifier_keeps_every_byte(text: str) -> None:
    assert identifier(text, "item_id").encode() == text.encode()


@given(st.integers(-(10**40), 10**40))
def test_identifier_writes_integers_as_decimals(value: int) -> None:
    assert identifier(value, "item_id") == str(value)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "\n", "\u00a0", True, False, 1.0, 12.5, [], {}, ["a"], "\ud800", b"\xff", Unreadable(), "x" * 257],
)
def test_identifier_refuses_what_is_no_id(value: object) -> None:
    with pytest.raises(RowFault) as caught:
        identifier(value, "item_id")
    assert caught.value.reason == "bad_item_id"


def test_identifier_measures_bytes_not_letters() -> None:
    assert identifier("é" * (ID_MAX_BYTES // 2), "user_id")
    with pytest.raises(RowFault, match="at most 256 bytes"):
        identifier("é" * (ID_MAX_BYTES // 2 + 1), "user_id")


def test_identifier_decodes_native_bytes() -> None:
    assert identifier("ü".encode(), "item_id") == "ü"


def test_is_blank_knows_what_was_not_given() -> None:
    assert [is_blank(value) for value in (None, "", "  ", 0, False, "x", [])] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("value", "as_text", "expected"),
    [(3, False, 3.0), (2.5, False, 2.5), (Decimal("2.5"), False, 2.5), ("2.5", True, 2.5), ("-1e3", True, -1000.0)],
)
def test_number_reads_numbers(value: object, as_text: bool, expected: float) -> None:
    assert number(value, "value", as_text) == expected


@pytest.mark.parametrize(
    ("value", "as_text"),
    [(value, False) for value in ("12", True, float("nan"), float("inf"), 10**400, [], Decimal("NaN"))]
    + [(value, True) for value in ("nan", "1_000", "", "12 EUR")],
)
def test_number_refuses_what_is_no_finite_number(value: object, as_text: bool) -> None:
    with pytest.raises(RowFault, match="bad_value"):
        number(value, "value", as_text)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**31, "3"])
def test_position_refuses_what_is_no_place_in_a_list(value: object) -> None:
    assert [position(place, False) for place in (1, 7, 2**31 - 1)] == [1, 7, 2**31 - 1]
    with pytest.raises(RowFault, match="bad_position"):
        position(value, False)


def test_text_of_writes_any_value() -> None:
    values = ["a", 1, 2.5, True, date(2025, 1, 2), {"b": [1], "a": None}, b"x"]
    assert [text_of(value, "attributes") for value in values] == [
        "a", "1", "2.5", "true", "2025-01-02", '{"a": null, "b": [1]}', "x",
    ]  # fmt: skip
    for value in ("\udfff", b"\xff", Unreadable()):
        with pytest.raises(RowFault, match="bad_attributes"):
            text_of(value, "attributes")


def test_text_of_writes_native_values_of_parquet() -> None:
    values = [
        Decimal("2.50"), timedelta(hours=1), time(3, 4), [date(2025, 1, 2), None], {"cost": Decimal("1.5")},
        [("ü", b"x"), (None, timedelta(seconds=1))],
    ]  # fmt: skip
    assert [text_of(value, "attributes") for value in values] == [
        "2.50", "1:00:00", "03:04:00", '["2025-01-02", null]', '{"cost": "1.5"}',
        '[["\\u00fc", "x"], [null, "0:00:01"]]',
    ]  # fmt: skip
    for value in ([Unreadable()], {"a": b"\xff"}):
        with pytest.raises(RowFault, match="bad_attributes"):
            text_of(value, "attributes")


def test_shown_is_one_short_ascii_line() -> None:
    assert shown("é\n" + "x" * 10_000).isascii()
    assert max(len(shown(value)) for value in ("x" * 10_000, 10**300, {"a": "b" * 500})) < 300
