import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.exploration import (
    Drawing,
    Explored,
    FreshItems,
    Merged,
    Prior,
    Samples,
    _hidden_places,
    assign_samples,
    draw_samples,
    explore,
    global_prior,
    merge_explored,
    slots,
)
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, ragged

EVERYTHING = Drawing(Prior(1.0, 1.0), floor_rate=0.0, min_chance=0.0)


@dataclass
class Case:
    """Samples of the fresh items, users with a sample and two sets of hidden items (-1: no index), m."""

    samples: Samples
    sample_of: list[int]
    excluded: list[list[int]]
    listed: list[list[int]]
    m: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    items = sorted(draw(st.sets(st.integers(0, 15), max_size=8)))
    orders = draw(st.lists(st.permutations(range(len(items))), min_size=1, max_size=5))
    n_users = draw(st.integers(1, 4))
    hidden = st.lists(st.integers(-1, 17), max_size=8)
    return Case(
        samples=Samples(np.array(items, np.int32), np.array(orders, np.int32).reshape(len(orders), len(items))),
        sample_of=[draw(st.integers(0, len(orders) - 1)) for _ in range(n_users)],
        excluded=[sorted(set(draw(hidden))) for _ in range(n_users)],
        listed=[draw(hidden) for _ in range(n_users)],
        m=draw(st.integers(0, 5)),
    )


def run(case: Case) -> Explored:
    return explore(case.samples, np.array(case.sample_of), [ragged(case.excluded), ragged(case.listed)], case.m)


def expected(case: Case) -> list[list[tuple[int, float]]]:
    """Per user the (item, propensity) that loops over every sample find."""
    answer = []
    for sample, excluded, listed in zip(case.sample_of, case.excluded, case.listed, strict=True):
        firsts = []
        for order in case.samples.order:
            seen = [int(case.samples.items[place]) for place in order]
            firsts.append([item for item in seen if item not in excluded and item not in listed][: case.m])
        answer.append([(item, sum(item in first for first in firsts) / len(firsts)) for item in firsts[sample]])
    return answer


def found(explored: Explored) -> list[list[tuple[int, float]]]:
    """Per user the (item, propensity); asserts that a row is filled up only after its last item."""
    users = []
    for items, propensities in zip(explored.items.tolist(), explored.propensities.tolist(), strict=True):
        size = sum(item != -1 for item in items)
        assert items[size:] == [-1] * (len(items) - size)
        assert propensities[size:] == [0.0] * (len(items) - size)
        users.append(list(zip(items[:size], propensities[:size], strict=True)))
    return users


def fresh(*counts: tuple[int, int]) -> FreshItems:
    """Items 0, 1, ... with (successes, trials)."""
    successes, trials = np.array(counts, np.int64).reshape(len(counts), 2).T
    return FreshItems(np.arange(len(counts), dtype=np.int32), successes, trials)


@given(cases())
@settings(max_examples=300, deadline=None)
def test_explore_matches_loops_over_every_sample(case: Case) -> None:
    answer, oracle = found(run(case)), expected(case)
    assert [[item for item, _ in user] for user in answer] == [[item for item, _ in user] for user in oracle]
    for user, wanted in zip(answer, oracle, strict=True):
        # float32 keeps 24 bits of a share.
        np.testing.assert_allclose([chance for _, chance in user], [chance for _, chance in wanted], rtol=2**-23)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_explore_gives_a_user_the_same_items_in_any_block(case: Case) -> None:
    together = found(run(case))
    for user, explored in enumerate(together):
        alone = Case(case.samples, [case.sample_of[user]], [case.excluded[user]], [case.listed[user]], case.m)
        assert found(run(alone)) == [explored]


@given(cases())
@settings(max_examples=100, deadline=None)
def test_explore_propensities_of_the_admissible_sum_to_the_number_explored(case: Case) -> None:
    # One user for each sample, nothing else different: together they are shown all that can be shown.
    n_samples = len(case.samples.order)
    everyone = Case(
        case.samples, list(range(n_samples)), [case.excluded[0]] * n_samples, [case.listed[0]] * n_samples, case.m
    )
    rows = found(run(everyone))
    n_admissible = len(set(case.samples.items.tolist()) - {*case.excluded[0], *case.listed[0]})
    chances = {item: chance for row in rows for item, chance in row}
    # At most 8 items, each rounded to 24 bits.
    np.testing.assert_allclose(sum(chances.values()), min(case.m, n_admissible), rtol=8 * 2**-24)


def test_explore_counts_the_samples_that_would_show_the_item() -> None:
    samples = Samples(
        np.array([10, 20, 30], np.int32), np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]], np.int32)
    )
    answer = found(explore(samples, np.array([0, 0]), [ragged([[], [10]])], 1))
    # Item 10 is first in two of four; without it item 20 is first in the first two, item 30 in the last two.
    assert answer == [[(10, 2 / 4)], [(20, 2 / 4)]]
    assert found(explore(samples, np.array([3, 3]), [ragged([[], [10]])], 2)) == [
        [(10, 3 / 4), (30, 2 / 4)],
        [(30, 4 / 4), (20, 4 / 4)],
    ]


def test_explore_gives_nothing_when_there_are_no_fresh_items() -> None:
    samples = Samples(np.zeros(0, np.int32), np.zeros((4, 0), np.int32))
    assert found(explore(samples, np.array([0, 3]), [ragged([[-1], [5]])], 2)) == [[], []]
    assert found(explore(samples, np.array([1]), [], 2)) == [[]]
    # An index that is none must not be found at the end of no items: the walk does not check its bounds.
    assert _hidden_places(samples.items, [ragged([[-1], [5]])], 2)[1].tolist() == []


def test_explore_refuses_hidden_items_of_other_users() -> None:
    samples = Samples(np.array([1], np.int32), np.array([[0]], np.int32))
    with pytest.raises(KernelError, match="expected a row for each of 2 users, got 1"):
        explore(samples, np.array([0, 0]), [ragged([[1], []]), ragged([[1]])], 1)


def test_draw_samples_has_the_mean_and_spread_of_the_posterior() -> None:
    # Item 0 is better than item 1 in P(X > Y), X ~ Beta(3, 1), Y ~ Beta(1, 3): 1 - 1/20 by integration.
    drawn = draw_samples(fresh((2, 2), (0, 2)), replace(EVERYTHING, n_samples=20_000), np.random.default_rng(1))
    # Four standard deviations of a share of 20 000 draws.
    np.testing.assert_allclose((drawn.order[:, 0] == 0).mean(), 19 / 20, atol=4 * np.sqrt(0.95 * 0.05 / 20_000))


def test_draw_samples_orders_by_the_drawn_rates() -> None:
    counts = fresh((3, 9), (1, 4), (0, 30))
    drawn = draw_samples(counts, replace(EVERYTHING, prior=Prior(2.0, 5.0), n_samples=50), np.random.default_rng(3))
    rates = np.random.default_rng(3).beta([2 + 3, 2 + 1, 2 + 0], [5 + 6, 5 + 3, 5 + 30], (50, 3))
    assert drawn.order.tolist() == [sorted(range(3), key=lambda at: -row[at]) for row in rates]


def test_draw_samples_breaks_ties_by_smaller_idx() -> None:
    # So little prior that every drawn rate is 0 or 1 to the last bit.
    drawn = draw_samples(fresh(*[(0, 0)] * 40), replace(EVERYTHING, prior=Prior(1e-9, 1e9)), np.random.default_rng(0))
    assert (drawn.order == np.arange(40)).all()


def test_draw_samples_keeps_what_was_shown_too_seldom_for_a_success() -> None:
    """At a rate of 1 in 10,000 nearly every draw is 0, below any floor; that says nothing of an item."""
    drawing = Drawing(global_prior(100, 1_000_000, 20.0), floor_rate=0.5e-4, min_chance=0.05)
    kept = draw_samples(fresh((0, 0), (0, 9_000), (0, 500_000)), drawing, np.random.default_rng(1)).items
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["thompson", "epsilon"])
def test_draw_samples_leaves_out_what_is_surely_below_the_floor(mode: Literal["thompson", "epsilon"]) -> None:
    # 0 of 1000 against a floor of 0.05 has chance 0.95**1001; 100 of 1000 and the never shown one stay.
    drawing = replace(EVERYTHING, floor_rate=0.05, min_chance=0.1, mode=mode)
    drawn = draw_samples(fresh((0, 1000), (100, 1000), (0, 0)), drawing, np.random.default_rng(2))
    assert drawn.items.tolist() == [1, 2]
    assert sorted(drawn.order[0].tolist()) == [0, 1]


def test_draw_samples_keeps_an_item_whose_share_of_draws_is_the_least_allowed() -> None:
    counts, drawing = fresh((1, 3)), replace(EVERYTHING, floor_rate=0.4, n_samples=64)
    share = (np.random.default_rng(5).beta(1 + 1, 1 + 2, 64) >= 0.4).mean()
    at = draw_samples(counts, replace(drawing, min_chance=share), np.random.default_rng(5))
    above = draw_samples(counts, replace(drawing, min_chance=share + 1 / 64), np.random.default_rng(5))
    assert (at.items.tolist(), above.items.tolist()) == ([0], [])


def test_draw_samples_in_epsilon_mode_gives_every_item_the_same_chance() -> None:
    drawing = replace(EVERYTHING, n_samples=20_000, mode="epsilon")
    drawn = draw_samples(fresh((0, 900), (900, 900), (3, 9), (0, 0)), drawing, np.random.default_rng(4))
    answer = explore(drawn, np.arange(50), [ragged([[2]] * 50)], 2)
    shares = [np.unique(answer.propensities[answer.items == item]) for item in (0, 1, 3)]
    assert [len(one) for one in shares] == [1, 1, 1]
    # Two of three admissible items; four standard deviations of a share of 20 000 draws.
    np.testing.assert_allclose(np.concatenate(shares), 2 / 3, atol=4 * np.sqrt(2 / 9 / 20_000))


def test_draw_samples_names_all_faults_together() -> None:
    drawing = Drawing(Prior(0.0, 1.0), floor_rate=2.0, min_chance=0.1, n_samples=0)
    with pytest.raises(KernelError) as caught:
        draw_samples(fresh((3, 2)), drawing, np.random.default_rng(0))
    for part in ("successes: expected 0 to the item's trials, got 1", "prior:", "floor:", "n_samples: expected >= 1"):
        assert part in str(caught.value)
    swapped = FreshItems(np.array([2, 1], np.int32), np.zeros(2, np.int64), np.zeros(2, np.int64))
    with pytest.raises(KernelError, match="expected indices >= 0 that ascend"):
        draw_samples(swapped, EVERYTHING, np.random.default_rng(0))
    with pytest.raises(KernelError, match="of each of 2, got 1 and 1"):
        draw_samples(replace(fresh((0, 1)), items=np.array([1, 2], np.int32)), EVERYTHING, np.random.default_rng(0))


def test_global_prior_has_the_global_rate_and_the_asked_strength() -> None:
    prior = global_prior(successes=29, trials=999, strength=50.0)
    np.testing.assert_allclose([prior.a, prior.b], [50 * 29.5 / 1000, 50 * 970.5 / 1000], rtol=1e-15)
    assert global_prior(0, 0, 2.0) == Prior(1.0, 1.0)


def test_assign_samples_is_even_and_by_user_and_seed_only() -> None:
    users = [f"u{number}" for number in range(20_000)]
    assigned = assign_samples(users, 7, 16)
    assert assign_samples(users[5:8], 7, 16).tolist() == assigned[5:8].tolist()
    assert (assign_samples(users, 8, 16) == assigned).mean() < 0.1
    # 1250 expected, five standard deviations of a binomial count.
    assert np.abs(np.bincount(assigned, minlength=16) - 1250).max() < 5 * np.sqrt(1250)


def test_slots_is_every_qth_rank_for_a_share_of_one_in_q() -> None:
    assert slots(10, 1 / 3).tolist() == [3, 6, 9]
    assert slots(12, 0.25).tolist() == [4, 8, 12]
    assert slots(3, 1.0).tolist() == [1, 2, 3]
    assert slots(3, 0.0).tolist() == slots(0, 0.5).tolist() == []
    # 0.29 * 100 is 28.999999999999996 in floats.
    assert len(slots(100, 0.29)) == 29


@given(st.integers(0, 60), st.integers(0, 100))
def test_slots_never_exceeds_the_share_in_any_prefix(k: int, percent: int) -> None:
    ranks = slots(k, percent / 100)
    assert [int((ranks <= rank).sum()) for rank in range(1, k + 1)] == [
        rank * percent // 100 for rank in range(1, k + 1)
    ]


def test_slots_refuses_a_share_out_of_range() -> None:
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(KernelError, match="explore share: expected 0 to 1"):
            slots(10, share)


def final_lists(lists: list[list[str]], explored: list[list[int]], ranks: list[int], k: int) -> list[list[str]]:
    """The merged lists, an explored item with index i named e<i>."""
    m = max([len(row) for row in explored])
    items = np.array([row + [-1] * (m - len(row)) for row in explored], np.int32).reshape(len(explored), m)
    rows: Ragged = ragged([[0] * len(one) for one in lists])
    merged: Merged = merge_explored(rows.indptr, Explored(items, np.ones(items.shape)), np.array(ranks, np.int64), k)
    names = [name for one in lists for name in one]
    entries = [
        names[entry] if entry >= 0 else f"e{items.ravel()[number]}"
        for entry, number in zip(merged.from_list, merged.from_explored, strict=True)
    ]
    assert ((merged.from_list >= 0) != (merged.from_explored >= 0)).all()
    return [entries[first:last] for first, last in zip(merged.indptr[:-1], merged.indptr[1:], strict=True)]


def test_merge_explored_moves_the_others_down_and_drops_the_last() -> None:
    lists = [list("abcd"), list("abcd"), list("abcd"), list("ab"), []]
    explored = [[1, 2], [3], [], [4, 5], [6]]
    assert final_lists(lists, explored, [2, 4], 4) == [
        ["a", "e1", "b", "e2"],
        ["a", "e3", "b", "c"],  # fewer explored items than ranks: the list closes up
        ["a", "b", "c", "d"],
        ["a", "e4", "b", "e5"],
        ["e6"],  # a list that ends before the rank
    ]


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=4),
    st.sets(st.integers(1, 7), min_size=4),
    st.integers(7, 9),
)
@settings(deadline=None)
def test_merge_explored_matches_insertion_one_by_one(sizes: list[tuple[int, int]], ranks: set[int], k: int) -> None:
    lists = [[f"l{place}" for place in range(length)] for length, _ in sizes]
    explored = [list(range(size)) for _, size in sizes]
    oracle = []
    for one, items in zip(lists, explored, strict=True):
        row = list(one)
        for item, rank in zip(items, sorted(ranks), strict=False):
            row.insert(rank - 1, f"e{item}")
        oracle.append(row[:k])
    assert final_lists(lists, explored, sorted(ranks), k) == oracle


def test_merge_explored_refuses_more_items_than_ranks() -> None:
    for ranks in ([2], [2, 9]):
        with pytest.raises(KernelError, match=re.escape(f"for each of 2 explored items, got {ranks}")):
            final_lists([["a"]], [[1, 2]], ranks, 4)
