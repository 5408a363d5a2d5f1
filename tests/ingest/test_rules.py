"""Rows of rules: what is read, every fault by its text, times in force, and targets as items."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recsys_spark.errors import ConfigError
from recsys_spark.ingest.rules import Rule, in_force, parse_rules

CUTOFF = datetime(2025, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)


def parse(**row: Any) -> Rule:
    (rule,) = parse_rules([row], "rules.csv")
    return rule


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
