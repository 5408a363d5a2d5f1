"""The form of a run id, which is all that stands between an argument and a condition in SQL."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.run_id import check_run_id, make_run_id


def test_make_run_id_says_day_attempt_and_fingerprint() -> None:
    assert make_run_id(date(2025, 1, 31), 2, "9f2c81aa77") == "20250131-002-9f2c81aa"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20250131-001-9f2c81aa\n",
        " 20250131-001-9f2c81aa",
        "20250131-001-9F2C81AA",
        "20250131-001-9f2c81aa' OR '1'='1",
        "../20250131-001-9f2c81aa",
        "20250131-1-9f2c81aa",
        "٢٠٢٥٠١٣١-٠٠١-9f2c81aa",
    ],
)
def test_check_run_id_refuses_what_is_not_one(text: str) -> None:
    with pytest.raises(ArgumentError, match="run_id: expected YYYYMMDD-NNN"):
        check_run_id(text)


@given(st.text(max_size=40))
def test_check_run_id_lets_nothing_through_that_could_end_a_string(text: str) -> None:
    try:
        checked = check_run_id(text)
    except ArgumentError:
        return
    assert set(checked) <= set("0123456789abcdef-")
