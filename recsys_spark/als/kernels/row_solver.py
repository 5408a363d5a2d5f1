"""Row solver of ALS, a compiled loop: one ridge regression per row, in the basis in which the Gramian is diagonal.

Owns: the three ways to solve a row's system, and the precision in which it is solved.

With D = eigenvalues + ridge of the row, w = alpha * r, and the rows of U = sqrt(w) * y' / sqrt(D), a row's factors are
x' = z / sqrt(D), and its f-vector z solves

    primal      (I + U'U) z = U'g,  g = (1 + w) / sqrt(w)     order f
    dual        (I + UU') s = g,    z = U's                   order L, the number of entries: for rows shorter than f

A row y' / sqrt(D) is no longer than 1 (its leverage), so both have condition numbers of at most 1 + sum(w), whatever
the Gramian's.  So float32 does for all but a few rows, which are solved again in float64; and conjugate gradients,
which pass over U once a step, take ten to thirty steps until the residual is rounding.  From some order on
that is up to three times faster than a factorisation and gives the same digits; where it does not converge, a
factorisation follows.  (What is known as ALS by conjugate gradients stops after three steps on an unscaled system.)
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.cholesky import FASTMATH, add_gram, factorize, products, solve_factorized

# Bound on the condition number of what is solved in float32: three digits of seven are left in the worst case; five, as
# measured.
MAX_CONDITION = 1e4

# Order of a system from which conjugate gradients are faster than a factorisation: a constant, and one more for every
# so many factors; measured at 64 to 512 factors and confidences of 2 to 400.
_ITERATE_FROM, _FACTORS_PER_ORDER = 24, 12
_RESIDUAL = 1e-6  # part of the solution's length; a smaller residual is rounding
_MAX_STEPS = 60  # about what a factorisation costs at the orders at which rows are many

_GATHERED = 4096  # entries of a row that are held at once; longer rows are summed up in parts and factorised


class Systems(NamedTuple):
    """What is solved: CSR arrays, w = alpha * r >= 0 per entry, the ridge per row, and the order of the rows."""

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    ridges: np.ndarray
    order: np.ndarray


class Work(NamedTuple):
    """Working memory of one precision: all that a row needs, whatever its length.

    U: (_GATHERED, f).  matrix: of the system, (m, m).  g: (_GATHERED,).  right: U'g.  z, scale: 1 / sqrt(D).
    rest, step, image: of conjugate gradients; these five are (f,).
    """

    U: np.ndarray
    matrix: np.ndarray
    g: np.ndarray
    right: np.ndarray
    z: np.ndarray
    scale: np.ndarray
    rest: np.ndarray
    step: np.ndarray
    image: np.ndarray


class Solution(NamedTuple):
    """Where solutions go.  X: float32 (n_rows, f).  losses: minimum of each row's loss; penalties: its ridge's part."""

    X: np.ndarray
    losses: np.ndarray
    penalties: np.ndarray


def work_for(factors: int, dual_below: int, dtype: type) -> Work:
    """Working memory for rows of any length, float32 or float64."""
    order = max(factors, dual_below)
    shapes = ((_GATHERED, factors), (order, order), (_GATHERED,), *[(factors,)] * 6)
    return Work(*(np.zeros(shape, dtype) for shape in shapes))


@njit(cache=True, nogil=True)
def iterate_from(factors: int) -> int:
    """Order of a system from which it is solved by conjugate gradients."""
    return _ITERATE_FROM + factors // _FACTORS_PER_ORDER


@njit(cache=True, nogil=True)
def solve_all(
    rows: Systems,
    Y: np.ndarray,
    eigenvalues: np.ndarray,
    dual_below: int,
    work: Work,
    max_condition: float,
    to: Solution,
) -> np.ndarray:
    """Solves the rows of `rows.order`; returns those that it could not solve, int64 (n,).

    Y: (n_cols, f) float32, in the basis of the eigenvalues; so is what is solved.  max_condition: rows above this bound
    are left unsolved; in float64 it is infinite, and no row is left for it.
    """
    n_left, left = 0, np.empty(len(rows.order), np.int64)
    last = np.nan
    for row in rows.order:
        ridge = rows.ridges[row]
        if ridge != last:  # rows come by length, and the ridge depends on that
            for k in range(len(eigenvalues)):
                work.scale[k] = 1.0 / np.sqrt(eigenvalues[k] + ridge)
            last = ridge
        loss = _solve_row(rows, rows.indptr[row], rows.indptr[row + 1], Y, dual_below, work, max_condition)
        if loss >= 0.0:
            to.losses[row] = loss
            to.penalties[row] = ridge * _unscale(work, to.X[row])
        else:
            left[n_left] = row
            n_left += 1
    return left[:n_left]


@njit(cache=True, nogil=True)
def _solve_row(
    rows: Systems, start: int, end: int, Y: np.ndarray, dual_below: int, work: Work, max_condition: float
) -> float:
    """Solves the row with the entries `start` to `end` into work.z; the minimum of its loss.

    -1 if the bound on the condition is above `max_condition`, or rounding left the system without a solution.
    """
    n, order = end - start, len(work.z)
    if n > _GATHERED and max_condition < np.inf:
        return -1.0  # sums of so many terms lose digits in float32
    work.right[:] = 0
    if n > _GATHERED:
        total, leverage = _sum_up(rows, start, end, Y, work)
    else:
        total, leverage = _gather(rows, start, end, Y, work)
    if not 1.0 + leverage < max_condition:
        return -1.0
    left, solved = 0.0, False
    # Where one weight is huge, a small residual says nothing of the other entries: such rows are factorised.
    if min(n, order) >= iterate_from(order) and n <= _GATHERED and max_condition < np.inf:
        left, solved = _iterate(work, n)
    if not solved:
        left = 0.0
        if n < dual_below:
            products(work.U, n, work.matrix)
            solved = _solve_dual(work, n)
        else:
            if n <= _GATHERED:
                work.matrix[:] = 0
                add_gram(work.U, n, work.matrix)
            solved = _solve_primal(work)
    loss = total - _dot(work.right, work.z) - left
    # Rounding may leave a loss of 0 below it.
    return max(loss, 0.0) if solved and np.isfinite(loss) else -1.0


@njit(cache=True, nogil=True)
def _sum_up(rows: Systems, start: int, end: int, Y: np.ndarray, work: Work) -> tuple[float, float]:
    """As `_gather`, with U'U in work.matrix, for rows of any length."""
    total, leverage = 0.0, 0.0
    work.matrix[:] = 0
    for first in range(start, end, _GATHERED):
        last = min(first + _GATHERED, end)
        part, part_leverage = _gather(rows, first, last, Y, work)
        total, leverage = total + part, leverage + part_leverage
        add_gram(work.U, last - first, work.matrix)
    return total, leverage


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _gather(rows: Systems, start: int, end: int, Y: np.ndarray, work: Work) -> tuple[float, float]:
    """U and g of the entries `start` to `end`, and their part of U'g; sum of 1 + w, and of the squares of U."""
    zero = work.g.dtype.type(0)
    total, leverage = 0.0, 0.0
    for entry in range(start, end):
        w, place = np.float64(rows.weights[entry]), entry - start
        root, g = work.g.dtype.type(np.sqrt(w)), zero
        # A weight of 0 is an entry like all those that are not there.
        if w > 0.0:
            g = work.g.dtype.type((1.0 + w) / np.sqrt(w))
            total += 1.0 + w
        col, squares = rows.indices[entry], zero
        for k in range(len(work.scale)):
            u = root * Y[col, k] * work.scale[k]
            work.U[place, k] = u
            squares += u * u
        work.g[place] = g
        leverage += squares
    _combine(work.U, work.g, end - start, work.right)
    return total, leverage


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _combine(U: np.ndarray, by: np.ndarray, n: int, out: np.ndarray) -> None:
    """out += by[:n] @ U[:n], four rows at once."""
    full = n // 4 * 4
    for i in range(0, full, 4):
        a, b, c, d = by[i], by[i + 1], by[i + 2], by[i + 3]
        for k in range(len(out)):
            out[k] += (a * U[i, k] + b * U[i + 1, k]) + (c * U[i + 2, k] + d * U[i + 3, k])
    for i in range(full, n):
        for k in range(len(out)):
            out[k] += by[i] * U[i, k]


@njit(cache=True, nogil=True)
def _iterate(work: Work, n: int) -> tuple[float, bool]:
    """Conjugate gradients from 0 (Hestenes, Stiefel 1952): residual . z, and whether it converged."""
    work.z[:] = 0
    work.rest[:] = work.right
    work.step[:] = work.right
    squares = _dot(work.rest, work.rest)
    if squares == 0.0:
        return 0.0, True
    for _ in range(_MAX_STEPS):
        _apply(work.U, n, work.step, work.image)
        length = squares / _dot(work.step, work.image)
        _add(work.z, length, work.step)
        _add(work.rest, -length, work.image)
        before, squares = squares, _dot(work.rest, work.rest)
        # No eigenvalue is below 1, so the error is no longer than the residual.
        if squares <= _RESIDUAL**2 * _dot(work.z, work.z):
            return _dot(work.rest, work.z), True
        work.step[:] *= work.step.dtype.type(squares / before)
        _add(work.step, 1.0, work.rest)
    return 0.0, False


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _apply(U: np.ndarray, n: int, x: np.ndarray, out: np.ndarray) -> None:
    """out := x + U'U x in one pass over U, four rows at once."""
    zero = x.dtype.type(0)
    full = n // 4 * 4
    out[:] = x
    for i in range(0, full, 4):
        a = b = c = d = zero
        for k in range(len(x)):
            a, b = a + U[i, k] * x[k], b + U[i + 1, k] * x[k]
            c, d = c + U[i + 2, k] * x[k], d + U[i + 3, k] * x[k]
        for k in range(len(x)):
            out[k] += (a * U[i, k] + b * U[i + 1, k]) + (c * U[i + 2, k] + d * U[i + 3, k])
    for i in range(full, n):
        a = zero
        for k in range(len(x)):
            a += U[i, k] * x[k]
        for k in range(len(x)):
            out[k] += a * U[i, k]


@njit(cache=True, nogil=True)
def _solve_dual(work: Work, n: int) -> bool:
    for k in range(n):
        work.matrix[k, k] += 1
    if not factorize(work.matrix, n):
        return False
    solve_factorized(work.matrix, n, work.g)
    work.z[:] = 0
    _combine(work.U, work.g, n, work.z)
    return True


@njit(cache=True, nogil=True)
def _solve_primal(work: Work) -> bool:
    order = len(work.z)
    for k in range(order):
        work.matrix[k, k] += 1
    if not factorize(work.matrix, order):
        return False
    work.z[:] = work.right
    solve_factorized(work.matrix, order, work.z)
    return True


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _add(x: np.ndarray, factor: float, y: np.ndarray) -> None:
    """x += factor * y."""
    by = x.dtype.type(factor)
    for k in range(len(x)):
        x[k] += by * y[k]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for k in range(len(a)):
        total += np.float64(a[k]) * np.float64(b[k])
    return total


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _unscale(work: Work, x: np.ndarray) -> float:
    """x := z / sqrt(D); the sum of its squares."""
    squares = 0.0
    for k in range(len(x)):
        value = work.z[k] * work.scale[k]
        x[k] = value
        squares += np.float64(value) * np.float64(value)
    return squares
