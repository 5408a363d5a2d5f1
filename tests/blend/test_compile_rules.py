"""Rules of the catalogue as sets of items."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.blend.compile_rules import Targets, compile_rules
from recsys_spark.blend.kernels.walks import cells_of
from recsys_spark.ingest.rules import Rule

CUTOFF = datetime(2025, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
CATALOGUE = Targets(
    item_idx=np.array([4, 2, 7], np.int32),
    item_id=["shirt", "hat", "shoe"],
    category=["tops", None, "shoes"],
    brand=["acme", "acme", None],
)


def cells(*pairs: tuple[int, int]) -> list[int]:
    return [int(cells_of(np.array(audience), np.array(item))) for audience, item in pairs]


def window(rule_id: str, starts: int, ends: int, **target: str) -> Rule:
    """A window from and to so many days after the cutoff."""
    return Rule(rule_id, "available", starts_at=CUTOFF + starts * DAY, ends_at=CUTOFF + ends * DAY, **target)


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
