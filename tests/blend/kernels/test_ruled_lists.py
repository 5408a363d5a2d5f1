"""Lists with rules against a plain loop, and each rule of precedence by an example."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from recsys_spark.blend.kernels.fusion import Fused, Pool, fuse, pool_rrf
from recsys_spark.blend.kernels.ruled_lists import boost_totals, fuse_boosted, pins_of, place_pins
from recsys_spark.blend.kernels.rules import Effects, RuleBook, Rules, may_see, open_rules, split_lists
from recsys_spark.blend.kernels.walks import RankedLists, admit, index_shared, keep_values, walk_own, walk_shared
from recsys_spark.ingest.rules import Rule
from recsys_spark.numeric.ragged import Ragged, ragged
from tests.rule_oracle import IDS, N_ITEMS, RRF_K, Listed, User, World, admissible, compiled, expected, worlds

NO_EFFECTS = Effects(*(np.zeros(0, np.int32) for _ in range(3)), np.zeros(0))
NO_CELLS = np.zeros(0, np.int64)
NO_RULES = Rules((), (), NO_CELLS, NO_CELLS, np.zeros(1, bool), NO_EFFECTS, NO_EFFECTS)


def ranked(lists: list[tuple[int, ...]]) -> RankedLists:
    """The lists, scored 10, 9, 8 and so on."""
    rows = ragged(lists)
    return RankedLists(rows.indptr, rows.values.astype(np.int32), (10 - rows.positions).astype(np.float32))


def with_rules(
    book: RuleBook, audiences: np.ndarray, excluded: Ragged, pool: Pool, totals: np.ndarray, *rest: int
) -> Fused:
    boosted, (k, n_columns) = boost_totals(book, audiences, pool, totals), rest
    pins = pins_of(book, audiences, excluded, k)
    fused = fuse_boosted(book, audiences, pins, pool, boosted, k, n_columns)
    return place_pins(fused, pins, pool, boosted, k, n_columns, np.zeros(len(fused.items), bool))


def blended(world: World) -> tuple[Fused, tuple[str, ...]]:
    """Columns near, own and top; the second are their names and those of rules."""
    rules = compiled(world.rules) or NO_RULES
    book = open_rules(rules, np.isin(np.arange(N_ITEMS), list(world.shown)))
    segments = [user.segment for user in world.users]
    audiences = np.array([rules.segments.index(one) + 1 if one in rules.segments else 0 for one in segments])
    excluded = ragged([user.excluded for user in world.users])
    near = [rules.segments.index(one) + 1 if one in rules.segments else 0 for one in world.near]
    lists = admit(ranked([world.top, *world.near.values()]), book.shown)
    lists, variants = split_lists(book, lists, np.array([-1, *near]))
    shared = index_shared(lists)
    at = np.array([list(world.near).index(one) + 1 if one in world.near else -1 for one in segments])
    own = admit(ranked([user.own for user in world.users]), book.shown)
    own = keep_values(own, may_see(book.barred, np.repeat(audiences, np.diff(own.indptr)), own.items))
    walked = [
        walk_shared(shared, np.where(at < 0, -1, variants[audiences, at]), excluded, world.k),
        walk_own(own, np.arange(len(world.users)), excluded, world.k),
        walk_shared(shared, variants[audiences, 0], excluded, world.k),
    ]
    pool, totals = pool_rrf(walked, [1.0] * 3, RRF_K)
    fused = with_rules(book, audiences, excluded, pool, totals, world.k, 3)
    return fused, ("near", "own", "top", *(f"rule/{rule_id}" for rule_id in rules.rule_ids))


def found(world: World) -> list[Listed]:
    fused, names = blended(world)
    users = []
    for first, last in zip(fused.indptr[:-1], fused.indptr[1:], strict=True):
        assert fused.ranks[first:last].tolist() == list(range(1, last - first + 1))
        rows = []
        for at in range(first, last):
            of_item = slice(fused.source_indptr[at], fused.source_indptr[at + 1])
            reasons = [
                (names[column], rank, score)
                for column, rank, score in zip(
                    fused.columns[of_item].tolist(),
                    fused.source_ranks[of_item].tolist(),
                    fused.source_scores[of_item].tolist(),
                    strict=True,
                )
            ]
            rows.append((int(fused.items[at]), float(fused.scores[at]), reasons))
        users.append(rows)
    return users


@given(worlds())
@settings(max_examples=600, deadline=None)
def test_ruled_lists_match_a_plain_loop_and_are_of_contract_form(world: World) -> None:
    for user, answer in zip(world.users, found(world), strict=True):
        oracle = expected(world, user)
        assert [(item, why) for item, _, why in answer] == [(item, why) for item, _, why in oracle]
        # float32 keeps 24 bits of a score.
        np.testing.assert_allclose([one[1] for one in answer], [one[1] for one in oracle], rtol=2**-23)
        assert_of_contract_form(world, user, answer)


def assert_of_contract_form(world: World, user: User, answer: Listed) -> None:
    listed = [item for item, _, _ in answer]
    left = admissible(world, user)
    assert set(listed) <= left
    assert len(set(listed)) == len(listed) <= world.k
    proposed = left & {*user.own, *world.top, *world.near.get(user.segment or "", ())}
    assert len(listed) >= min(world.k, len(proposed))
    scores = [score for _, score, _ in answer]
    assert scores == sorted(scores, reverse=True)
    assert all(why for _, _, why in answer)


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_a_user_has_the_same_ruled_list_in_any_block(world: World) -> None:
    together = found(world)
    for user, answer in zip(world.users, together, strict=True):
        assert found(replace(world, users=(user,))) == [answer]


def small(*rules: Rule, top: tuple[int, ...] = (1, 2, 3, 4, 5), k: int = 3, user: User | None = None) -> World:
    one = user or User("FR", (), ())
    return World((one,), {}, top, frozenset(range(N_ITEMS)), rules, k)


def items_of(*rules: Rule, top: tuple[int, ...] = (1, 2, 3, 4, 5), k: int = 3, user: User | None = None) -> list[int]:
    return [item for item, _, _ in found(small(*rules, top=top, k=k, user=user))[0]]


def pin(rule_id: str, item: int, position: int, segment: str | None = None) -> Rule:
    return Rule(rule_id, "pin", item_id=IDS[item], position=position, segment=segment)


def boost(rule_id: str, item: int, factor: float, segment: str | None = None) -> Rule:
    return Rule(rule_id, "boost", item_id=IDS[item], factor=factor, segment=segment)


def block(rule_id: str, item: int, segment: str | None = None) -> Rule:
    return Rule(rule_id, "block", item_id=IDS[item], segment=segment)


def allow(rule_id: str, item: int, segment: str | None = None) -> Rule:
    return Rule(rule_id, "allow", item_id=IDS[item], segment=segment)


@pytest.mark.parametrize("segment", [None, "FR"])
def test_block_leaves_an_item_out_and_refills(segment: str | None) -> None:
    assert items_of(block("a", 2, segment)) == [1, 3, 4]
    assert items_of(block("a", 2, "DE")) == [1, 2, 3]


def test_allow_leaves_out_what_no_rule_names() -> None:
    assert items_of(allow("a", 4, "FR")) == [4]
    assert items_of(allow("a", 4, "DE")) == [1, 2, 3]


def test_allow_rules_for_everybody_and_for_the_segment_add_up() -> None:
    assert items_of(allow("a", 4), allow("b", 2, "FR"), allow("c", 1, "DE")) == [2, 4]


def test_allow_of_an_unknown_item_leaves_nothing() -> None:
    assert items_of(Rule("a", "allow", brand="unknown")) == []


@pytest.mark.parametrize(("block_for", "allow_for"), [(None, "FR"), ("FR", None)])
def test_block_comes_before_allow_whatever_their_segments(block_for: str | None, allow_for: str | None) -> None:
    assert items_of(block("z", 2, block_for), allow("a", 2, allow_for), allow("b", 3, allow_for)) == [3]


def test_block_comes_before_pin_and_boost() -> None:
    assert items_of(block("z", 2, "FR"), pin("a", 2, 1), boost("b", 2, 8.0)) == [1, 3, 4]


def test_allow_comes_before_pin() -> None:
    assert items_of(allow("a", 1), allow("b", 2), pin("c", 9, 1, "FR")) == [1, 2]


def test_pin_comes_before_boost() -> None:
    assert items_of(boost("a", 3, 100.0), pin("b", 3, 2)) == [1, 3, 2]


def test_pin_does_not_bring_back_what_the_user_excluded() -> None:
    assert items_of(pin("a", 2, 1), user=User("FR", (2,), ())) == [1, 3, 4]


def test_pin_does_not_bring_back_what_may_not_be_shown() -> None:
    world = replace(small(pin("a", 9, 1), boost("b", 9, 2.0)), shown=frozenset({1, 2}))
    assert [item for item, _, _ in found(world)[0]] == [1, 2]


def test_boost_comes_before_the_cut_and_keeps_its_rule() -> None:
    rule = boost("a", 3, 1.5)  # 1.5 / 63 is more than 1 / 61
    assert found(small(rule, k=3))[0][0][2] == [("top", 3, 8.0), ("rule/a", 1, 1.5)]
    both = (1, 2, 3, 4)
    assert items_of(boost("a", 4, 64.0), user=User("FR", (), both), top=both, k=4) == [4, 1, 2, 3]


def test_boosts_of_one_item_multiply() -> None:
    # Each alone is not enough: 0.5 * 3 / 63 is more than 1 / 61, and 3 for another segment does nothing.
    rules = (boost("a", 3, 0.5), boost("b", 3, 3.0, "FR"), boost("c", 3, 0.001, "DE"))
    (answer,) = found(small(*rules))
    assert [item for item, _, _ in answer] == [3, 1, 2]
    assert answer[0][1] == pytest.approx(1.5 / 63, rel=2**-23)
    assert [why[0] for why in answer[0][2]] == ["top", "rule/a", "rule/b"]


def test_boost_never_lowers_an_item_whose_total_is_beyond_the_limit() -> None:
    pool = Pool(1, *(np.array(one) for one in ([0, 0], [1, 2], [0, 1], [1, 1], [0, 0], [1, 2], [1.0, 1.0])))
    totals = np.array([2**47, 2**47 - 1])
    book = open_rules(compiled((boost("a", 1, 2.0),)) or NO_RULES, np.ones(N_ITEMS, bool))
    fused = with_rules(book, np.zeros(1, np.int64), ragged([[]]), pool, totals, 2, 1)
    assert fused.items.tolist() == [1, 2]
    assert fused.scores[0] == 2**47 / 2**40


def test_boosts_that_overflow_end_at_the_limit() -> None:
    rules = tuple(boost(f"r{number:03}", 2, 1000.0) for number in range(150))
    (answer,) = found(small(*rules))
    assert answer[0][:2] == (2, 64.0)
    pool = Pool(1, *(np.array(one) for one in ([0], [2], [0], [1], [0], [1], [1.0])))
    book = open_rules(compiled(rules) or NO_RULES, np.ones(N_ITEMS, bool))
    fused = with_rules(book, np.zeros(1, np.int64), ragged([[]]), pool, np.zeros(1, np.int64), 2, 1)
    assert fused.scores.tolist() == [0.0]


def test_pin_stands_at_its_position_and_others_move_down() -> None:
    (answer,) = found(small(pin("a", 9, 2)))
    assert [item for item, _, _ in answer] == [1, 9, 2]
    assert answer[1][2] == [("rule/a", 2, 0.0)]
    # The pinned item has the score of the best one after it.
    np.testing.assert_allclose([score for _, score, _ in answer], [1 / 61, 1 / 62, 1 / 62], rtol=2**-23)


def test_pin_keeps_what_lists_said_of_an_item_beyond_the_cut() -> None:
    both = (1, 2, 3)
    (answer,) = found(small(pin("a", 6, 1), top=both, k=3, user=User("FR", (), (1, 2, 6))))
    assert [item for item, _, _ in answer] == [6, 1, 2]
    assert answer[0][2] == [("own", 3, 8.0), ("rule/a", 1, 0.0)]


def test_pin_can_move_an_item_down() -> None:
    (answer,) = found(small(pin("a", 1, 3)))
    assert [item for item, _, _ in answer] == [2, 3, 1]
    np.testing.assert_allclose([score for _, score, _ in answer], [1 / 61] * 3, rtol=2**-23)


def test_pin_beyond_the_end_goes_to_the_end() -> None:
    assert items_of(pin("a", 9, 50)) == [1, 2, 9]
    assert items_of(pin("a", 9, 50), top=(1,)) == [1, 9]
    assert items_of(pin("b", 9, 50), pin("a", 8, 50), pin("c", 7, 60), k=4) == [1, 8, 9, 7]


def test_pin_of_the_smaller_rule_id_has_the_position_and_the_other_takes_the_next() -> None:
    assert items_of(pin("b", 8, 1), pin("a", 9, 1)) == [9, 8, 1]
    # In the order of bytes capital letters come first.
    assert items_of(pin("a", 8, 1), pin("Z", 9, 1)) == [9, 8, 1]


def test_pin_takes_the_next_position_that_is_free() -> None:
    assert items_of(pin("a", 8, 1), pin("b", 9, 1), pin("c", 7, 2), k=4) == [8, 9, 7, 1]
    assert items_of(pin("a", 8, 1), pin("b", 9, 3), k=4) == [8, 1, 9, 2]


def test_pin_of_the_segment_comes_before_one_for_everybody() -> None:
    assert items_of(pin("a", 8, 1), pin("b", 9, 1, "FR"), pin("c", 7, 1, "DE")) == [9, 8, 1]


def test_pin_of_an_item_that_is_pinned_twice_is_the_first() -> None:
    (answer,) = found(small(pin("a", 9, 3), pin("b", 9, 2, "FR")))
    assert [item for item, _, _ in answer] == [1, 9, 2]
    assert answer[1][2] == [("rule/b", 2, 0.0)]


def test_pins_fill_a_list_that_no_source_proposes_anything_for() -> None:
    assert items_of(pin("a", 9, 4), pin("b", 8, 1), top=()) == [8, 9]


def test_pins_beyond_the_length_of_a_list_are_left_out() -> None:
    assert items_of(*(pin(f"r{item}", item, 1) for item in range(6, 10))) == [6, 7, 8]


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_ruled_lists_without_rules_are_those_of_fuse(world: World) -> None:
    book: RuleBook = open_rules(NO_RULES, np.ones(N_ITEMS, bool))
    excluded = ragged([user.excluded for user in world.users])
    walked = [walk_own(ranked([user.own for user in world.users]), np.arange(len(world.users)), excluded, world.k)]
    pool, totals = pool_rrf(walked, [1.0], RRF_K)
    ruled = with_rules(book, np.zeros(len(world.users), np.int64), excluded, pool, totals, world.k, 1)
    plain = fuse(pool, totals, world.k)
    for name in plain.__dataclass_fields__:
        left, right = getattr(ruled, name), getattr(plain, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
