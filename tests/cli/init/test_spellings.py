"""The tables of spellings are usable as they stand."""

from typing import Any

import pytest

from recsys_spark.cli.init.column_profile import Profile, words
from recsys_spark.cli.init.spellings import REQUIRED, RULES
from recsys_spark.config.schema import EventColumns, ItemColumns, UserColumns


@pytest.mark.parametrize(("feed", "model"), [("events", EventColumns), ("items", ItemColumns), ("users", UserColumns)])
def test_rules_name_exactly_the_columns_of_the_settings(feed: Any, model: Any) -> None:
    assert set(RULES[feed]) == set(model.model_fields)
    assert set(REQUIRED[feed]) <= set(RULES[feed])


def test_rules_spell_names_as_words_joins_them() -> None:
    for rules in RULES.values():
        for rule in rules.values():
            assert all("".join(words(spelling)) == spelling for spelling in rule.spellings)


@pytest.mark.parametrize(
    ("ours", "good", "bad"),
    [
        ("event_id", ("a", "b"), ("a", "a")),
        ("position", (1, 2, 30), (1.5, 2)),
        ("position", ("1", "2"), (0, 1)),
        ("propensity", (0.1, 1.0), (0.1, 1.1)),
        ("value", ("1.5", 2), ("x",)),
        ("event_time", ("2024-01-02", "2024-01-03"), ("12:30",)),
        ("event_type", ("view",) * 9, (1.5,) * 9),
        ("user_id", ("a", 5), (5.5,)),
    ],
)
def test_rules_check_the_values(ours: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    check = RULES["events"][ours].check
    assert check(Profile("c", len(good), good))
    assert not check(Profile("c", len(bad), bad))


def test_rules_take_no_event_id_when_some_lines_have_none() -> None:
    assert not RULES["events"]["event_id"].check(Profile("c", 3, ("a", "b")))
