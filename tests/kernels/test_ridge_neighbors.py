"""Ridge weights of neighbours against dense systems, and EASE itself where all items are neighbours."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.kernels.item_cf import co_occurrences, entry_values
from recsys_spark.kernels.ranked import Ranked
from recsys_spark.kernels.ridge_neighbors import ridge_neighbors
from recsys_spark.kernels.row_products import CoOccurrences
from tests.item_cf_oracle import List, lists_of, long_tailed, neighbors_of, ranked_of, similarity_of, sparse

RIDGE = 3.0


def gram_of(matrix: np.ndarray) -> CoOccurrences:
    cosine = similarity_of("cosine")
    return co_occurrences(entry_values(sparse(matrix), cosine), range(matrix.shape[1]), None, cosine)


def everybody(n_items: int) -> Ranked:
    return ranked_of([[(other, 1.0) for other in range(n_items) if other != item] for item in range(n_items)])


def expected(matrix: np.ndarray, near: list[List], first: int) -> list[np.ndarray]:
    gram = matrix.astype(float).T @ matrix
    found = []
    for item, entries in enumerate(near, start=first):
        others = [other for other, _ in entries]
        found.append(np.linalg.solve(gram[np.ix_(others, others)] + RIDGE * np.eye(len(others)), gram[others, item]))
    return found


@pytest.mark.parametrize("num_neighbors", [1, 5, 100])
def test_ridge_neighbors_match_a_dense_system_an_item(num_neighbors: int) -> None:
    matrix = long_tailed(31, n_users=60, n_items=25)
    near = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=num_neighbors))
    weights = ridge_neighbors(gram_of(matrix), near, range(25), RIDGE)
    np.testing.assert_allclose(weights, np.concatenate(expected(matrix, lists_of(near), 0)), rtol=1e-5, atol=1e-7)


def test_ridge_neighbors_of_a_block_have_the_bits_of_the_whole() -> None:
    matrix = long_tailed(32, n_users=60, n_items=25)
    near, gram = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=6)), gram_of(matrix)
    whole = ridge_neighbors(gram, near, range(25), RIDGE)
    part = ranked_of(lists_of(near)[7:19])
    np.testing.assert_array_equal(
        ridge_neighbors(gram, part, range(7, 19), RIDGE), whole[near.indptr[7] : near.indptr[19]]
    )


def test_ridge_neighbors_are_ease_where_all_items_are_neighbors() -> None:
    matrix = long_tailed(33, n_users=80, n_items=15)
    weights = ridge_neighbors(gram_of(matrix), everybody(15), range(15), RIDGE).reshape(15, 14)
    inverse = np.linalg.inv(matrix.astype(float).T @ matrix + RIDGE * np.eye(15))
    ease = -inverse / np.diag(inverse)  # (i, j): what i adds to j
    np.testing.assert_allclose(weights, [np.delete(ease[:, item], item) for item in range(15)], rtol=1e-4, atol=1e-6)


def test_only_the_ridge_sees_that_one_neighbor_says_what_another_said() -> None:
    # Item 2 goes with item 0; item 1 goes with item 0 too, and so comes to meet item 2 as often as if it meant it.
    matrix = np.zeros((40, 3), np.float32)
    matrix[:20, :] = 1
    matrix[20:30, 0] = matrix[20:30, 2] = 1
    cosine = replace(similarity_of("cosine"), num_neighbors=2)
    assert [item for item, _ in lists_of(neighbors_of(sparse(matrix), cosine))[2]] == [0, 1]
    of_0, of_1 = ridge_neighbors(gram_of(matrix), everybody(3), range(3), 0.1).reshape(3, 2)[2]
    assert of_0 > 0.9
    assert abs(of_1) < 0.05


def test_an_item_without_neighbors_has_no_weights() -> None:
    matrix = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    weights = ridge_neighbors(gram_of(matrix), ranked_of([[(1, 1.0)], [(0, 1.0)], []]), range(3), 2.0)
    np.testing.assert_allclose(weights, [0.5, 0.5])
