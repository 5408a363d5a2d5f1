"""Products, factorisation and solution against numpy, at every order that a block of two times four can end in."""

import numpy as np
import pytest

from recsys_spark.numeric.cholesky import add_gram, factorize, products, solve_factorized

DTYPES = [np.float32, np.float64]
# Sums of up to 140 products of size 1: a few roundings of the type each.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-14}


def positive_definite(order: int) -> np.ndarray:
    """Eigenvalues from 1 to about 4, float64."""
    rows = np.random.default_rng(order).standard_normal((2 * order, order)) / np.sqrt(2 * order)
    return rows.T @ rows + np.eye(order)


def lower_of(matrix: np.ndarray, dtype: type, capacity: int) -> np.ndarray:
    """The lower triangle in an array of `capacity` rows and columns, NaN everywhere else."""
    order = len(matrix)
    held = np.full((capacity, capacity), np.nan, dtype)
    held[:order, :order][np.tril_indices(order)] = matrix[np.tril_indices(order)]
    return held


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", range(1, 71))
def test_factorize_gives_the_factor_of_numpy(order: int, dtype: type) -> None:
    matrix = positive_definite(order)
    held = lower_of(matrix, dtype, order)
    assert factorize(held, order)
    np.testing.assert_allclose(np.tril(held), np.linalg.cholesky(matrix), rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", range(1, 71))
def test_solve_factorized_gives_the_solution_of_numpy(order: int, dtype: type) -> None:
    matrix, b = positive_definite(order), np.random.default_rng(order).standard_normal(order)
    held, x = lower_of(matrix, dtype, order), b.astype(dtype)
    assert factorize(held, order)
    solve_factorized(held, order, x)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 7, 8, 11])
def test_factorize_and_solve_touch_nothing_beyond_their_order(order: int) -> None:
    matrix, b = positive_definite(order), np.arange(1.0, order + 1)
    held, x = lower_of(matrix, np.float64, order + 5), np.concatenate([b, np.full(5, np.nan)])
    assert factorize(held, order)
    solve_factorized(held, order, x)
    np.testing.assert_allclose(x[:order], np.linalg.solve(matrix, b), rtol=1e-13)  # a few roundings
    outside = np.ones_like(held, bool)
    outside[:order, :order] = np.triu(np.ones((order, order), bool), 1)
    assert np.isnan(held[outside]).all()
    assert np.isnan(x[order:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [-1.0, 0.0, np.nan])
@pytest.mark.parametrize(("order", "at"), [(1, 0), (4, 3), (5, 0), (5, 4), (6, 2), (9, 7), (9, 8)])
def test_factorize_refuses_what_is_not_positive_definite(order: int, at: int, wrong: float, dtype: type) -> None:
    diagonal = np.ones(order)
    diagonal[at] = wrong
    assert not factorize(np.diag(diagonal).astype(dtype), order)


def test_factorize_refuses_a_matrix_with_a_positive_diagonal_that_is_not_definite() -> None:
    assert not factorize(np.array([[1.0, 0.0], [2.0, 3.0]]), 2)  # 3 - 2 * 2 / 1 < 0
    assert factorize(np.array([[1.0, 0.0], [2.0, 5.0]]), 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [*range(1, 14), 70])
def test_products_are_those_of_numpy(n: int, dtype: type) -> None:
    rows = np.random.default_rng(n).standard_normal((n + 3, 9)).astype(dtype)
    rows[n:] = np.nan
    out = np.full((n + 2, n + 2), np.nan, dtype)
    products(rows, n, out)
    expected = np.tril(rows[:n].astype(np.float64) @ rows[:n].astype(np.float64).T)
    np.testing.assert_allclose(np.tril(out[:n, :n]), expected, rtol=0, atol=TOLERANCE[dtype])
    assert np.isnan(out[n:]).all()
    assert np.isnan(out[:, n:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("n", [*range(10), 70])
def test_add_gram_adds_the_products_of_columns(n: int, order: int, dtype: type) -> None:
    rows = np.random.default_rng(n).standard_normal((n + 3, order)).astype(dtype)
    rows[n:] = np.nan
    gram = np.ones((order, order), dtype)
    add_gram(rows, n, gram)
    expected = np.tril(1 + rows[:n].astype(np.float64).T @ rows[:n].astype(np.float64))
    np.testing.assert_allclose(np.tril(gram), expected, rtol=0, atol=5 * TOLERANCE[dtype])
