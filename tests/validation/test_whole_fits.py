"""Fits in one process against the papers' formulas on dense matrices."""

import numpy as np
import pytest

from recsys_spark.als.kernels.objective import Ridge
from recsys_spark.numeric.sparse import Csr, entries_of
from recsys_spark.validation.whole_fits import fit_factors, fit_filter, fit_neighbors
from tests.als_oracle import oracle_row
from tests.item_cf_oracle import NAMES, long_tailed, oracle_similarities, similarity_of, sparse

RIDGE = Ridge(alpha=4.0, regularization=0.05, nu=1.0, unobserved=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_fit_neighbors_finds_the_nearest_of_what_may_be_listed(name: str) -> None:
    matrix = long_tailed(3, n_users=40, n_items=15)
    listed = np.arange(15) != 2
    similarity = similarity_of(name, num_neighbors=3)
    near, dense = fit_neighbors(sparse(matrix), similarity, listed), oracle_similarities(matrix, similarity)
    for item in range(15):
        expected = np.where(listed, np.maximum(dense[item], 0), 0)
        found = near.indices[near.indptr[item] : near.indptr[item + 1]]
        assert len(found) == min(3, np.count_nonzero(expected > 1e-9))
        np.testing.assert_allclose(expected[found], np.sort(expected)[::-1][: len(found)], rtol=1e-4)


def test_fit_factors_ends_where_each_row_is_the_best_for_the_other_side() -> None:
    matrix = long_tailed(4, n_users=50, n_items=20).astype(float)
    weights, rows = sparse(matrix), np.array([3, 17])
    indptr, at = entries_of(weights.indptr, rows)
    wanted = Csr(indptr, weights.indices[at], weights.values[at], weights.n_cols)
    found = fit_factors(weights, wanted, RIDGE, 4, 5, seed=1)
    for row, vector in zip(rows, found.users, strict=True):
        np.testing.assert_allclose(vector, oracle_row(matrix[row], found.items, RIDGE), rtol=1e-3, atol=1e-4)
    assert 0.3 < found.explained < 1
    flat = fit_factors(weights, wanted, RIDGE._replace(regularization=1000.0), 4, 5, seed=1)
    assert abs(flat.explained) < 1e-3
    # Further passes change next to nothing: items are the best for the users too.
    again = fit_factors(weights, wanted, RIDGE, 4, 40, seed=1)
    settled = fit_factors(weights, wanted, RIDGE, 4, 41, seed=1)
    np.testing.assert_allclose(settled.users @ settled.items.T, again.users @ again.items.T, atol=1e-2)


@pytest.mark.parametrize("exponent", [0.5, 0.25])
def test_fit_filter_scores_as_the_truncated_decomposition(exponent: float) -> None:
    rng, rank = np.random.default_rng(5), 4
    same = np.arange(60)[:, None] % rank == np.arange(24) % rank  # as many directions as groups stand out
    matrix = np.where(rng.random(same.shape) < np.where(same, 0.8, 0.02), rng.uniform(0.5, 2.0, same.shape), 0.0)
    of_users, of_items = matrix.sum(axis=1, keepdims=True), matrix.sum(axis=0, keepdims=True)
    below = np.sqrt(of_users * of_items)
    normal = np.divide(matrix, below, out=np.zeros(matrix.shape), where=below > 0)
    _, _, directions = np.linalg.svd(normal)
    expected = normal @ directions[:rank].T @ directions[:rank] * of_items**exponent
    rows = np.array([0, 9, 31])
    found = fit_filter(sparse(matrix), rows, exponent, rank, 60, seed=2)
    np.testing.assert_allclose(found.users @ found.items.T, expected[rows], rtol=1e-3, atol=1e-4)


def test_fit_filter_has_no_more_directions_than_items() -> None:
    found = fit_filter(sparse(long_tailed(6, n_users=9, n_items=5)), np.arange(9), 0.5, 64, 3, seed=2)
    assert found.items.shape == (5, 5)
