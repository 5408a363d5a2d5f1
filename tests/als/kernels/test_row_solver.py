"""Every way to solve a row against its dense normal equation, in both precisions; weights of every size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_spark.als.kernels.objective import Ridge, dual_bound, solve_rows
from recsys_spark.als.kernels.row_solver import _GATHERED, MAX_CONDITION, Work, _iterate, iterate_from, work_for
from tests.als_oracle import (
    assert_rows_near,
    fixed,
    normal_factors,
    oracle_ridge,
    oracle_row,
    oracle_row_loss,
    oracle_row_of_extremes,
    random_rows,
    solved,
)
from tests.item_cf_oracle import sparse

# Of the greatest factor of a row.  Vectors, sums and factors are float32: some roundings of 6e-8 each, and a residual
# of 1e-6 where a row is iterated; 8e-6 is the most that was seen.
TOLERANCE = 1e-5
# Of the sum of 1 + w over a row's entries, from which all that is explained is taken off: a float32 sum of 4096 terms,
# with a rounding of 6e-8 each, is off by 64 of them.
LOSS_TOLERANCE = 1e-5

N_COLS = 4500
# Dual and primal at all of FACTORS, below and above the order from which rows are iterated; the last two are summed up.
LENGTHS = [0, 1, 2, 3, 4, 11, 12, 13, 24, 25, 31, 32, 33, 47, 48, 49, 64, 65, 100, 1000, 4096, 4097, 4500]
FACTORS = [1, 3, 16, 33, 64]


def oracle_rows(matrix: np.ndarray, y: np.ndarray, ridge: Ridge) -> np.ndarray:
    return np.array([oracle_row(weights, y, ridge) for weights in matrix])


def leverage(weights: np.ndarray, y: np.ndarray, ridge: Ridge) -> float:
    """What bounds the condition of a row's system, but for the 1."""
    scaled = np.linalg.solve(y.T.astype(float) @ y + oracle_ridge(weights, ridge) * np.eye(y.shape[1]), y.T)
    return float(ridge.alpha * weights @ (y * scaled.T).sum(axis=1))


def test_lengths_take_every_way() -> None:
    for factors in FACTORS:
        assert {length < dual_bound(factors) for length in LENGTHS[1:]} == {True, False} or factors == 1
    assert min(LENGTHS[1:]) < iterate_from(64) < dual_bound(64) < 64
    assert LENGTHS[-3:] == [_GATHERED, _GATHERED + 1, N_COLS]


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.001, 1.0, 40.0])
@pytest.mark.parametrize("factors", FACTORS)
def test_solve_all_matches_dense_oracle(factors: int, alpha: float, nu: float) -> None:
    matrix, y = random_rows(1, LENGTHS, N_COLS), normal_factors(2, N_COLS, factors)
    ridge = Ridge(alpha, 0.1, nu)
    found, expected = solved(matrix, y, ridge), oracle_rows(matrix, y, ridge)
    assert_rows_near(found.X, expected, TOLERANCE)
    losses = [oracle_row_loss(weights, x, y, ridge) for weights, x in zip(matrix, expected, strict=True)]
    sums = ((matrix > 0) * (1 + alpha * matrix.astype(float))).sum(axis=1)
    assert (np.abs(found.losses - losses) <= LOSS_TOLERANCE * sums).all()
    ridges = np.array([oracle_ridge(weights, ridge) for weights in matrix])
    # A square has twice the error of a factor.
    np.testing.assert_allclose(found.penalties, ridges * (expected**2).sum(axis=1), rtol=2 * TOLERANCE)


@pytest.mark.parametrize("factors", [1, 2, 5, 40])
def test_solve_all_when_there_are_fewer_columns_than_factors(factors: int) -> None:
    y = normal_factors(3, 3, factors)
    matrix = np.array([[1, 0, 0], [0, 2, 3], [1, 1, 5]], np.float32)
    ridge = Ridge(2.0, 0.5, 1.0)
    assert_rows_near(solved(matrix, y, ridge).X, oracle_rows(matrix, y, ridge), TOLERANCE)


SMALL = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.0, 1e-12, 0.01, 1.0, 40.0, 1e4, 1e8]))
)


@settings(max_examples=100, deadline=None)
@given(matrix=SMALL, factors=st.integers(1, 4), seed=st.integers(0, 9), nu=st.sampled_from([0.0, 1.0]))
def test_solve_all_leaves_no_more_than_rounding_of_any_loss(
    matrix: np.ndarray, factors: int, seed: int, nu: float
) -> None:
    y, ridge = normal_factors(seed, matrix.shape[1], factors), Ridge(1.0, 0.1, nu)
    found = solved(matrix, y, ridge)
    assert np.isfinite(found.X).all()
    for weights, x, loss in zip(matrix, found.X, found.losses, strict=True):
        least = oracle_row_loss(weights, oracle_row_of_extremes(weights, y, ridge), y, ridge)
        # float32 factors: an error of 1e-7 in the score of an entry, whose square is multiplied with its weight.
        score_error = float(weights.astype(float).sum()) * 1e-13
        assert oracle_row_loss(weights, x, y, ridge) <= least * (1 + 1e-5) + 10 * score_error
        assert abs(loss - least) <= LOSS_TOLERANCE * ((weights > 0) + weights.astype(float)).sum()


# Weights of every size

HEAVY_LENGTHS = [1, 5, 20, 40, 60, 200, 4200]


def heavy_rows(weight: float) -> np.ndarray:
    """Rows in which one entry has `weight`, and all others from 0.1 to 5."""
    matrix = random_rows(4, HEAVY_LENGTHS, N_COLS)
    matrix[np.arange(len(matrix)), (matrix > 0).argmax(axis=1)] = weight
    return matrix


@pytest.mark.parametrize("factors", [3, 16, 64])
@pytest.mark.parametrize("weight", [1e9, 1e12])
def test_solve_all_is_right_when_one_weight_is_huge(weight: float, factors: int) -> None:
    matrix, y, ridge = heavy_rows(weight), normal_factors(2, N_COLS, factors), Ridge(1.0, 0.001, 1.0)
    assert min(leverage(weights, y, ridge) for weights in matrix) > MAX_CONDITION  # all are solved in float64
    expected = np.array([oracle_row_of_extremes(weights, y, ridge) for weights in matrix])
    # float64 at a condition of 1e12 leaves four digits in the worst case.
    assert_rows_near(solved(matrix, y, ridge).X, expected, TOLERANCE if weight < 1e12 else 1e-4)


@pytest.mark.parametrize("factors", [3, 16, 64])
@pytest.mark.parametrize("weight", [1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
def test_solve_all_keeps_the_digits_that_the_condition_leaves(weight: float, factors: int) -> None:
    matrix, y, ridge = heavy_rows(weight), normal_factors(2, N_COLS, factors), Ridge(1.0, 0.001, 1.0)
    found = solved(matrix, y, ridge).X
    for x, weights in zip(found, matrix, strict=True):
        condition = 1 + leverage(weights, y, ridge)
        # A residual of 1e-6 and the rounding of float32 sums, at most times the condition; float64 above its bound.
        single = (1e-6 + 6e-8 * np.sqrt((weights > 0).sum())) * condition if condition < MAX_CONDITION else 0.0
        assert_rows_near(x[None], oracle_rows(weights[None], y, ridge), TOLERANCE + single)


@pytest.mark.parametrize("factors", [3, 16, 64])
@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e5, 1e12])
def test_solve_all_is_right_when_all_weights_are_of_a_size(size: float, factors: int) -> None:
    matrix = random_rows(4, HEAVY_LENGTHS, N_COLS) * np.float32(size)
    y, ridge = normal_factors(2, N_COLS, factors), Ridge(1.0, 0.001, 1.0)
    expected = np.array([oracle_row_of_extremes(weights, y, ridge) for weights in matrix])
    assert_rows_near(solved(matrix, y, ridge).X, expected, TOLERANCE if size < 1e12 else 1e-4)


def test_solve_all_of_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    y, ridge = normal_factors(2, N_COLS, 33), Ridge(1.0, 0.01, 0.5)
    matrix = np.concatenate([heavy_rows(1e9), heavy_rows(1.0), random_rows(5, LENGTHS, N_COLS)])
    together = solved(matrix, y, ridge)
    for row in range(len(matrix)):
        alone = matrix * 0
        alone[row] = matrix[row]
        found = solved(alone, y, ridge)
        np.testing.assert_array_equal(found.X[row], together.X[row])
        assert found.losses[row] == together.losses[row]
        assert found.penalties[row] == together.penalties[row]


# Conjugate gradients


def spread(factors: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal vectors (factors, factors), and weights of the first n that grow from 0.1 to 500."""
    y = np.linalg.qr(np.random.default_rng(6).standard_normal((factors, factors)))[0].astype(np.float32)
    weights = np.zeros((1, factors), np.float32)
    weights[0, :n] = np.logspace(-1, np.log10(500), n)
    return y, weights


def work_of(y: np.ndarray, weights: np.ndarray, dtype: type) -> Work:
    """As gathered for a Gramian of 1 and no ridge."""
    work, n = work_for(y.shape[1], dual_bound(y.shape[1]), dtype), len(weights)
    work.U[:n] = np.sqrt(weights)[:, None] * y
    work.right[:] = ((1 + weights) / np.sqrt(weights)) @ work.U[:n]
    return work


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [32, 33, 34, 35, 64])
def test_iterate_solves_what_is_well_conditioned(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    work = work_of(normal_factors(n, n, 40), rng.uniform(0.1, 2, n), dtype)
    expected = np.linalg.solve(np.eye(40) + work.U[:n].T.astype(float) @ work.U[:n], work.right.astype(float))
    left, converged = _iterate(work, n)
    assert converged
    # The residual is 1e-6 of the right side, and no eigenvalue is below 1.
    assert np.linalg.norm(work.z - expected) <= 1e-6 * np.linalg.norm(work.right)
    assert abs(left) <= 1e-6 * np.linalg.norm(work.right) * np.linalg.norm(work.z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_iterate_is_done_at_once_when_the_right_side_is_zero(dtype: type) -> None:
    work = work_for(40, dual_bound(40), dtype)
    work.z[:] = np.nan
    assert _iterate(work, 0) == (0.0, True)
    assert not work.z.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("factors", "n"), [(128, 90), (96, 96)])
def test_iterate_says_when_it_did_not_converge(factors: int, n: int, dtype: type) -> None:
    y, weights = spread(factors, n)
    assert _iterate(work_of(y[:n], weights[0, :n], dtype), n) == (0.0, False)


@pytest.mark.parametrize(("factors", "n"), [(128, 90), (96, 96)])
def test_solve_all_factorises_where_iteration_does_not_converge(factors: int, n: int) -> None:
    y, weights = spread(factors, n)
    assert (n < dual_bound(factors)) == (factors == 128)  # one is dual, one is primal
    ridge = Ridge(1.0, 0.01, 0.0)
    assert n >= iterate_from(factors)
    assert leverage(weights[0], y, ridge) < MAX_CONDITION
    # Orthonormal vectors: every score is a fraction of its own, (1 + w) / (1 + w + ridge).
    scores = np.where(weights > 0, (1 + weights) / (1 + weights + 0.01), 0)
    found = solved(weights, y, ridge)
    # float32's rounding of 6e-8, times a condition of 500 / 0.1 at most.
    assert_rows_near(found.X, scores @ y, 3e-4)
    np.testing.assert_allclose(found.X @ y.T, scores, atol=3e-4)


def test_solve_all_reads_no_columns_but_those_of_its_entries() -> None:
    y, ridge = normal_factors(2, 200, 40), Ridge(1.0, 0.01, 1.0)
    matrix, side = random_rows(7, [3, 35, 100], 200), fixed(y)
    used = matrix.any(axis=0)
    side.rotated[~used] = np.nan
    assert not used.all()
    assert_rows_near(solve_rows(sparse(matrix), side, ridge).X, oracle_rows(matrix, y, ridge), TOLERANCE)
