import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.fusion import Fused, fuse, pool_rrf
from recsys_spark.blend.kernels.walks import Walked, index_shared, walk_own, walk_shared
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import ragged
from tests.ranked_lists import ranked

N_ITEMS = 12

a_list = st.lists(st.integers(0, N_ITEMS - 1), unique=True)
a_set = st.sets(st.integers(0, N_ITEMS - 1))


@dataclass
class Case:
    """Users with exclusions, an own list and a choice of shared lists (-1: none), one weight per column."""

    own: list[list[int]]
    shared: list[list[int]]
    list_of: list[int]
    excluded: list[list[int]]
    weights: list[float]
    k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_users = draw(st.integers(1, 4))
    shared = draw(st.lists(a_list, min_size=1, max_size=3))
    return Case(
        own=[draw(a_list) for _ in range(n_users)],
        shared=shared,
        list_of=[draw(st.integers(-1, len(shared) - 1)) for _ in range(n_users)],
        excluded=[sorted(draw(a_set)) for _ in range(n_users)],
        # Powers of two: the oracle's float sums are then as exact as the kernel's.
        weights=[draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for _ in range(3)],
        k=draw(st.integers(1, N_ITEMS)),
    )


def blend(case: Case, rrf_k: int = 60) -> Fused:
    """Three columns: the own list, the chosen shared list, and the first shared list for everybody."""
    excluded = ragged(case.excluded)
    shared = index_shared(ranked(case.shared))
    columns = [
        walk_own(ranked(case.own), np.arange(len(case.own)), excluded, case.k),
        walk_shared(shared, np.array(case.list_of), excluded, case.k),
        walk_shared(shared, np.zeros(len(case.own), np.int64), excluded, case.k),
    ]
    return fuse(*pool_rrf(columns, case.weights, rrf_k), case.k)


def expected(case: Case, rrf_k: int = 60) -> list[list[tuple[int, float, list[tuple[int, int]]]]]:
    """Per user the (item, fused score, [(column, rank)]) that a plain loop finds, with scores rounded as integers."""
    answer = []
    for user, own in enumerate(case.own):
        lists = [own, case.shared[case.list_of[user]] if case.list_of[user] >= 0 else [], case.shared[0]]
        totals: dict[int, int] = defaultdict(int)
        reasons: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for column, (items, weight) in enumerate(zip(lists, case.weights, strict=True)):
            admissible = [item for item in items if item not in case.excluded[user]][: case.k]
            for rank, item in enumerate(admissible, start=1):
                if weight > 0:
                    totals[item] += round(weight / (rrf_k + rank) * 2**40)
                    reasons[item].append((column, rank))
        best = sorted(totals, key=lambda item: (-totals[item], item))[: case.k]
        answer.append([(item, totals[item] / 2**40, reasons[item]) for item in best])
    return answer


def found(fused: Fused) -> list[list[tuple[int, float, list[tuple[int, int]]]]]:
    users = []
    for first, last in zip(fused.indptr[:-1], fused.indptr[1:], strict=True):
        rows = []
        for at in range(first, last):
            sources = slice(fused.source_indptr[at], fused.source_indptr[at + 1])
            reasons = zip(fused.columns[sources].tolist(), fused.source_ranks[sources].tolist(), strict=True)
            rows.append((int(fused.items[at]), float(fused.scores[at]), list(reasons)))
        users.append(rows)
    return users


def items_of(fused: Fused) -> list[list[int]]:
    return [[item for item, _, _ in user] for user in found(fused)]


@given(cases())
@settings(max_examples=300, deadline=None)
def test_rrf_matches_a_plain_loop(case: Case) -> None:
    answer, oracle = found(blend(case)), expected(case)
    assert [[(item, why) for item, _, why in user] for user in answer] == [
        [(item, why) for item, _, why in user] for user in oracle
    ]
    for user, wanted in zip(answer, oracle, strict=True):
        # float32 keeps 24 bits of the fused score.
        np.testing.assert_allclose([score for _, score, _ in user], [score for _, score, _ in wanted], rtol=2**-23)


@given(cases())
@settings(max_examples=200, deadline=None)
def test_rrf_gives_lists_of_contract_form(case: Case) -> None:
    fused = blend(case)
    for user, (items, first, last) in enumerate(zip(items_of(fused), fused.indptr[:-1], fused.indptr[1:], strict=True)):
        assert not set(items) & set(case.excluded[user])
        assert len(set(items)) == len(items) <= case.k
        assert fused.ranks[first:last].tolist() == list(range(1, len(items) + 1))
        assert (np.diff(fused.scores[first:last]) <= 0).all()
    assert (np.diff(fused.source_indptr) >= 1).all()


@given(cases(), st.data())
@settings(max_examples=200, deadline=None)
def test_rrf_is_not_changed_by_an_excluded_item_leaving_the_lists(case: Case, data: st.DataObject) -> None:
    user = data.draw(st.integers(0, len(case.own) - 1))
    gone = data.draw(st.sampled_from(case.excluded[user] or [N_ITEMS]))
    without = Case(
        own=[[item for item in one if item != gone] for one in case.own],
        shared=[[item for item in one if item != gone] for one in case.shared],
        list_of=case.list_of,
        excluded=case.excluded,
        weights=case.weights,
        k=case.k,
    )
    assert found(blend(without))[user] == found(blend(case))[user]


@given(cases())
@settings(max_examples=100, deadline=None)
def test_rrf_gives_a_user_the_same_list_in_any_block(case: Case) -> None:
    together = found(blend(case))
    for user in range(len(case.own)):
        alone = Case([case.own[user]], case.shared, [case.list_of[user]], [case.excluded[user]], case.weights, case.k)
        assert found(blend(alone)) == [together[user]]


def test_rrf_sums_the_reciprocal_ranks() -> None:
    case = Case(own=[[7, 3]], shared=[[3, 5]], list_of=[-1], excluded=[[]], weights=[1.0, 1.0, 2.0], k=3)
    (user,) = found(blend(case, rrf_k=60))
    assert [(item, why) for item, _, why in user] == [(3, [(0, 2), (2, 1)]), (5, [(2, 2)]), (7, [(0, 1)])]
    np.testing.assert_allclose([score for _, score, _ in user], [1 / 62 + 2 / 61, 2 / 62, 1 / 61], rtol=2**-23)


def test_rrf_keeps_the_scores_of_the_sources() -> None:
    fused = blend(Case(own=[[7, 3]], shared=[[3, 5]], list_of=[-1], excluded=[[7]], weights=[1.0, 0.0, 1.0], k=3))
    assert fused.items.tolist() == [3, 5]
    # Item 3 stood second in the own list (99) and first in the shared one (100): its scores stay, its rank is 1.
    assert fused.source_scores.tolist() == [99.0, 100.0, 99.0]
    assert fused.source_ranks.tolist() == [1, 1, 2]


def test_rrf_breaks_ties_by_smaller_item_whatever_the_order_of_columns() -> None:
    # Ranks 1, 2 and 3 in three different orders: the three sums are equal, though float additions would not be.
    columns = [[9, 4, 6], [4, 6, 9], [6, 9, 4]]
    walked = [Walked(np.array([one], np.int32), np.zeros((1, 3), np.float32)) for one in columns]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        fused = fuse(*pool_rrf([walked[at] for at in order], [0.1, 0.1, 0.1], 60), 3)
        assert fused.items.tolist() == [4, 6, 9]


def test_rrf_refuses_an_own_list_with_a_repeated_item() -> None:
    walked = walk_own(ranked([[1, 2, 1]]), np.zeros(1, np.int64), ragged([[]]), 3)
    with pytest.raises(KernelError, match="expected every list to propose an item once"):
        fuse(*pool_rrf([walked], [1.0], 60), 3)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, 1e12])
def test_rrf_refuses_weights_out_of_range(weight: float) -> None:
    walked = Walked(np.array([[1]], np.int32), np.zeros((1, 1), np.float32))
    with pytest.raises(KernelError, match=re.escape("scale candidates.source_weights down")):
        fuse(*pool_rrf([walked], [weight], 60), 1)
