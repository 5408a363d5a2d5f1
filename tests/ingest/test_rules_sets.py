"""Files of rules taken in as sets, and the set of a date."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys_spark.errors import ArgumentError, ConfigError
from recsys_spark.ingest.rules import rules_of, take_in_rules
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import RULES

CSV = """\
rule_id,kind,item_id,category,segment,position,factor,ends_at,reason
recall,block,i7,,,,,,sent back
front,pin,i3,,FR,2,,2025-02-01T00:00:00Z,campaign
more,boost,,lamps,,,1.5,,
"""
JANUARY = date(2025, 1, 1)


def write(folder: Path, text: str, name: str = "rules.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def ids(root: Path, day: date) -> list[str]:
    return [rule.rule_id for rule in rules_of(root, day)[1]]


def test_a_file_is_the_set_from_its_date_on(root: Path, tmp_path: Path) -> None:
    assert rules_of(root, JANUARY) == ("", ())
    assert take_in_rules(root, write(tmp_path, CSV), JANUARY) == 3
    set_id, rules = rules_of(root, JANUARY)
    assert set_id
    assert [(rule.rule_id, rule.kind, rule.target) for rule in rules] == [
        ("front", "pin", ("item_id", "i3")),
        ("more", "boost", ("category", "lamps")),
        ("recall", "block", ("item_id", "i7")),
    ]
    assert (rules[0].position, rules[0].segment, rules[0].ends_at) == (2, "FR", datetime(2025, 2, 1, tzinfo=UTC))
    assert (rules[1].factor, rules[1].reason, rules[2].reason) == (1.5, "", "sent back")
    assert rules_of(root, date(2024, 12, 31)) == ("", ()), "not before its date"


def test_a_later_set_replaces_all_from_its_date_on_and_an_empty_one_ends_them(root: Path, tmp_path: Path) -> None:
    take_in_rules(root, write(tmp_path, CSV), JANUARY)
    lines = json.dumps({"rule_id": "only", "kind": "allow", "brand": "acme"}) + "\n\n"
    take_in_rules(root, write(tmp_path, lines, "rules.jsonl"), date(2025, 1, 10))
    take_in_rules(root, write(tmp_path, "", "rules.jsonl"), date(2025, 1, 20))
    assert [len(ids(root, date(2025, 1, day))) for day in (9, 10, 19, 20)] == [3, 1, 1, 0]
    assert len({rules_of(root, date(2025, 1, day))[0] for day in (9, 10, 20)}) == 3
    take_in_rules(root, write(tmp_path, CSV), date(2025, 1, 10))
    assert ids(root, date(2025, 1, 15)) == ["front", "more", "recall"], "of one date the newest holds"


def test_the_same_rules_are_the_same_set(root: Path, tmp_path: Path) -> None:
    take_in_rules(root, write(tmp_path, CSV), JANUARY)
    first = rules_of(root, JANUARY)
    take_in_rules(root, write(tmp_path, CSV), JANUARY)
    assert rules_of(root, JANUARY) == first


def test_nothing_is_taken_in_of_a_file_with_a_fault(root: Path, tmp_path: Path) -> None:
    path = write(tmp_path, CSV.replace("block", "blok").replace(",2,,2025", ",0,,2025"))
    with pytest.raises(ConfigError, match="row 1 rule_id=recall kind: ") as caught:
        take_in_rules(root, path, JANUARY)
    assert "row 2 rule_id=front position" in str(caught.value)
    assert read_rows(root, RULES) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rules.xlsx", "", "got '.xlsx'"),
        ("rules.jsonl", "[1]\n", r"line 1: expected one JSON object, got '\[1\]'"),
        ("rules.jsonl", "{\n", "line 1: expected one JSON object, got '{'"),
        ("rules.csv", "rule_id,kind,item_id\na,block,i1,x\n", "further columns"),
    ],
)
def test_a_file_that_is_no_list_of_rules_is_refused(
    root: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises((ArgumentError, ConfigError), match=message):
        take_in_rules(root, write(tmp_path, text, name), JANUARY)


def test_a_file_that_is_not_there_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"nothing\.csv: expected rules as .* correct the path"):
        take_in_rules(root, tmp_path / "nothing.csv", JANUARY)
