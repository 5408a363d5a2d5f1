"""Rows of rules: what is read, every fault by its text, times in force, and targets as items."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from recsys_spark.errors import ConfigError
from recsys_spark.kernels.list_walks import cells_of
from recsys_spark.rule_set import Catalogue, Rule, compile_rules, in_force, parse_rules

CUTOFF = datetime(2025, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
CATALOGUE = Catalogue(
    item_idx=np.array([4, 2, 7], np.int32),
    item_id=["shirt", "hat", "shoe"],
    category=["tops", None, "shoes"],
    brand=["acme", "acme", None],
)


def parse(**row: Any) -> Rule:
    (rule,) = parse_rules([row], "rules.csv")
    return rule


def cells(*pairs: tuple[int, int]) -> list[int]:
    return [int(cells_of(np.array(audience), np.array(item))) for audience, item in pairs]


def test_parse_rules_reads_text_as_a_file_has_it() -> None:
    assert parse(
        rule_id="r1", kind="pin", item_id="shirt", category="", brand=" ", segment="FR", position="3", factor=None,
        starts_at="2025-01-01T00:00:00Z", ends_at="2025-02-01T00:00:00+01:00", reason="campaign",
    ) == Rule(
        "r1", "pin", item_id="shirt", segment="FR", position=3, starts_at=datetime(2025, 1, 1, tzinfo=UTC),
        ends_at=datetime(2025, 1, 31, 23, tzinfo=UTC), reason="campaign",
    )  # fmt: skip


def test_parse_rules_reads_values_as_a_frame_has_them() -> None:
    rule = parse(rule_id=7, kind="boost", brand="acme", position=float("nan"), factor=1.5, starts_at=CUTOFF)
    assert rule == Rule("7", "boost", brand="acme", factor=1.5, starts_at=CUTOFF)
    assert parse(rule_id="a", kind="pin", item_id="hat", position=2.0).position == 2


def test_parse_rules_gives_rules_in_the_order_of_their_ids() -> None:
    rows = [{"rule_id": name, "kind": "block", "item_id": "hat"} for name in ("b", "é", "a", "Z")]
    assert [rule.rule_id for rule in parse_rules(rows, "rules.csv")] == ["Z", "a", "b", "é"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "hide"}, "kind: expected one of block, allow, boost, pin, available, got 'hide'; correct it"),
        ({"kind": None}, "kind: expected a value, got none; add it"),
        ({"item_id": None}, "target: expected one of item_id, category, brand, got none; write one rule for each"),
        ({"brand": "acme"}, "target: expected one of item_id, category, brand, got item_id and brand; write one rule"),
        ({"kind": "pin"}, "position: expected a value for a pin, got none; add it"),
        ({"kind": "pin", "position": 0}, "position: expected a whole number from 1, got 0; correct it"),
        ({"kind": "pin", "position": "1.5"}, "position: expected a whole number from 1, got '1.5'; correct it"),
        ({"kind": "pin", "position": True}, "position: expected a whole number from 1, got True; correct it"),
        ({"kind": "pin", "position": 2**31}, "position: expected a whole number from 1, got 2147483648; correct it"),
        ({"position": 2}, "position: expected none for kind block, got 2; take it out, or write a pin"),
        (
            {"kind": "pin", "position": 1, "item_id": None, "category": "tops"},
            "target: expected item_id for a pin, got category; boost the category, or pin its items",
        ),
        ({"kind": "boost"}, "factor: expected a value for a boost, got none; add it"),
        ({"kind": "boost", "factor": 0}, "factor: expected a number above 0, at most 1000, got 0; correct it"),
        ({"kind": "boost", "factor": "-1"}, "factor: expected a number above 0, at most 1000, got '-1'; correct it"),
        ({"kind": "boost", "factor": "inf"}, "factor: expected a number above 0, at most 1000, got 'inf'; correct it"),
        ({"kind": "boost", "factor": "x"}, "factor: expected a number above 0, at most 1000, got 'x'; correct it"),
        ({"factor": 2.0}, "factor: expected none for kind block, got 2.0; take it out, or write a boost"),
        (
            {"starts_at": CUTOFF, "ends_at": CUTOFF},
            "ends_at: expected a time after starts_at, got 2025-01-31T00:00:00+00:00 and 2025-01-31T00:00:00+00:00; ",
        ),
        (
            {"ends_at": "2025-01-31"},
            "ends_at: expected a time with a zone such as 2025-01-31T00:00:00Z, got '2025-01-31'; correct it",
        ),
        ({"starts_at": "soon"}, "starts_at: expected a time with a zone such as 2025-01-31T00:00:00Z, got 'soon'; "),
        ({"kind": "available"}, "starts_at: expected starts_at or ends_at for kind available, got none; a window has"),
        ({"segment": 1.5}, "segment: expected text, got 1.5; correct it"),
        (
            {"colour": "red"},
            "colour: expected a known field, got one of another name; known are rule_id, kind, item_id",
        ),
    ],
)
def test_parse_rules_names_the_fault(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**{"rule_id": "r1", "kind": "block", "item_id": "hat", **changes})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"rules.csv row 1 rule_id=r1 {fault}")


def test_parse_rules_names_the_faults_of_all_rows() -> None:
    rows = [
        {"kind": "block", "item_id": "hat"},
        {"rule_id": "a", "kind": "boost", "position": 3},
        {"rule_id": "b", "kind": "block", "item_id": "hat"},
        {"rule_id": "b", "kind": "block", "item_id": "shoe"},
    ]
    with pytest.raises(ConfigError) as caught:
        parse_rules(rows, "rules.csv")
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
        "rules.csv row 1 rule_id",
        "rules.csv row 2 rule_id=a target",
        "rules.csv row 2 rule_id=a position",
        "rules.csv row 2 rule_id=a factor",
        "rules.csv row 4 rule_id=b rule_id",
    ]


@pytest.mark.parametrize(
    ("starts_at", "ends_at", "is_in_force"),
    [
        (None, None, True),
        (CUTOFF, None, True),
        (CUTOFF + DAY, None, False),
        (None, CUTOFF, False),
        (None, CUTOFF + DAY, True),
        (CUTOFF - DAY, CUTOFF + DAY, True),
    ],
)
def test_in_force_is_from_its_start_to_before_its_end(
    starts_at: datetime | None, ends_at: datetime | None, is_in_force: bool
) -> None:
    rule = Rule("a", "block", item_id="hat", starts_at=starts_at, ends_at=ends_at)
    assert in_force([rule], CUTOFF) == ((rule,) if is_in_force else ())


def test_compile_rules_finds_the_items_of_every_kind_of_target() -> None:
    rules = (
        Rule("a", "block", category="tops"),
        Rule("b", "block", brand="acme", segment="FR"),
        Rule("c", "allow", item_id="shoe", segment="DE"),
        Rule("d", "boost", brand="acme", factor=2.5),
        Rule("e", "pin", item_id="hat", position=3, segment="FR"),
    )
    compiled = compile_rules(rules[::-1], CATALOGUE, CUTOFF)
    found = compiled.rules
    assert found is not None
    assert (found.rule_ids, found.segments) == (("a", "b", "c", "d", "e"), ("DE", "FR"))
    assert found.blocked.tolist() == cells((0, 4), (2, 2), (2, 4))
    assert found.allowed.tolist() == cells((1, 7))
    assert found.restricted.tolist() == [False, True, False]
    assert [one.tolist() for one in vars(found.boosts).values()] == [[0, 0], [4, 2], [3, 3], [2.5, 2.5]]
    assert [one.tolist() for one in vars(found.pins).values()] == [[2], [2], [4], [3.0]]
    assert (compiled.n_in_force, compiled.without_items) == (5, ())


def test_compile_rules_counts_rules_of_unknown_items() -> None:
    rules = (
        Rule("a", "block", item_id="tops"),
        Rule("b", "boost", brand="none", factor=2.0),
        Rule("c", "allow", item_id="x"),
    )
    compiled = compile_rules(rules, CATALOGUE, CUTOFF)
    assert compiled.without_items == ("a", "b", "c")
    assert compiled.rules is not None
    assert compiled.rules.restricted.tolist() == [True]  # an allow rule holds, though its item is not known


def test_compile_rules_gives_none_when_nothing_is_in_force() -> None:
    rules = (
        Rule("a", "block", item_id="hat", ends_at=CUTOFF),
        Rule("b", "available", item_id="hat", starts_at=CUTOFF),
    )
    compiled = compile_rules(rules, CATALOGUE, CUTOFF)
    assert (compiled.rules, compiled.n_in_force) == (None, 1)


def window(rule_id: str, starts: int, ends: int, **target: str) -> Rule:
    """A window from and to so many days after the cutoff."""
    return Rule(rule_id, "available", starts_at=CUTOFF + starts * DAY, ends_at=CUTOFF + ends * DAY, **target)


@pytest.mark.parametrize(
    ("windows", "blocked"),
    [
        ([window("a", 0, 1, item_id="hat")], []),
        ([window("a", 1, 2, item_id="hat")], cells((0, 2))),
        ([window("a", -2, 0, brand="acme")], cells((0, 2), (0, 4))),
        ([window("a", -2, -1, item_id="hat"), window("b", -1, 1, item_id="hat")], []),
        ([window("a", -2, -1, brand="acme"), window("b", -1, 1, item_id="hat")], cells((0, 4))),
        ([window("a", -2, -1, item_id="hat"), window("b", -1, 1, item_id="hat", segment="FR")], cells((0, 2))),
        ([window("a", -2, -1, item_id="hat", segment="FR")], cells((1, 2))),
    ],
)
def test_compile_rules_blocks_items_outside_all_their_windows(windows: list[Rule], blocked: list[int]) -> None:
    found = compile_rules(windows, CATALOGUE, CUTOFF).rules
    assert (found.blocked.tolist() if found else []) == blocked
