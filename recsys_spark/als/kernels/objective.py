"""Exact implicit ALS: every row's factors by one confidence-weighted ridge regression on the fixed side.

Owns: the objective, its ridge, Gramians, and the start; `als.kernels.row_solver` has the loop over rows.

    min over X, Y of  sum over all u, i of c_ui (p_ui - x_u . y_i)^2 + sum of ridge_u |x_u|^2 + sum of ridge_i |y_i|^2

with p_ui = 1 where r_ui > 0, else 0, and c_ui = 1 + alpha * r_ui (Hu, Koren, Volinsky 2008, eq. 2 and 3), and a ridge
that grows with what a row has: regularization * (alpha * L_u + unobserved * n_cols)^nu.  At unobserved = 1 that is
Rendle et al. 2021, section 4 (where alpha is 1 / alpha_0), at 0 the ridge follows the row's own entries alone (Zhou et
al. 2008); nu = 0 is one ridge for all.
"""

from typing import NamedTuple

import numpy as np

from recsys_spark.als.kernels.row_solver import MAX_CONDITION, Solution, Systems, solve_all, work_for
from recsys_spark.errors import KernelError
from recsys_spark.numeric.hashing import mix64
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.sparse import Csr

# A row with fewer entries than this part of the factors is solved in its dual form.
_DUAL_SHARE = 0.75

# Rows that are multiplied in float64 at once: they stay in the cache.
_ROWS_AT_ONCE = 1024

# Least eigenvalue, in parts of the longest row's square, beside which the rounding of a float32 rotation is below 1e-6
# of what it is divided by, the root of an eigenvalue and a ridge.
_FLOAT32_FROM = (6e-8 / 1e-6) ** 2


class Ridge(NamedTuple):
    """alpha: confidence per unit of weight.  regularization, nu: strength of the ridge, and how it grows with a row.

    unobserved: what a column counts in the ridge of a row that has no entry there, 0 to 1.
    """

    alpha: float
    regularization: float
    nu: float
    unobserved: float = 1.0

    def space(self, gram: np.ndarray, n_cols: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Eigenvalues and basis of the fixed side's Gramian, and its number of rows."""
        return *diagonal(gram), n_cols

    def fixed(self, rows: np.ndarray, space: tuple[np.ndarray, np.ndarray, int]) -> "Fixed":
        """See `fixed_side`."""
        return fixed_side(rows, *space)

    def solve(self, weights: Csr, fixed: "Fixed") -> tuple[np.ndarray, float, float, float]:
        """Factors (see `solve_rows`), and sums over the rows: losses, penalties, and c_ui of the entries."""
        found = solve_rows(weights, fixed, self)
        confidence = float(np.sum(1 + self.alpha * weights.values.astype(np.float64)))
        return found.X, float(found.losses.sum()), float(found.penalties.sum()), confidence


class Fixed(NamedTuple):
    """The side that is held fixed, in the basis in which its Gramian is diagonal.

    rotated: Y @ basis, float32 (n_cols, f).  eigenvalues: of the Gramian, float64 (f,), none below 0.
    basis: orthogonal, float64 (f, f).  n_cols: of the whole matrix, where `rotated` may hold the rows of a block alone.
    """

    rotated: np.ndarray
    eigenvalues: np.ndarray
    basis: np.ndarray
    n_cols: int


def gramian(Y: np.ndarray) -> np.ndarray:
    """Y.T @ Y, float64 (f, f); partial sums of blocks of rows may be added up."""
    total = np.zeros((Y.shape[1], Y.shape[1]))
    for first in range(0, len(Y), _ROWS_AT_ONCE):
        rows = Y[first : first + _ROWS_AT_ONCE].astype(np.float64)
        total += rows.T @ rows
    return total


# Factors of a lower effective rank give every user the same order.  Of 24 fits of four logs nine were below, at 1.0 to
# 1.04, with next to nothing explained or with popularity alone; the next was at 1.46.
LEAST_RANK = 1.05

LEAST_EXPLAINED = 1e-3  # part of the objective of factors of zero: a fit that explains less has no factors left


def effective_rank(gram: np.ndarray) -> float:
    """How many directions the rows of a Gramian have, about: (sum of eigenvalues)^2 / sum of squares; 0 if none."""
    total = float(np.sum(gram * gram))  # the sum of the squares of its eigenvalues
    return float(np.trace(gram)) ** 2 / total if total > 0 else 0.0


def has_collapsed(explained: float, rank: float, factors: int) -> bool:
    """Whether all users get the same order, or none: by what a fit explains, and the rank of its items' factors."""
    return explained < LEAST_EXPLAINED or rank < min(LEAST_RANK, factors)


def diagonal(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (f,) and basis (f, f) of a Gramian; raises KernelError if it is not finite."""
    if not np.isfinite(gram).all():
        raise KernelError(
            "als: expected a finite Gramian, got NaN or infinity; lower als.alpha or raise als.regularization"
        )
    eigenvalues, basis = np.linalg.eigh(gram)
    return np.maximum(eigenvalues, 0.0), basis


def fixed_side(Y: np.ndarray, eigenvalues: np.ndarray, basis: np.ndarray, n_cols: int) -> Fixed:
    """The rows of `Y`, float32 (n, f), for `solve_rows`; the eigenvalues and the basis are those of all n_cols rows."""
    longest = np.einsum("nf,nf->n", Y, Y).max(initial=0.0)
    if eigenvalues[0] < _FLOAT32_FROM * longest:
        return Fixed((Y.astype(np.float64) @ basis).astype(np.float32), eigenvalues, basis, n_cols)
    return Fixed(Y @ basis.astype(np.float32), eigenvalues, basis, n_cols)


def solve_rows(weights: Csr, fixed: Fixed, ridge: Ridge) -> Solution:
    """Factors of each row of `weights` with the other side held fixed.

    weights: r_ui >= 0, (n_rows, rows of `fixed.rotated`); a weight of 0 is as good as no entry, and a row of such has
    factors of zero.  Solves (YtY + Yt(Cu - I)Y + ridge_u * I) x = Yt Cu p.
    Raises KernelError if a weight is negative or not finite, or if the ridge is too small for a Gramian without full
    rank.
    Source: Hu, Koren, Volinsky 2008, eq. 4.
    """
    factors = len(fixed.eigenvalues)
    w = _confidences(weights, ridge)
    lengths = np.diff(offsets(w > 0)[weights.indptr])
    ridges = row_ridges(lengths, fixed.n_cols, ridge)
    filled = np.flatnonzero(lengths)
    _check_ridge(ridges[filled], fixed)
    # Rows of one length have one ridge, and systems of one shape.
    order = filled[np.argsort(lengths[filled], kind="stable")]
    n_rows, dual_below = weights.n_rows, dual_bound(factors)
    found = Solution(np.zeros((n_rows, factors), np.float32), np.zeros(n_rows), np.zeros(n_rows))
    # float64 solves what float32 cannot: most fits have no such row, and never compile for it.
    for dtype, max_condition in ((np.float32, MAX_CONDITION), (np.float64, np.inf)):
        if len(order):
            rows, work = (
                Systems(weights.indptr, weights.indices, w, ridges, order),
                work_for(factors, dual_below, dtype),
            )
            order = solve_all(rows, fixed.rotated, fixed.eigenvalues, dual_below, work, max_condition, found)
    if len(order) or not np.isfinite(found.X).all():
        raise KernelError(
            f"als: expected a solution for every row, got none with weights up to {weights.values.max():g} and ridges "
            f"down to {ridges[filled].min():g}; raise als.regularization, or lower als.alpha or the weights"
        )
    return found._replace(X=found.X @ fixed.basis.T.astype(np.float32))


def dual_bound(factors: int) -> int:
    """Length from which a row's system is cheaper in its primal form, of order `factors`."""
    return max(1, int(_DUAL_SHARE * factors))


def row_ridges(lengths: np.ndarray, n_cols: int, ridge: Ridge) -> np.ndarray:
    """The ridge of rows with so many entries, float64."""
    return np.asarray(
        ridge.regularization * (ridge.alpha * lengths + ridge.unobserved * n_cols) ** ridge.nu, np.float64
    )


def row_costs(n_entries: np.ndarray, n_rows: np.ndarray, factors: int) -> np.ndarray:
    """Multiplications that `n_rows` rows with `n_entries` entries together take, about, float64.

    Linear in both, as measured: an entry passes some fifteen steps of two products, a row two rotations.
    """
    return np.asarray(30.0 * n_entries * factors + 2.0 * n_rows * factors**2, np.float64)


def initial_factors(first: int, end: int, factors: int, seed: int) -> np.ndarray:
    """Factors of rows `first` to `end` (exclusive) to start from, float32, uniform with deviation 1 / sqrt(factors).

    A row's numbers depend on the seed and the row alone.  A tenth of that deviation (Rendle et al. 2021, section 5) is
    so near to 0, where the objective is level, that with a strong ridge the first passes hardly lower it.
    """
    bound = np.sqrt(3.0 / factors)
    found = np.empty((end - first, factors), np.float32)
    for row in range(first, end, _ROWS_AT_ONCE):
        last = min(row + _ROWS_AT_ONCE, end)
        at = np.arange(row * factors, last * factors, dtype=np.uint64).reshape(last - row, factors)
        found[row - first : last - first] = bound * (2.0 * _uniform(at, seed) - 1.0)
    return found


def _uniform(at: np.ndarray, seed: int) -> np.ndarray:
    """Numbers from 0 to 1 by counter."""
    with np.errstate(over="ignore"):
        bits = (at + np.uint64(seed % 2**63) * np.uint64(0xD1342543DE82EF95)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray((mix64(bits) >> np.uint64(11)) / 2.0**53, np.float64)


def _confidences(weights: Csr, ridge: Ridge) -> np.ndarray:
    """alpha * r_ui of every entry, float64."""
    if len(weights.values) and not (weights.values.min() >= 0 and np.isfinite(weights.values.max())):
        raise KernelError(
            f"als: expected finite weights of at least 0, got {weights.values.min():g} to {weights.values.max():g}; "
            "clip them before the fit"
        )
    return ridge.alpha * weights.values.astype(np.float64)


# Part of the greatest eigenvalue below which one is rounding.
_NO_EIGENVALUE = 1e-13


def _check_ridge(ridges: np.ndarray, fixed: Fixed) -> None:
    """Raises KernelError if a row's system is singular but for rounding."""
    smallest = fixed.eigenvalues[0] + ridges.min(initial=np.inf)
    if not smallest > _NO_EIGENVALUE * fixed.eigenvalues[-1]:
        raise KernelError(
            f"als.regularization: expected a ridge above 0, got {ridges.min():g} beside a Gramian of rank below "
            f"als.factors {len(fixed.eigenvalues)}; raise als.regularization or lower als.factors"
        )
