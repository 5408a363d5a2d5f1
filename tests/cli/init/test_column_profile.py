"""A profile says what the values of a column can be, and no more."""

from typing import Any

import pytest

from recsys_spark.cli.init.column_profile import Profile, profile_columns, words


def profile(*values: Any) -> Profile:
    return Profile("c", len(values), values)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("visitorId", ("visitor", "id")),
        ("VISITOR_ID", ("visitor", "id")),
        ("visitor.id", ("visitor", "id")),
        ("userID", ("user", "id")),
        ("", ()),
        ("isbn13", ("isbn", "13")),
        ("用户", ("用户",)),
    ],
)
def test_words_splits_every_way_of_joining(name: str, expected: tuple[str, ...]) -> None:
    assert words(name) == expected


def test_profile_columns_counts_null_and_blank_as_no_value() -> None:
    columns = profile_columns([{"a": 1, "b": " "}, {"a": None}, {"c": "x"}], as_text=True)
    assert {name: column.values for name, column in columns.items()} == {"a": (1,), "b": (), "c": ("x",)}
    assert columns["a"].n_rows == 3


@pytest.mark.parametrize(
    ("values", "is_id"),
    [(("a", 1), True), ((), False), ((1.0,), False), ((True,), False), (([1],), False), (({"a": 1},), False)],
)
def test_profile_is_id_when_text_or_whole_numbers(values: tuple[Any, ...], is_id: bool) -> None:
    assert profile(*values).is_id is is_id


@pytest.mark.parametrize(
    ("values", "numbers"),
    [(("1", 2.5), (1.0, 2.5)), (("1", "x"), ()), ((True,), ()), (([1],), ()), ((), ())],
)
def test_profile_numbers_are_empty_unless_all_are_numbers(values: tuple[Any, ...], numbers: tuple[float, ...]) -> None:
    assert profile(*values).numbers == numbers


def test_profile_numbers_are_no_text_when_the_format_knows_numbers() -> None:
    assert Profile("c", 1, ("1",), as_text=False).numbers == ()
    assert Profile("c", 1, (1,), as_text=False).numbers == (1.0,)


def test_profile_is_unique_only_when_no_value_comes_twice() -> None:
    assert profile("a", "b").is_unique
    assert not profile("a", "b", "a").is_unique
    assert not profile("a").is_unique  # one value is no evidence


def test_profile_is_kind_when_few_values_come_again() -> None:
    assert profile(*["view", "buy"] * 10).is_kind
    assert profile("view").is_kind
    assert not profile(*[str(n) for n in range(40)]).is_kind
    assert not profile(*["x" * 65] * 10).is_kind
    assert not profile(*[1.5] * 10).is_kind
