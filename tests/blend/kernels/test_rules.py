"""What audiences may see, and the lists that they walk, against plain sets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from recsys_spark.blend.kernels import rules as rules_module
from recsys_spark.blend.kernels.rules import RuleBook, Rules, may_see, open_rules, split_lists
from recsys_spark.blend.kernels.walks import RankedLists, admit
from recsys_spark.errors import KernelError
from recsys_spark.ingest.rules import Rule
from recsys_spark.numeric.ragged import ragged
from tests.rule_oracle import IDS, N_ITEMS, SEGMENTS, User, World, admissible, compiled, targets, worlds


def ranked(lists: list[tuple[int, ...]]) -> RankedLists:
    rows = ragged(lists)
    return RankedLists(rows.indptr, rows.values.astype(np.int32), (10 - rows.positions).astype(np.float32))


def lists_of(lists: RankedLists) -> list[list[int]]:
    return [lists.items[first:last].tolist() for first, last in zip(lists.indptr[:-1], lists.indptr[1:], strict=True)]


def opened(world: World) -> tuple[Rules | None, RuleBook | None]:
    rules = compiled(world.rules)
    shown = np.isin(np.arange(N_ITEMS), list(world.shown))
    return rules, open_rules(rules, shown) if rules else None


def rule(kind: str, item: int, segment: str | None = None) -> Rule:
    return Rule(f"{kind} {item}", kind, item_id=IDS[item], segment=segment)


def book_of(*rules: Rule, n_items: int = N_ITEMS) -> RuleBook:
    compiled_rules = compiled(rules)
    assert compiled_rules
    return open_rules(compiled_rules, np.ones(n_items, bool))


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_may_see_and_shown_match_sets_of_items(world: World) -> None:
    rules, book = opened(world)
    if not rules or not book:
        return
    for audience, segment in enumerate((None, *rules.segments)):
        wanted = admissible(world, User(segment, (), ()))
        shown = np.flatnonzero(book.shown)
        seen = may_see(book.barred, np.full(len(shown), audience), shown)
        assert set(shown[seen].tolist()) == wanted
        pins = book.pins.items[book.pins.indptr[audience] : book.pins.indptr[audience + 1]].tolist()
        mine = [one for one in world.rules if one.kind == "pin" and one.segment in (None, segment)]
        assert len(set(pins)) == len(pins)
        assert set(pins) == {item for one in mine for item in targets(one)} & wanted


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_split_lists_gives_each_audience_what_it_may_see_in_order(world: World) -> None:
    rules, book = opened(world)
    if not rules or not book:
        return
    number = {segment: at for at, segment in enumerate(rules.segments, start=1)}
    audience_of = np.array([-1, *(number.get(segment, 0) for segment in world.near)])
    originals = admit(ranked([world.top, *world.near.values()]), book.shown)
    split, variants = split_lists(book, originals, audience_of)
    for segment in SEGMENTS:
        wanted = admissible(world, User(segment, (), ()))
        for at, (whose, items) in enumerate([(None, world.top), *world.near.items()]):
            if whose in (None, segment):
                row = variants[number.get(segment, 0), at]
                assert lists_of(split)[row] == [item for item in items if item in wanted]


def test_open_rules_tells_no_audiences_apart_when_all_see_the_same() -> None:
    assert book_of(rule("block", 1), Rule("a", "pin", item_id=IDS[2], segment="FR", position=1)).barred is None
    assert book_of(rule("block", 1), rule("allow", 2)).barred is None
    assert book_of(rule("block", 1), rule("block", 1, "FR")).barred is None
    assert book_of(rule("block", 1), rule("block", 2, "FR")).barred is not None


def test_may_see_tells_more_audiences_apart_than_a_byte_has_bits() -> None:
    book = book_of(*(rule("block", item, f"s{item:02}") for item in range(N_ITEMS)))
    for audience in range(N_ITEMS + 1):
        seen = may_see(book.barred, np.full(N_ITEMS, audience), np.arange(N_ITEMS))
        assert np.flatnonzero(~seen).tolist() == ([audience - 1] if audience else [])


def test_open_rules_passes_over_items_beyond_those_known() -> None:
    book = book_of(*(rule(kind, 9) for kind in ("block", "allow")), n_items=4)
    assert not book.shown.any()
    pinned = compiled((Rule("a", "pin", item_id=IDS[9], position=1), Rule("b", "boost", item_id=IDS[9], factor=2.0)))
    assert pinned
    book = open_rules(pinned, np.ones(9, bool))  # item 9 is the first beyond
    assert book.pins.items.tolist() == []
    assert book.boosts.cells.tolist() == []


def test_split_lists_copies_only_lists_that_lose_something() -> None:
    book = book_of(rule("block", 1, "FR"), rule("block", 5, "IS"))
    split, variants = split_lists(book, ranked([(1, 2), (3, 1), (4, 2)]), np.array([-1, 1, 2]))
    assert lists_of(split) == [[1, 2], [3, 1], [4, 2], [2], [3]]
    assert variants.tolist() == [[0, 1, 2], [3, 4, 2], [0, 1, 2]]


def test_open_rules_refuses_more_segments_than_memory_is_set_aside_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_MAX_BARRED_BYTES", N_ITEMS)
    seven = [rule("block", item, f"s{item}") for item in range(7)]
    assert book_of(*seven).barred is not None
    with pytest.raises(KernelError, match=r"rules: expected at most 7 segments with rules for 12 items, got 8; write"):
        book_of(*seven, replace(seven[0], rule_id="x", segment="s7"))
