"""Pools cut to diversified lists: neutral when off, in the order of the choice, with scores that fall."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.diversity import (
    NO_TRAITS,
    NOTHING,
    POOL_LISTS,
    Diversity,
    ItemTraits,
    RankedLists,
    diverse_pool,
    diversify,
)
from recsys_spark.blend.kernels.fusion import UNITS, Pool, fuse

N_ITEMS = 12


def make_pool(rows: list[dict[int, int]]) -> tuple[Pool, np.ndarray]:
    """One user a row: item -> total in thousandths."""
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    items = np.array([item for row in rows for item in sorted(row)], np.int32)
    totals = np.array([row[item] for row in rows for item in sorted(row)], np.int64) * round(UNITS / 1000)
    n = len(items)
    ones = np.ones(n, np.int64)
    return Pool(len(rows), users, items, np.arange(n), ones, ones * 0, ones, ones.astype(np.float32)), totals


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Pool, np.ndarray, ItemTraits, int]:
    rows = draw(
        st.lists(
            st.dictionaries(st.integers(0, N_ITEMS - 1), st.integers(0, 20), max_size=N_ITEMS), min_size=1, max_size=4
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    codes = rng.integers(-1, 3, size=(2, N_ITEMS)).astype(np.int32)
    vectors = rng.normal(size=(N_ITEMS, 3)).astype(np.float32)
    traits = ItemTraits(vectors, codes[0], codes[1], rng.uniform(0.01, 0.1, N_ITEMS))
    return (*make_pool(rows), traits, draw(st.integers(1, 5)))


WANTED = st.builds(
    Diversity,
    mmr_weight=st.sampled_from([0.0, 0.3, 0.9]),
    category_cap=st.integers(0, 2),
    brand_cap=st.integers(0, 2),
    popularity_damping=st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=200, deadline=None)
@given(world=worlds(), wanted=WANTED)
def test_lists_are_those_of_the_choice_in_its_order(
    world: tuple[Pool, np.ndarray, ItemTraits, int], wanted: Diversity
) -> None:
    pool, totals, traits, k = world
    fused = fuse(*diverse_pool(pool, totals, traits, None, wanted, k), k)
    for user in range(pool.n_users):
        mine = np.flatnonzero(pool.users == user)
        best = mine[np.lexsort((pool.items[mine], -totals[mine]))][: POOL_LISTS * k]
        lists = RankedLists(np.array([0, len(best)]), pool.items[best], np.maximum(totals[best], 1) / UNITS)
        expected = lists.items[diversify(lists, traits, None, wanted, k).values]
        np.testing.assert_array_equal(fused.items[fused.indptr[user] : fused.indptr[user + 1]], expected)
        scores = fused.scores[fused.indptr[user] : fused.indptr[user + 1]]
        assert (np.diff(scores) <= 0).all()
        own = np.array([totals[mine[pool.items[mine] == item][0]] for item in expected]) / UNITS
        highest_after = np.maximum.accumulate(own[::-1])[::-1]
        np.testing.assert_allclose(scores, highest_after, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(world=worlds())
def test_nothing_wanted_is_the_pool_itself(world: tuple[Pool, np.ndarray, ItemTraits, int]) -> None:
    pool, totals, _, k = world
    same, as_before = diverse_pool(pool, totals, NO_TRAITS, None, NOTHING, k)
    assert same is pool
    assert as_before is totals


def test_provenance_stays_with_its_item() -> None:
    pool, totals = make_pool([{0: 9, 1: 8, 2: 7}])
    pool = Pool(1, pool.users, pool.items, pool.starts, pool.lengths, np.array([5, 6, 7]), pool.ranks, pool.scores)
    traits = ItemTraits(categories=np.zeros(3, np.int32), vectors=np.array([[1, 0], [1, 0], [0, 1]], np.float32))
    fused = fuse(*diverse_pool(pool, totals, traits, None, Diversity(mmr_weight=0.5), 2), 2)
    assert fused.items.tolist() == [0, 2]
    assert fused.columns.tolist() == [5, 7]


def test_a_pool_of_nobody_stays_empty() -> None:
    pool, totals = make_pool([{}, {}])
    cut, of_it = diverse_pool(pool, totals, NO_TRAITS, None, Diversity(category_cap=1), 3)
    assert len(cut.items) == len(of_it) == 0
    assert fuse(cut, of_it, 3).indptr.tolist() == [0, 0, 0]


@pytest.mark.parametrize("k", [1, 3])
def test_caps_shorten_lists(k: int) -> None:
    pool, totals = make_pool([{0: 9, 1: 8, 2: 7}])
    traits = ItemTraits(categories=np.zeros(3, np.int32))
    assert fuse(*diverse_pool(pool, totals, traits, None, Diversity(category_cap=1), k), k).items.tolist() == [0]
