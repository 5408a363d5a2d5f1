"""Exact search against a sort of all scores."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import damped, normalized, search_items, top_k
from tests.item_cf_oracle import List, assert_same_lists, lists_of, sparse

ROOMY = 1 << 24
# As little as it goes: one query at a time, 16 items at a time.
TINY = 1


def oracle(queries: np.ndarray, vectors: np.ndarray, k: int, hidden: np.ndarray, listed: list[int]) -> list[List]:
    """hidden: bool (n, n_items).  A score is the sum of exact products, rounded to float32."""
    scores = (queries.astype(float) @ vectors.astype(float).T).astype(np.float32)
    lists: list[List] = []
    for row, query in enumerate(queries):
        seen = [(item, float(scores[row, item])) for item in listed if query.any() and not hidden[row, item]]
        lists.append(sorted(seen, key=lambda entry: (-entry[1], entry[0]))[:k])
    return lists


def found(queries: np.ndarray, vectors: np.ndarray, k: int, hidden: Csr | None = None) -> list[List]:
    return lists_of(top_k(queries, search_items(vectors, None), k, hidden, ROOMY))


def column(*values: float) -> np.ndarray:
    """Vectors of length 1."""
    return np.array(values, np.float32)[:, None]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Small whole numbers: all sums are exact, and many scores are equal.
@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int] | None, int, int]:
    n, n_items, f = draw(st.integers(0, 5)), draw(st.integers(0, 60)), draw(st.integers(1, 9))
    whole = st.integers(-2, 2).map(float)
    queries, vectors = (
        draw(arrays(np.float32, (n, f), elements=whole)),
        draw(arrays(np.float32, (n_items, f), elements=whole)),
    )
    hidden = draw(arrays(np.bool_, (n, n_items)))
    listed = draw(st.none() | (st.lists(st.integers(0, n_items - 1)) if n_items else st.just([])))
    return queries, vectors, hidden, listed, draw(st.integers(1, 70)), draw(st.sampled_from([TINY, 1000, ROOMY]))


@given(searches())
@settings(deadline=None)  # the first example compiles
def test_top_k_matches_the_oracle(case: tuple[np.ndarray, np.ndarray, np.ndarray, list[int] | None, int, int]) -> None:
    queries, vectors, hidden, listed, k, block_bytes = case
    items = search_items(vectors, None if listed is None else np.array(listed, np.int32))
    ranked = top_k(queries, items, k, sparse(hidden), block_bytes)
    everything = list(range(len(vectors)))
    assert lists_of(ranked) == oracle(
        queries, vectors, k, hidden, everything if listed is None else sorted(set(listed))
    )


@pytest.mark.parametrize("heavy_tailed", [False, True])
@pytest.mark.parametrize(("k", "f"), [(1, 3), (10, 64), (700, 17)])
def test_top_k_matches_the_oracle_on_real_numbers(k: int, f: int, heavy_tailed: bool) -> None:
    queries, vectors = normal(1, 40, f), normal(2, 3000, f)
    if heavy_tailed:
        vectors /= np.arange(1, 3001, dtype=np.float32)[:, None]
    hidden = np.random.default_rng(3).random((40, 3000)) < 0.1
    ranked = top_k(queries, search_items(vectors, None), k, sparse(hidden), 100_000)
    expected = oracle(queries, vectors, k, hidden, list(range(3000)))
    assert [[item for item, _ in row] for row in lists_of(ranked)] == [[item for item, _ in row] for row in expected]
    scores = [score for row in expected for _, score in row]
    np.testing.assert_allclose(ranked.scores, scores, rtol=1e-6)  # float64 sums in another order, then float32


def test_top_k_breaks_ties_by_smaller_idx() -> None:
    assert found(column(1), column(3, 5, 3, 5, 5, 3), 4) == [[(1, 5), (3, 5), (4, 5), (0, 3)]]


def test_top_k_breaks_ties_by_smaller_idx_whatever_the_norms() -> None:
    # Item 2 is looked at first, item 0 last.
    vectors = np.array([[1, 0], [1, 1], [1, 2]], np.float32)
    assert found(np.array([[1, 0]], np.float32), vectors, 2) == [[(0, 1), (1, 1)]]


def test_top_k_keeps_the_smallest_idx_of_equal_items_when_none_is_ruled_out() -> None:
    ranked = top_k(column(1), search_items(np.ones((500, 1), np.float32), None), 3, None, TINY)
    assert lists_of(ranked) == [[(0, 1), (1, 1), (2, 1)]]


def test_top_k_lists_scores_of_any_sign() -> None:
    assert found(column(-1), column(2, 0, -3), 9) == [[(2, 3), (1, 0), (0, -2)]]


def test_top_k_leaves_hidden_items_out_for_their_query_alone() -> None:
    hidden = sparse(np.array([[0, 1, 0], [0, 0, 0], [1, 1, 1]]))
    assert found(column(1, 1, 1), column(1, 2, 3), 2, hidden) == [[(2, 3), (0, 1)], [(2, 3), (1, 2)], []]


def test_top_k_finds_the_best_below_many_hidden_ones() -> None:
    vectors = column(*range(1000, 0, -1))
    hidden = sparse(np.arange(1000)[None, :] < 990)
    assert found(column(1), vectors, 3, hidden) == [[(990, 10), (991, 9), (992, 8)]]


def test_top_k_finds_listed_items_alone() -> None:
    items = search_items(column(1, 2, 3, 4), np.array([3, 0, 2, 0], np.int32))
    hidden = sparse(np.array([[0, 1, 0, 1]]))
    assert lists_of(top_k(column(1), items, 9, hidden, ROOMY)) == [[(2, 3), (0, 1)]]


def test_top_k_gives_an_empty_list_to_a_query_of_zeros() -> None:
    assert found(column(0, 1, 0), column(1, 2), 1) == [[], [(1, 2)], []]


def test_top_k_gives_no_lists_for_no_queries() -> None:
    ranked = top_k(np.empty((0, 1), np.float32), search_items(column(1), None), 2, None, ROOMY)
    assert ranked.indptr.tolist() == [0]


def test_top_k_gives_empty_lists_when_no_item_is_listed() -> None:
    items = search_items(column(1, 2), np.empty(0, np.int32))
    assert lists_of(top_k(column(1, 1), items, 3, None, ROOMY)) == [[], []]


def irregular(n: int) -> tuple[np.ndarray, np.ndarray, Csr]:
    hidden = np.random.default_rng(4).random((n, 900)) < 0.05
    vectors = normal(5, 900, 48) * np.random.default_rng(6).random((900, 1)).astype(np.float32)
    return normal(7, n, 48), np.repeat(vectors[:450], 2, axis=0), sparse(hidden)


@pytest.mark.parametrize("block_bytes", [TINY, 5_000, 60_000])
def test_top_k_is_the_same_bit_for_bit_whatever_the_block(block_bytes: int) -> None:
    queries, vectors, hidden = irregular(60)
    items = search_items(vectors, None)
    assert_same_lists(top_k(queries, items, 20, hidden, block_bytes), top_k(queries, items, 20, hidden, ROOMY))


def test_top_k_is_the_same_bit_for_bit_whoever_else_is_asked_for() -> None:
    queries, vectors, hidden = irregular(60)
    items = search_items(vectors, None)
    ranked = top_k(queries, items, 20, hidden, ROOMY)
    for row in (0, 31, 59):
        entries = slice(hidden.indptr[row], hidden.indptr[row + 1])
        own = Csr(np.array([0, hidden.lengths[row]]), hidden.indices[entries], hidden.values[entries], 900)
        alone = top_k(queries[row : row + 1], items, 20, own, ROOMY)
        place = slice(ranked.indptr[row], ranked.indptr[row + 1])
        expected = Ranked(np.array([0, 20]), ranked.indices[place], ranked.scores[place])
        assert_same_lists(alone, expected)


def test_top_k_scores_are_sums_rounded_once() -> None:
    # In float32 the ones are lost, one after the other: 2**24 + 1 has no place there.
    vectors = np.array([[2.0**24, 1, 1, 1, 1], [2.0**24 + 2, 0, 0, 0, 0]], np.float32)
    assert found(np.ones((1, 5), np.float32), vectors, 2) == [[(0, 2.0**24 + 4), (1, 2.0**24 + 2)]]


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("block_bytes", [TINY, ROOMY])
def test_top_k_rules_nothing_out_by_what_rounding_does_to_the_product(block_bytes: int, k: int) -> None:
    # Two numbers that cancel, each 2**24 times as large as a step between scores: in float32 the score is mostly lost.
    vectors = np.random.default_rng(8).integers(0, 1 << 10, (2000, 16)).astype(np.float32) / 1024
    vectors[:, 3], vectors[:, 12] = 2.0**20, -(2.0**20)
    queries, hidden = np.ones((3, 16), np.float32), np.zeros((3, 2000), bool)
    ranked = top_k(queries, search_items(vectors, None), k, None, block_bytes)
    assert lists_of(ranked) == oracle(queries, vectors, k, hidden, list(range(2000)))


@pytest.mark.parametrize("block_bytes", [TINY, ROOMY])
def test_top_k_compares_scores_that_are_almost_nothing(block_bytes: int) -> None:
    # Scores are some dozens of the smallest number that float32 has, and each sum on the way is rounded to one.
    queries, vectors = normal(9, 40, 64) * np.float32(1e-22), normal(10, 300, 64) * np.float32(1e-22)
    ranked = top_k(queries, search_items(vectors, None), 5, None, block_bytes)
    assert lists_of(ranked) == oracle(queries, vectors, 5, np.zeros((40, 300), bool), list(range(300)))


def test_top_k_does_not_look_at_items_that_are_too_short_to_be_listed() -> None:
    # Six tiles of long vectors; every short one, if it were looked at, would now be the best for these queries.
    queries, vectors = np.abs(normal(10, 5, 8)), np.r_[normal(11, 96, 8) * 100, normal(12, 900, 8) * 0.1]
    items = search_items(vectors, None)
    changed = items._replace(vectors=np.where(items.norms[:, None] < 10, np.float32(1e6), items.vectors))
    assert (changed.vectors == 1e6).all(axis=1).sum() == 900
    ranked = top_k(queries, changed, 5, None, TINY)
    assert_same_lists(ranked, top_k(queries, items, 5, None, ROOMY))
    assert all(item < 96 for entries in lists_of(ranked) for item, _ in entries)


# Three tiles of long vectors and one of short ones, in another direction.
TWO_WAYS = np.array([[10, 0]] * 48 + [[0, 1]] * 16, np.float32)


def test_top_k_looks_on_for_a_query_whose_list_could_be_better() -> None:
    hidden = np.zeros((2, 64))
    hidden[1, 48] = 1
    ranked = top_k(np.array([[1, 0], [0, 1]], np.float32), search_items(TWO_WAYS, None), 2, sparse(hidden), TINY)
    assert lists_of(ranked) == [[(0, 10), (1, 10)], [(49, 1), (50, 1)]]


def test_top_k_looks_on_for_some_queries_of_a_block() -> None:
    vectors = np.repeat(np.array([[10, 0], [0, 1]], np.float32), [9000, 10], axis=0)  # a tile at its largest: 8192
    hidden = np.zeros((2, 9010))
    hidden[1, 9000] = 1
    ranked = top_k(np.array([[1, 0], [0, 1]], np.float32), search_items(vectors, None), 2, sparse(hidden), ROOMY)
    assert lists_of(ranked) == [[(0, 10), (1, 10)], [(9001, 1), (9002, 1)]]


def test_top_k_looks_on_for_a_list_that_is_not_full() -> None:
    hidden = sparse(np.arange(64)[None, :] < 47)
    ranked = top_k(np.array([[1, 0]], np.float32), search_items(TWO_WAYS, None), 2, hidden, TINY)
    assert lists_of(ranked) == [[(47, 10), (48, 0)]]


def test_top_k_looks_on_for_an_item_as_good_as_the_last_with_a_smaller_idx() -> None:
    vectors = np.array([[10, 0]] + [[10, 1]] * 32, np.float32)  # item 0 is the shortest
    assert lists_of(top_k(np.array([[1, 0]], np.float32), search_items(vectors, None), 1, None, TINY)) == [[(0, 10)]]


def peak_bytes(queries: np.ndarray, vectors: np.ndarray, k: int, hidden: Csr | None, block_bytes: int) -> int:
    items = search_items(vectors, None)
    top_k(queries[:2], items, k, hidden, block_bytes)  # compiles
    tracemalloc.start()
    top_k(queries, items, k, hidden, block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("k", [10, 2000])
def test_top_k_takes_no_more_than_block_bytes_besides_the_lists(k: int) -> None:
    # Everything is hidden: the lists are empty, the work is the same.  All scores would be 7 MB, all heaps 5 MB.
    hidden = sparse(np.ones((300, 6000), bool))
    peak = peak_bytes(normal(13, 300, 16), normal(14, 6000, 16), k, hidden, 1 << 20)
    assert peak <= (1 << 20) + 300 * 64  # a few numbers a query besides


def test_top_k_holds_its_lists_twice_at_most() -> None:
    peak = peak_bytes(normal(13, 1500, 16), normal(14, 6000, 16), 500, None, 1 << 20)
    assert peak <= 2 * 1500 * 500 * 8 + (1 << 20) + 1500 * 64


def test_search_items_puts_long_vectors_first_and_ties_by_smaller_idx() -> None:
    items = search_items(column(1, -3, 0, 3, 2), np.array([4, 3, 1, 0], np.int32))
    assert items.idx.tolist() == [1, 3, 4, 0]
    assert items.vectors.tolist() == [[-3], [3], [2], [1]]
    assert items.norms.tolist() == [3, 3, 2, 1]
    assert items.places.tolist() == [3, 0, -1, 1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_search_items_refuses_vectors_that_are_not_finite(value: float) -> None:
    with pytest.raises(KernelError, match="top_k items: expected finite vectors, got 1 others, the first at idx 2"):
        search_items(column(1, 2, value), None)


@pytest.mark.parametrize("query", [np.nan, np.inf, 1e38])
def test_top_k_refuses_queries_whose_scores_float32_cannot_hold(query: float) -> None:
    with pytest.raises(KernelError, match="top_k queries: expected finite vectors with scores"):
        top_k(column(1, query), search_items(column(1, 10), None), 1, None, ROOMY)


def test_normalized_gives_units_and_leaves_zeros() -> None:
    assert normalized(np.array([[3, 4], [0, 0], [0, -2]], np.float32)).tolist() == [
        [np.float32(3 / 5), np.float32(4 / 5)], [0, 0], [0, -1]]  # fmt: skip


@pytest.mark.parametrize(("exponent", "length"), [(1.0, 5.0), (0.5, 5**0.5), (0.0, 1.0)])
def test_damped_raises_the_length_to_the_exponent(exponent: float, length: float) -> None:
    vectors = damped(np.array([[3, 4], [0, 0]], np.float32), exponent)
    np.testing.assert_allclose(vectors, [[3 / 5 * length, 4 / 5 * length], [0, 0]], rtol=1e-7)  # float32
    assert vectors.dtype == np.float32


def test_top_k_of_normalized_vectors_is_the_order_of_the_cosine() -> None:
    vectors = np.array([[10, 10], [1, 0], [0, 9]], np.float32)
    ranked = top_k(normalized(np.array([[5, 0]], np.float32)), search_items(damped(vectors, 0), None), 2, None, ROOMY)
    assert [item for item, _ in lists_of(ranked)[0]] == [1, 0]
