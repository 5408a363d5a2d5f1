"""Exact scores of candidates: the lists of the exact search, bit for bit, when everything is a candidate."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.ann.kernels.rerank import rerank
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import search_items, top_k
from tests.item_cf_oracle import List, assert_same_lists, lists_of, sparse

ROOMY = 1 << 24
IDS = np.array([2, 3, 5, 7])
VECTORS = np.array([[1], [2], [3], [3]], np.float32)
ONE = np.ones((1, 1), np.float32)


def reranked(candidates: list[int], k: int, hidden: Csr | None = None) -> list[List]:
    return lists_of(rerank(ONE, np.array([candidates]), IDS, VECTORS, hidden, k))


def test_rerank_lists_candidates_alone_best_first_and_ties_by_smaller_idx() -> None:
    assert reranked([7, -1, 3, 5, -1], 9) == [[(5, 3), (7, 3), (3, 2)]]


def test_rerank_keeps_the_best_k() -> None:
    assert reranked([2, 7, 3, 5], 2) == [[(5, 3), (7, 3)]]


def test_rerank_leaves_hidden_items_out() -> None:
    assert reranked([2, 7, 3, 5], 2, sparse(np.isin(np.arange(8), [0, 3, 5])[None])) == [[(7, 3), (2, 1)]]
    assert reranked([7, 3, 5], 2, sparse(np.isin(np.arange(8), [0, 1, 2, 3, 5])[None])) == [[(7, 3)]]


def test_rerank_gives_empty_lists_where_there_is_nothing() -> None:
    assert reranked([-1, -1], 3) == [[]]
    assert reranked([], 3) == [[]]
    nothing = rerank(ONE, np.array([[-1]]), np.empty(0, np.int64), np.empty((0, 1), np.float32), None, 3)
    assert lists_of(nothing) == [[]]
    zeros = rerank(np.array([[0], [1]], np.float32), np.array([[2], [2]]), IDS, VECTORS, None, 1)
    assert lists_of(zeros) == [[], [(2, 1)]]
    assert lists_of(rerank(ONE[:0], np.empty((0, 3), np.int64), IDS, VECTORS, None, 3)) == []


def a_case(seed: int, heavy: bool) -> tuple[np.ndarray, np.ndarray, Csr]:
    rng = np.random.default_rng(seed)
    n, m, f = rng.integers(1, 8), rng.integers(1, 90), rng.integers(1, 40)
    queries, vectors = rng.standard_normal((n, f)), rng.standard_normal((m, f))
    if heavy:
        vectors *= rng.pareto(1.0, (m, 1))
    vectors[rng.random(m) < 0.3] = vectors[0]  # ties
    return queries.astype(np.float32), vectors.astype(np.float32), sparse(rng.random((n, m)) < 0.2)


@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 100))
@settings(deadline=None)  # the first example compiles
def test_rerank_of_everything_is_the_exact_search_bit_for_bit(seed: int, heavy: bool, k: int) -> None:
    queries, vectors, hidden = a_case(seed, heavy)
    everything = np.random.default_rng(seed).permuted(np.tile(np.arange(len(vectors)), (len(queries), 1)), axis=1)
    found = rerank(queries, everything, np.arange(len(vectors)), vectors, hidden, k)
    assert_same_lists(found, top_k(queries, search_items(vectors, None), k, hidden, ROOMY))


def test_rerank_of_some_matches_a_sort_of_their_scores() -> None:
    rng = np.random.default_rng(3)
    queries, vectors = rng.standard_normal((6, 9)).astype(np.float32), rng.standard_normal((40, 9)).astype(np.float32)
    candidates = rng.permuted(np.tile(np.arange(40) * 3, (6, 1)), axis=1)[:, :12]
    scores = queries.astype(float) @ vectors.astype(float).T
    expected = [sorted(row, key=lambda item, at=at: -scores[at, item // 3])[:5] for at, row in enumerate(candidates)]
    candidates = np.pad(candidates, ((0, 0), (0, 3)), constant_values=-1)
    found = lists_of(rerank(queries, candidates, np.arange(40) * 3, vectors, None, 5))
    assert [[item for item, _ in row] for row in found] == expected


def test_rerank_reads_mapped_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", VECTORS)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    candidates = np.array([[7, 3]])
    found = rerank(ONE, candidates, IDS, mapped, None, 2)
    assert_same_lists(found, Ranked(np.array([0, 2]), np.array([7, 3], np.int32), np.array([3, 2], np.float32)))
    assert candidates.tolist() == [[7, 3]]


@pytest.mark.parametrize(("candidates", "example"), [([2, 4], 4), ([9, 2], 9), ([-2, 2], -2)])
def test_rerank_refuses_candidates_of_another_shard(candidates: list[int], example: int) -> None:
    message = rf"expected candidates among the 4 items of the shard, got 1 others, e\.g\. idx {example};"
    with pytest.raises(KernelError, match=message):
        reranked(candidates, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_rerank_refuses_scores_that_float32_cannot_hold(value: float) -> None:
    queries = np.array([[1], [10]], np.float32)
    with pytest.raises(KernelError, match="expected finite vectors with scores that float32 can hold"):
        rerank(queries, np.array([[2], [2]]), IDS, np.full((4, 1), value, np.float32), None, 1)
