import re
from dataclasses import dataclass, replace
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.diversity import Diversity, ItemTraits, diversify
from recsys_spark.blend.kernels.greedy import CategoryMixes
from recsys_spark.blend.kernels.walks import RankedLists
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged

N_ITEMS = 120
ALPHA = 0.01
# Cosines are summed in float32; a choice may differ from the oracle's where two candidates are as close as this.
ROUNDING = 2e-6


@dataclass
class Case:
    """Users with pools and histories, the traits of all items, settings."""

    pools: RankedLists
    traits: ItemTraits
    history: CategoryMixes
    wanted: Diversity
    k: int

    def diversify(self) -> list[list[int]]:
        return rows_of(diversify(self.pools, self.traits, self.history, self.wanted, self.k))


def rows_of(lists: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.values, lists.indptr[1:-1])]


def pools_of(pools: list[list[int]], rrf_k: int = 60) -> RankedLists:
    """The pools with scores 1 / (rrf_k + rank)."""
    sizes = [len(pool) for pool in pools]
    scores = [1 / (rrf_k + rank) for size in sizes for rank in range(1, size + 1)]
    return RankedLists(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([item for pool in pools for item in pool], np.int32),
        np.array(scores, np.float32),
    )


def history_of(rows: list[dict[int, float]]) -> CategoryMixes:
    return CategoryMixes(
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        np.array([code for row in rows for code in row], np.int32),
        np.array([share for row in rows for share in row.values()], np.float32),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    sizes = draw(st.lists(st.integers(0, N_ITEMS), min_size=1, max_size=3))
    vectors = rng.standard_normal((N_ITEMS, draw(st.sampled_from([1, 3, 8])))).astype(np.float32)
    vectors[rng.random(N_ITEMS) < 0.2] = 0
    mixes = [{int(code): float(rng.random()) for code in rng.permutation(6)[: rng.integers(0, 5)]} for _ in sizes]
    return Case(
        pools=pools_of([rng.permutation(N_ITEMS)[:size].tolist() for size in sizes], draw(st.sampled_from([1, 60]))),
        traits=ItemTraits(
            vectors,
            rng.integers(-1, 6, N_ITEMS).astype(np.int32),
            rng.integers(-1, 20, N_ITEMS).astype(np.int32),
            rng.pareto(1.0, N_ITEMS).clip(1e-3, 1e3) / 1e3,
        ),
        history=history_of(mixes),
        wanted=Diversity(
            mmr_weight=draw(st.sampled_from([0.0, 0.3, 0.9])),
            category_cap=draw(st.sampled_from([0, 1, 5])),
            brand_cap=draw(st.sampled_from([0, 1, 3])),
            calibration_weight=draw(st.sampled_from([0.0, 0.2, 0.8])),
            popularity_damping=draw(st.sampled_from([0.0, 0.5, 1.0])),
        ),
        k=draw(st.sampled_from([1, 10, N_ITEMS + 1])),
    )


def divergence(shares: dict[int, float], categories: list[int]) -> float:
    """KL(p || q~) of the history's shares and the known among `categories`."""
    known = [category for category in categories if category >= 0]
    total = sum(shares.values())
    return sum(
        share / total * -log((1 - ALPHA) * known.count(code) / max(1, len(known)) * total / share + ALPHA)
        for code, share in shares.items()
        if share > 0
    )


def values_of(case: Case, user: int, listed: list[int]) -> dict[int, float]:
    """What each candidate that may come after `listed` is worth, by position."""
    first, last = case.pools.indptr[user : user + 2]
    traits, wanted = case.traits, case.wanted
    relevance = case.pools.scores[first:last] * traits.popularity[case.pools.items[first:last]] ** (
        -wanted.popularity_damping
    )
    relevance = relevance / relevance.max(initial=0)
    row = slice(case.history.indptr[user], case.history.indptr[user + 1])
    shares = dict(zip(case.history.categories[row].tolist(), case.history.shares[row].tolist(), strict=True))
    norms = np.linalg.norm(traits.vectors.astype(float), axis=1, keepdims=True)
    units = traits.vectors / np.where(norms > 0, norms, 1)
    items = case.pools.items[listed]
    categories, brands = traits.categories[items].tolist(), traits.brands[items].tolist()
    values = {}
    for position in set(range(first, last)) - set(listed):
        item = case.pools.items[position]
        category, brand = int(traits.categories[item]), int(traits.brands[item])
        if wanted.category_cap and category >= 0 and categories.count(category) >= wanted.category_cap:
            continue
        if wanted.brand_cap and brand >= 0 and brands.count(brand) >= wanted.brand_cap:
            continue
        similarity = (units[items] @ units[item]).max(initial=0)
        worth = (1 - wanted.mmr_weight) * relevance[position - first] - wanted.mmr_weight * similarity
        values[position] = (1 - wanted.calibration_weight) * worth - wanted.calibration_weight * divergence(
            shares, [*categories, category]
        )
    return values


@given(cases())
@settings(max_examples=60, deadline=None)
def test_diversify_takes_the_candidate_that_is_worth_most_each_time(case: Case) -> None:
    for user, listed in enumerate(case.diversify()):
        for size, position in enumerate(listed):
            values = values_of(case, user, listed[:size])
            assert values[position] >= max(values.values()) - ROUNDING
        assert len(listed) == case.k or not values_of(case, user, listed)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_diversify_gives_a_user_the_same_list_in_any_block(case: Case) -> None:
    together = case.diversify()
    for user, listed in enumerate(together):
        first, last = case.pools.indptr[user : user + 2]
        row = slice(case.history.indptr[user], case.history.indptr[user + 1])
        alone = replace(
            case,
            pools=RankedLists(np.array([0, last - first]), case.pools.items[first:last], case.pools.scores[first:last]),
            history=CategoryMixes(
                np.array([0, row.stop - row.start]), case.history.categories[row], case.history.shares[row]
            ),
        )
        assert [[first + position for position in one] for one in alone.diversify()] == [listed]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_diversify_changes_nothing_when_nothing_is_wanted(case: Case) -> None:
    for traits, history in [(case.traits, case.history), (ItemTraits(), None)]:
        lists = diversify(case.pools, traits, history, Diversity(), case.k)
        assert lists.indptr.dtype == lists.values.dtype == np.int64
        for listed, first, last in zip(rows_of(lists), case.pools.indptr[:-1], case.pools.indptr[1:], strict=True):
            assert listed == list(range(first, min(last, first + case.k)))


def test_diversify_keeps_the_order_when_caps_alone_are_wanted_and_never_met() -> None:
    pools = pools_of([list(range(100, 0, -1)), [], list(range(70))])
    traits = ItemTraits(categories=np.zeros(N_ITEMS, np.int32))
    lists = diversify(pools, traits, None, Diversity(category_cap=100), 80)
    assert rows_of(lists) == [list(range(80)), [], list(range(100, 170))]


def test_diversify_makes_a_list_of_clusters_more_diverse() -> None:
    # 5 clusters one after the other in the pool: the first 20 of 100 are all of one.
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(5), 20, axis=0) + 0.1 * rng.standard_normal((100, 5))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = []
    for weight in (0.0, 0.3, 0.7):
        wanted = Diversity(mmr_weight=weight)
        lists = diversify(pools_of([list(range(100))]), ItemTraits(vectors.astype(np.float32)), None, wanted, 20)
        cosines = units[lists.values] @ units[lists.values].T
        distances.append(1 - cosines[np.triu_indices(20, 1)].mean())
    assert distances[0] < 0.1
    assert distances[0] + 0.1 < distances[1] < distances[2]


def test_diversify_leaves_out_what_is_over_a_cap() -> None:
    traits = ItemTraits(
        categories=np.array([0, 0, 0, 1, -1, -1, -1], np.int32), brands=np.array([5, 5, 6, 5, -1, 6, 7], np.int32)
    )
    pools = pools_of([[0, 1, 2, 3, 4, 5, 6]])
    assert rows_of(diversify(pools, traits, None, Diversity(category_cap=1), 7)) == [[0, 3, 4, 5, 6]]
    assert rows_of(diversify(pools, traits, None, Diversity(category_cap=2), 3)) == [[0, 1, 3]]
    assert rows_of(diversify(pools, traits, None, Diversity(brand_cap=1), 7)) == [[0, 2, 4, 6]]
    assert rows_of(diversify(pools, traits, None, Diversity(category_cap=1, brand_cap=2), 7)) == [[0, 3, 4, 5, 6]]


def test_diversify_by_calibration_comes_nearer_to_the_history() -> None:
    categories = np.repeat([0, 1, 2, 3], 25).astype(np.int32)
    shares = {0: 0.2, 1: 0.5, 2: 0.3}
    found = []
    for weight in (0.0, 0.1, 0.5, 0.999):
        wanted = Diversity(calibration_weight=weight)
        lists = diversify(
            pools_of([list(range(100))]), ItemTraits(categories=categories), history_of([shares]), wanted, 20
        )
        found.append(divergence(shares, categories[lists.values].tolist()))
    assert found[0] > found[1] > found[2] > found[3]
    # 20 items can have the shares exactly, and relevance hardly counts.
    assert np.bincount(categories[lists.values], minlength=4).tolist() == [4, 10, 6, 0]


def test_diversify_without_a_history_is_not_calibrated() -> None:
    traits = ItemTraits(categories=np.array([0, 1, 0, -1], np.int32))
    lists = diversify(
        pools_of([[0, 1, 2, 3]] * 2), traits, history_of([{}, {1: 1}]), Diversity(calibration_weight=0.5), 4
    )
    # After item 1 no other keeps the list to category 1 but the one that has none.
    assert rows_of(lists) == [[0, 1, 2, 3], [5, 7, 4, 6]]


def test_diversify_by_popularity_orders_by_the_damped_scores() -> None:
    traits = ItemTraits(popularity=np.array([1.0, 0.25, 1 / 16]))
    pools = RankedLists(np.array([0, 3]), np.array([0, 1, 2], np.int32), np.array([8.0, 4.0, 1.0], np.float32))
    for damping, wanted in [(0.0, [0, 1, 2]), (0.4, [0, 1, 2]), (0.6, [1, 0, 2]), (2.0, [2, 1, 0])]:
        assert rows_of(diversify(pools, traits, None, Diversity(popularity_damping=damping), 3)) == [wanted]
    # 8, 4 * 2 and 1 * 4: the first of equals.
    assert rows_of(diversify(pools, traits, None, Diversity(popularity_damping=0.5), 3)) == [[0, 1, 2]]


def test_diversify_takes_items_without_a_vector_for_unlike_all() -> None:
    traits = ItemTraits(np.array([[1, 0], [2, 0], [0, 0], [0, 0], [-1, 0]], np.float32))
    assert rows_of(diversify(pools_of([[0, 1, 2, 3, 4]]), traits, None, Diversity(mmr_weight=0.5), 5)) == [
        [0, 2, 3, 4, 1]
    ]


def test_diversify_gives_nothing_where_there_is_nothing() -> None:
    wanted = Diversity(0.5, 1, 1, 0.5, 0.5)
    traits = ItemTraits(*(np.ones((0, 2), np.float32), np.ones(0, np.int32), np.ones(0, np.int32), np.ones(0)))
    for n_users in (0, 3):
        lists = diversify(pools_of([[]] * n_users), traits, history_of([{}] * n_users), wanted, 4)
        assert lists.indptr.tolist() == [0] * (n_users + 1)
        assert len(lists.values) == 0
        assert diversify(pools_of([[]] * n_users), ItemTraits(), None, Diversity(), 4).indptr.tolist() == [0] * (
            n_users + 1
        )


POOLS = pools_of([[0, 1], [2]])
TRAITS = ItemTraits(np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32), np.arange(3, dtype=np.int32), np.ones(3))


@pytest.mark.parametrize(
    ("wanted", "k", "message"),
    [
        (Diversity(mmr_weight=1.0), 1, "expected 0 <= mmr_weight < 1, got 1.0"),
        (Diversity(mmr_weight=float("nan")), 1, "got nan"),
        (Diversity(category_cap=-1, brand_cap=-2), 1, "expected category_cap >= 0, brand_cap >= 0, got -1, -2"),
        (Diversity(calibration_weight=-0.1), 1, "expected 0 <= calibration_weight < 1, got -0.1"),
        (Diversity(popularity_damping=float("inf")), 1, "expected 0 <= popularity_damping < inf, got inf"),
        (Diversity(), 0, "expected k >= 1, got 0"),
    ],
)
def test_diversify_refuses_settings_out_of_range(wanted: Diversity, k: int, message: str) -> None:
    with pytest.raises(KernelError, match=re.escape(message)):
        diversify(POOLS, TRAITS, None, wanted, k)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (Diversity(mmr_weight=0.1), "vectors"),
        (Diversity(category_cap=1), "categories"),
        (Diversity(calibration_weight=0.1), "categories"),
        (Diversity(brand_cap=1), "brands"),
        (Diversity(popularity_damping=0.1), "popularity"),
    ],
)
def test_diversify_refuses_to_do_without_a_trait_that_it_needs(wanted: Diversity, name: str) -> None:
    with pytest.raises(KernelError, match=f"diversify {name}: expected a row for each item .* 0 to 2, got none"):
        diversify(POOLS, replace(TRAITS, **{name: None}), None, wanted, 1)
    with pytest.raises(KernelError, match=f"diversify {name}: .* got 2 rows"):
        diversify(POOLS, replace(TRAITS, **{name: getattr(TRAITS, name)[:2]}), None, wanted, 1)


@pytest.mark.parametrize("scores", [[1.0, 0.0, 1.0], [1.0, 2.0, 1.0], [np.nan, 1.0, 1.0], [np.inf, 1.0, 1.0]])
def test_diversify_refuses_scores_that_do_not_rank(scores: list[float]) -> None:
    pools = replace(POOLS, scores=np.array(scores, np.float32))
    with pytest.raises(
        KernelError, match=r"expected finite scores above 0, highest first, got .* at position [01] and 0"
    ):
        diversify(pools, TRAITS, None, Diversity(), 1)


def test_diversify_lets_the_next_user_start_higher_and_refuses_pools_cut_unlike() -> None:
    pools = RankedLists(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1], np.int32), np.array([1, 2], np.float32))
    assert rows_of(diversify(pools, TRAITS, None, Diversity(brand_cap=1), 1)) == [[], [0], [], [1], []]
    with pytest.raises(KernelError, match="as many items and scores as indptr says, 2, got 1 and 2"):
        diversify(replace(pools, items=pools.items[:1]), TRAITS, None, Diversity(), 1)


@pytest.mark.parametrize("share", [0.0, -1.0, 2.0, np.nan, 1e-300])
def test_diversify_refuses_popularity_that_cannot_be_damped(share: float) -> None:
    with pytest.raises(
        KernelError, match=re.escape(f"at most 1, and not so small that relevance overflows, got {share:g}")
    ):
        diversify(
            POOLS, replace(TRAITS, popularity=np.array([1, 1, share])), None, Diversity(popularity_damping=2.0), 1
        )


def test_diversify_refuses_vectors_that_are_not_finite() -> None:
    vectors = np.array([[1], [1], [np.nan]], np.float32)
    with pytest.raises(KernelError, match="expected finite vectors, got others in 1 of 2 pools, the first in row 1"):
        diversify(POOLS, replace(TRAITS, vectors=vectors), None, Diversity(mmr_weight=0.5), 1)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (None, "expected one row per user, 2, got 0"),
        (history_of([{0: 1.0}]), "expected one row per user, 2, got 1"),
        (history_of([{0: 1.0}, {-1: 1.0}]), "expected codes from 0, got"),
        (history_of([{0: 1.0}, {1: -1.0}]), "expected finite shares from 0, got"),
        (history_of([{0: 1.0}, {1: float("nan")}]), "expected finite shares from 0, got"),
        (
            CategoryMixes(np.array([0, 0, 2]), np.array([1, 1], np.int32), np.ones(2, np.float32)),
            "expected each category once in a row, got",
        ),
    ],
)
def test_diversify_refuses_a_history_that_is_no_mix(history: CategoryMixes | None, message: str) -> None:
    with pytest.raises(KernelError, match=re.escape(f"diversify history: {message}")):
        diversify(POOLS, TRAITS, history, Diversity(calibration_weight=0.5), 1)
