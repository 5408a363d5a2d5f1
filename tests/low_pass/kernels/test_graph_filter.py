"""The graph filter against a dense singular value decomposition; the same bits however rows are cut."""

import numpy as np
import pytest

from recsys_spark.als.kernels.objective import gramian, initial_factors
from recsys_spark.low_pass.kernels.graph_filter import normalised, orthonormal, products, singular
from recsys_spark.numeric.sparse import Csr, transposed
from tests.item_cf_oracle import chunks_of, long_tailed, sparse


def dense_of(matrix: Csr) -> np.ndarray:
    found = np.zeros((matrix.n_rows, matrix.n_cols))
    found[matrix.rows, matrix.indices] = matrix.values
    return found


def dense_normalised(matrix: np.ndarray) -> np.ndarray:
    """A of the module, by its formula."""
    of_rows, of_cols = matrix.sum(axis=1, keepdims=True), matrix.sum(axis=0, keepdims=True)
    below = np.sqrt(of_rows * of_cols)
    return np.divide(matrix, below, out=np.zeros(matrix.shape), where=below > 0)


def both_sides(matrix: np.ndarray) -> tuple[Csr, Csr]:
    weights = sparse(matrix.astype(np.float32))
    sums = matrix.sum(axis=1).astype(float), matrix.sum(axis=0).astype(float)
    return normalised(weights, *sums), normalised(transposed(weights), *sums[::-1])


def grouped(n_groups: int, seed: int) -> np.ndarray:
    """Users and items of groups, who have what is of their own, and hardly anything else."""
    rng = np.random.default_rng(seed)
    same = np.arange(60)[:, None] % n_groups == np.arange(40) % n_groups
    return np.where(rng.random(same.shape) < np.where(same, 0.8, 0.02), rng.uniform(0.5, 2.0, same.shape), 0.0)


def test_normalised_matches_its_formula_and_leaves_out_what_nobody_has() -> None:
    matrix = long_tailed(5, n_users=30, n_items=20)
    matrix[3], matrix[:, 7] = 0, 0
    of_users, of_items = both_sides(matrix)
    np.testing.assert_allclose(dense_of(of_users), dense_normalised(matrix), rtol=1e-6)
    np.testing.assert_allclose(dense_of(of_items), dense_normalised(matrix).T, rtol=1e-6)


def test_products_match_a_dense_product_with_the_same_bits_however_rows_are_cut() -> None:
    matrix, fixed = long_tailed(6, n_users=50, n_items=30), np.random.default_rng(7).normal(size=(30, 9))
    fixed = fixed.astype(np.float32)
    whole = products(sparse(matrix), fixed)
    np.testing.assert_allclose(whole, matrix.astype(float) @ fixed, rtol=1e-5, atol=1e-5)
    for cuts in ([0, 0, 17], [1, 49], list(range(51))):
        np.testing.assert_array_equal(
            np.vstack([products(one, fixed) for one in chunks_of(sparse(matrix), cuts)]), whole
        )


def test_orthonormal_keeps_the_directions_that_there_are() -> None:
    rng = np.random.default_rng(8)
    rank_3 = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 5)) * [1e-6, 1e-3, 1, 1, 1]
    turned = rank_3 @ orthonormal(rank_3.T @ rank_3)
    np.testing.assert_allclose(turned.T @ turned, np.diag([1, 1, 1, 0, 0]), atol=1e-6)
    np.testing.assert_allclose(turned[:, :3] @ turned[:, :3].T @ rank_3, rank_3, atol=1e-9)
    assert not orthonormal(np.zeros((4, 4))).any()


@pytest.mark.parametrize("n_groups", [3, 6])
def test_subspace_iteration_finds_what_a_dense_svd_finds(n_groups: int) -> None:
    matrix = grouped(n_groups, seed=9)
    A, At = both_sides(matrix)
    X = initial_factors(0, 40, n_groups, seed=1)
    for _ in range(12):
        Z = products(At, products(A, X))
        X = (Z @ orthonormal(gramian(Z))).astype(np.float32)
    values, turn = singular(gramian(products(A, X)))
    _, expected, right = np.linalg.svd(dense_normalised(matrix), full_matrices=False)
    np.testing.assert_allclose(values, expected[:n_groups], rtol=1e-4)
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    V = X @ turn
    np.testing.assert_allclose(V @ V.T, right[:n_groups].T @ right[:n_groups], atol=2e-3)
