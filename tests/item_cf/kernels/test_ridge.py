"""Ridge weights of neighbours against dense systems, and EASE itself where all items are neighbours."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.errors import KernelError
from recsys_spark.item_cf.kernels.ridge import RidgeWeights, added_by_neighbors, lists_of_added, near_of_block, ridge_of
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.validation.whole_fits import fit_neighbors
from tests.item_cf_oracle import lists_of, long_tailed, neighbors_of, ranked_of, similarity_of, sparse, sums_of

RIDGE = 3.0


def gram_of(matrix: np.ndarray) -> Csr:
    indptr, indices, sums, _ = near_of_block(
        sparse(matrix), range(matrix.shape[1]), None, sums_of(sparse(matrix)), similarity_of("ridge")
    ).sums
    return Csr(indptr, indices, sums.astype(np.float32), matrix.shape[1])


def everybody(n_items: int) -> Ranked:
    return ranked_of([[(other, 1.0) for other in range(n_items) if other != item] for item in range(n_items)])


def dense(added: RidgeWeights, n_items: int) -> np.ndarray:
    """(source, target)."""
    found = np.zeros((n_items, n_items))
    found[added.source, added.target] = added.weight
    return found


def expected(matrix: np.ndarray, near: Ranked) -> np.ndarray:
    """(source, target), 0 in place of what is below 0."""
    gram = matrix.astype(float).T @ matrix
    found = np.zeros(gram.shape)
    for item, entries in enumerate(lists_of(near)):
        others = [other for other, _ in entries]
        system = gram[np.ix_(others, others)] + RIDGE * np.eye(len(others))
        found[others, item] = np.linalg.solve(system, gram[others, item])
    return np.maximum(found, 0)


@pytest.mark.parametrize("num_neighbors", [1, 5, 100])
def test_added_by_neighbors_matches_a_dense_system_an_item(num_neighbors: int) -> None:
    matrix = long_tailed(31, n_users=60, n_items=25)
    near = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=num_neighbors))
    found = dense(added_by_neighbors(gram_of(matrix), near, range(25), RIDGE), 25)
    np.testing.assert_allclose(found, expected(matrix, near), rtol=1e-3, atol=1e-4)  # float32 systems


def test_added_by_neighbors_of_a_block_has_the_bits_of_the_whole() -> None:
    matrix = long_tailed(32, n_users=60, n_items=25)
    near, gram = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=6)), gram_of(matrix)
    whole = dense(added_by_neighbors(gram, near, range(25), RIDGE), 25)
    part = added_by_neighbors(gram, ranked_of(lists_of(near)[7:19]), range(7, 19), RIDGE)
    np.testing.assert_array_equal(dense(part, 25)[:, 7:19], whole[:, 7:19])


def test_added_by_neighbors_is_ease_where_all_items_are_neighbors() -> None:
    matrix = long_tailed(33, n_users=80, n_items=15)
    found = dense(added_by_neighbors(gram_of(matrix), everybody(15), range(15), RIDGE), 15)
    inverse = np.linalg.inv(matrix.astype(float).T @ matrix + RIDGE * np.eye(15))
    ease = -inverse / np.diag(inverse)  # (i, j): what i adds to j
    np.fill_diagonal(ease, 0)
    np.testing.assert_allclose(found, np.maximum(ease, 0), rtol=1e-3, atol=1e-4)


def test_only_the_ridge_sees_that_one_neighbor_says_what_another_said() -> None:
    # Item 2 goes with item 0; item 1 goes with item 0 too, and so comes to meet item 2 as often as if it meant it.
    matrix = np.zeros((40, 3), np.float32)
    matrix[:20, :] = 1
    matrix[20:30, 0] = matrix[20:30, 2] = 1
    cosine = replace(similarity_of("cosine"), num_neighbors=2)
    assert [item for item, _ in lists_of(neighbors_of(sparse(matrix), cosine))[2]] == [0, 1]
    found = dense(added_by_neighbors(gram_of(matrix), everybody(3), range(3), 0.1), 3)
    assert found[0, 2] > 0.9
    assert found[1, 2] < 0.05


def test_an_item_without_neighbors_is_told_of_by_nothing() -> None:
    matrix = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    near = ranked_of([[(1, 1.0)], [(0, 1.0)], []])
    found = dense(added_by_neighbors(gram_of(matrix), near, range(3), 2.0), 3)
    np.testing.assert_allclose(found, [[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])


def test_what_may_not_be_listed_is_not_told_of_and_tells_of_others() -> None:
    matrix = long_tailed(34, n_users=60, n_items=12)
    listed = np.arange(12) % 3 > 0
    every = dense(added_by_neighbors(gram_of(matrix), everybody(12), range(12), RIDGE), 12)
    some = dense(added_by_neighbors(gram_of(matrix), everybody(12), range(12), RIDGE, listed), 12)
    np.testing.assert_array_equal(some, np.where(listed, every, 0))


def test_lists_of_added_are_the_best_of_every_item() -> None:
    source, target = np.array([2, 0, 2, 2, 2], np.int32), np.array([5, 1, 3, 4, 0], np.int32)
    added = RidgeWeights(source, target, np.array([0.2, 0.9, 0.7, 0.7, 0.1], np.float32))
    assert lists_of(lists_of_added(added, 3, 3)) == [
        [(1, pytest.approx(0.9))], [], [(3, pytest.approx(0.7)), (4, pytest.approx(0.7)), (5, pytest.approx(0.2))]
    ]  # fmt: skip


def test_the_ridge_goes_with_the_weights() -> None:
    matrix = long_tailed(35, n_users=60, n_items=20)
    similarity = replace(similarity_of("ridge", num_neighbors=8), ridge=5.0)
    one, tenfold = (
        fit_neighbors(sparse(weights.astype(np.float32)), similarity, np.ones(20, bool))
        for weights in (matrix, matrix * 4)
    )
    np.testing.assert_array_equal(one.indices, tenfold.indices)
    np.testing.assert_allclose(one.scores, tenfold.scores, rtol=1e-4)
    assert ridge_of(similarity, sums_of(sparse(matrix))) == pytest.approx(
        5 * (matrix[matrix > 0].astype(float) ** 2).mean()
    )


def test_sums_that_the_ridge_leaves_singular_are_refused() -> None:
    matrix = np.ones((16, 3), np.float32)  # all three say the same, in sums beside which the ridge is lost in float32
    with pytest.raises(KernelError, match=r"got 3 items of 3 whose sums a ridge of 1e-08 leaves singular; raise"):
        added_by_neighbors(gram_of(matrix), everybody(3), range(3), 1e-8)
