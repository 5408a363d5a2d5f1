"""Co-occurrences of a block against a dense product; both ways of making a row give the same bits."""

import numpy as np
import pytest

from recsys_spark.item_cf.kernels.row_products import CoOccurrences, Scale, extend, nearest, no_co_occurrences
from recsys_spark.item_cf.kernels.similarity import nearest_items
from recsys_spark.numeric.sparse import Csr, transposed
from tests.item_cf_oracle import (  # fmt: skip
    NAMES,
    assert_same_lists,
    chunks_of,
    lists_of,
    long_tailed,
    neighbors_of,
    similarity_of,
    sparse,
    sums_of,
)

ONES = np.ones(4)
# Sums alone: nothing is divided by, nothing is taken off.
PLAIN = Scale(left=ONES, right=ONES, mean=0 * ONES, shrinkage=0.0, is_union=False)


def dense(found: CoOccurrences, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(len(found.indptr) - 1), np.diff(found.indptr))
    sums, counts = np.zeros((len(found.indptr) - 1, n_items)), np.zeros((len(found.indptr) - 1, n_items), int)
    sums[rows, found.indices] = found.sums
    if len(found.counts):
        counts[rows, found.indices] = found.counts
    return sums, counts


def test_extend_adds_the_products_of_users_and_counts_them() -> None:
    matrix = long_tailed(1, n_users=200, n_items=60)  # more than 2 * 1024 pairs: the arrays grow twice
    values = sparse(matrix)
    found = CoOccurrences(*extend(values, transposed(values), no_co_occurrences(60), True))
    assert len(found.indices) > 2 * 1024
    sums, counts = dense(found, 60)
    np.testing.assert_allclose(sums, matrix.T.astype(float) @ matrix.astype(float), rtol=1e-12)  # order of a sum
    np.testing.assert_array_equal(counts, (matrix > 0).T.astype(int) @ (matrix > 0).astype(int))


def test_extend_keeps_no_counts_that_nobody_asks_for() -> None:
    values = sparse(long_tailed(1, n_users=20, n_items=9))
    assert len(extend(values, transposed(values), no_co_occurrences(9), False)[3]) == 0


def test_extend_adds_to_what_is_known() -> None:
    matrix = long_tailed(2, n_users=30, n_items=12)
    whole, known = sparse(matrix), no_co_occurrences(5)
    for chunk in chunks_of(whole, [0, 11, 11, 29]):
        known = CoOccurrences(*extend(chunk, transposed(chunk, 4, 9), known, True))
    sums, counts = dense(known, 12)
    expected = extend(whole, transposed(whole, 4, 9), no_co_occurrences(5), True)
    expected_sums, expected_counts = dense(CoOccurrences(*expected), 12)
    np.testing.assert_array_equal(sums, expected_sums)
    np.testing.assert_array_equal(counts, expected_counts)


def test_extend_does_not_change_what_is_known() -> None:
    values = sparse(long_tailed(3, n_users=10, n_items=6))
    known = CoOccurrences(*extend(values, transposed(values), no_co_occurrences(6), True))
    before = known.sums.copy()
    extend(values, transposed(values), known, True)
    np.testing.assert_array_equal(known.sums, before)


def test_nearest_leaves_the_item_itself_out_and_breaks_ties_by_smaller_index() -> None:
    values = sparse(np.array([[1, 1, 1, 1]], np.float32))
    lengths, indices, scores = nearest(values, transposed(values), no_co_occurrences(4), 0, PLAIN, 1, 2)
    assert lengths.tolist() == [2, 2, 2, 2]
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert (scores == 1.0).all()


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_nearest_gives_the_same_bits_for_a_listed_row_and_for_a_full_one(name: str, least: int) -> None:
    weights = sparse(long_tailed(4, n_users=150, n_items=25))
    similarity = similarity_of(name, shrinkage=0.5, least=least, num_neighbors=7)
    wide = weights._replace(n_cols=40_000)  # so many items that nobody has, that touched ones are listed
    products = [int(weights.lengths[users_of(weights, item)].sum()) for item in range(25)]
    assert 8 * max(products) < wide.n_cols
    assert 8 * min(products) >= weights.n_cols
    narrow_lists, wide_lists = neighbors_of(weights, similarity), neighbors_of(wide, similarity)
    assert_same_lists(wide_lists._replace(indptr=wide_lists.indptr[:26]), narrow_lists)
    assert wide_lists.indptr[-1] == narrow_lists.indptr[-1]
    assert narrow_lists.indptr[-1] > 100


def test_nearest_does_both_kinds_of_rows_in_one_block() -> None:
    # 30 users with all of items 0 to 29, and one with items 30 and 31 alone: 2 products, in 32 items.
    matrix = np.zeros((31, 32), np.float32)
    matrix[:30, :30] = np.random.default_rng(5).uniform(1, 2, (30, 30))
    matrix[30, 30:] = 1
    lists = lists_of(neighbors_of(sparse(matrix), similarity_of("jaccard")))
    assert [len(entries) for entries in lists] == [29] * 30 + [1, 1]
    assert lists[30:] == [[(31, 1.0)], [(30, 1.0)]]


def test_nearest_of_a_block_without_items_is_nothing() -> None:
    weights = sparse(long_tailed(6, n_users=5, n_items=4))
    found = nearest_items(weights, range(2, 2), None, sums_of(weights), similarity_of("cosine"))
    assert found.indptr.tolist() == [0]


def users_of(weights: Csr, item: int) -> np.ndarray:
    return weights.rows[weights.indices == item]
