"""Implicit ALS as its paper defines it, on dense matrices and in float64; and small matrices to try it on.

A matrix is float (n_users, n_items) of r_ui, 0 where a user has nothing.
"""

import numpy as np

from recsys_spark.als.kernels.objective import Fixed, Ridge, diagonal, fixed_side, gramian, row_ridges, solve_rows
from recsys_spark.als.kernels.row_solver import Solution
from recsys_spark.numeric.sparse import Csr, transposed
from tests.item_cf_oracle import sparse


def oracle_ridge(weights: np.ndarray, ridge: Ridge) -> float:
    """The ridge of a row: Rendle et al. 2021, section 4, or, of what the row has alone, Zhou et al. 2008."""
    size = ridge.alpha * np.count_nonzero(weights) + ridge.unobserved * len(weights)
    return float(ridge.regularization * size**ridge.nu)


def oracle_row(weights: np.ndarray, y: np.ndarray, ridge: Ridge) -> np.ndarray:
    """Factors of a row, float64 (f,): Hu, Koren, Volinsky 2008, eq. 4, with a confidence for every item."""
    wide, confidence = y.astype(np.float64), _confidence(weights, ridge)
    system = (wide.T * confidence) @ wide + oracle_ridge(weights, ridge) * np.eye(y.shape[1])
    return np.linalg.solve(system, wide.T @ (confidence * (weights > 0))) if weights.any() else np.zeros(y.shape[1])


def oracle_row_of_extremes(weights: np.ndarray, y: np.ndarray, ridge: Ridge) -> np.ndarray:
    """As `oracle_row`, by least squares: float64 is enough where the condition of the system is 1e13 and more."""
    if not weights.any():
        return np.zeros(y.shape[1])
    root = np.sqrt(_confidence(weights, ridge))
    above, below = root[:, None] * y.astype(np.float64), np.sqrt(oracle_ridge(weights, ridge)) * np.eye(y.shape[1])
    target = np.concatenate([root * (weights > 0), np.zeros(y.shape[1])])
    return np.linalg.lstsq(np.concatenate([above, below]), target, rcond=None)[0]


def oracle_row_loss(weights: np.ndarray, x: np.ndarray, y: np.ndarray, ridge: Ridge) -> float:
    """What a row adds to the objective, its own ridge with it."""
    wide, x = y.astype(np.float64), x.astype(np.float64)
    return float(_confidence(weights, ridge) @ ((weights > 0) - wide @ x) ** 2 + oracle_ridge(weights, ridge) * x @ x)


def oracle_objective(matrix: np.ndarray, x: np.ndarray, y: np.ndarray, ridge: Ridge) -> float:
    """The whole objective, over every user and every item."""
    total = 0.0
    for u in range(len(matrix)):
        total += oracle_ridge(matrix[u], ridge) * float(x[u].astype(np.float64) @ x[u].astype(np.float64))
        for i in range(matrix.shape[1]):
            score = float(x[u].astype(np.float64) @ y[i].astype(np.float64))
            total += (1 + ridge.alpha * float(matrix[u, i])) * ((matrix[u, i] > 0) - score) ** 2
    for i in range(matrix.shape[1]):
        total += oracle_ridge(matrix[:, i], ridge) * float(y[i].astype(np.float64) @ y[i].astype(np.float64))
    return total


def oracle_fit(matrix: np.ndarray, y: np.ndarray, ridge: Ridge, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and of items, float64, from factors of items to start with."""
    for _ in range(iterations):
        x = np.array([oracle_row(weights, y, ridge) for weights in matrix])
        y = np.array([oracle_row(weights, x, ridge) for weights in matrix.T])
    return x, y


def _confidence(weights: np.ndarray, ridge: Ridge) -> np.ndarray:
    return 1 + ridge.alpha * weights.astype(np.float64)


def fixed(y: np.ndarray) -> Fixed:
    """The whole of the fixed side."""
    return fixed_side(y, *diagonal(gramian(y)), len(y))


def solved(matrix: np.ndarray, y: np.ndarray, ridge: Ridge) -> Solution:
    """The rows of `matrix`, with the whole of `y` held fixed."""
    return solve_rows(sparse(matrix), fixed(y), ridge)


def fit(weights: Csr, y: np.ndarray, ridge: Ridge, iterations: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Factors of users and of items, and the objective after each half of an iteration."""
    of_items, objectives = transposed(weights), []
    penalty = float(row_ridges(of_items.lengths, weights.n_rows, ridge) @ (y.astype(np.float64) ** 2).sum(axis=1))
    for _ in range(iterations):
        users = solve_rows(weights, fixed(y), ridge)
        objectives.append(float(users.losses.sum()) + penalty)
        items = solve_rows(of_items, fixed(users.X), ridge)
        objectives.append(float(items.losses.sum() + users.penalties.sum()))
        y, penalty = items.X, float(items.penalties.sum())
    return users.X, y, objectives


def random_rows(seed: int, lengths: list[int], n_cols: int) -> np.ndarray:
    """Rows with so many entries at random places, weights from 0.1 to 5, float32."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((len(lengths), n_cols), np.float32)
    for row, length in enumerate(lengths):
        matrix[row, rng.permutation(n_cols)[:length]] = rng.uniform(0.1, 5.0, length)
    return matrix


def normal_factors(seed: int, n: int, factors: int) -> np.ndarray:
    """Vectors of length 1 or so, which point more one way than the other, float32 (n, factors)."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0.5, 1.0, (n, factors)) / np.sqrt(factors)).astype(np.float32)


def assert_rows_near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Every factor, up to `tolerance` of the greatest one of its row; a row of zeros has to be one."""
    greatest = np.abs(expected).max(axis=1, keepdims=True)
    far = np.abs(found - expected) > tolerance * greatest
    assert not far.any(), (
        f"rows {np.flatnonzero(far.any(axis=1))}: off by up to "
        f"{(np.abs(found - expected) / np.where(greatest > 0, greatest, 1)).max():.1e} of the greatest factor"
    )
