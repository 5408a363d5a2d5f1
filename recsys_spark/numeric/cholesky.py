"""Cholesky solution of positive definite systems inside compiled loops: symmetric products, factorisation, solution.

Owns: the loops that make them fast, above all at small orders.

Matrices are row-major and hold their lower triangle; what is above the diagonal is undefined.  Sums run along rows, two
rows times four at once, so that LLVM keeps eight vector sums in registers and uses every load again.  Updates in
place would not be vectorised, because LLVM cannot rule out that the arrays overlap.
(One core with AVX-512, float32, factorisation of order 16 / 64 / 128 / 256: 0.3 / 4.6 / 33 / 160 us; numba's, which is
LAPACK's, 0.6 / 10 / 46 / 227.)
"""

import numpy as np
from numba import njit

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def add_gram(rows: np.ndarray, n: int, gram: np.ndarray) -> None:
    """gram += rows[:n].T @ rows[:n]; four rows at once, so that sums are read and written once for all four."""
    order, full = rows.shape[1], n // 4 * 4
    for row in range(0, full, 4):
        for i in range(order):
            a, b, c, d = rows[row, i], rows[row + 1, i], rows[row + 2, i], rows[row + 3, i]
            for j in range(i + 1):
                gram[i, j] += (a * rows[row, j] + b * rows[row + 1, j]) + (c * rows[row + 2, j] + d * rows[row + 3, j])
    for row in range(full, n):
        for i in range(order):
            for j in range(i + 1):
                gram[i, j] += rows[row, i] * rows[row, j]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def products(rows: np.ndarray, n: int, out: np.ndarray) -> None:
    """out[:n, :n] := rows[:n] @ rows[:n].T."""
    zero = out.dtype.type(0)
    for i in range(0, n, 2):
        below = min(i + 1, n - 1)
        j = i
        while j + 4 <= n:
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
            for c in range(rows.shape[1]):
                x, y = rows[i, c], rows[below, c]
                p, q, r, s = rows[j, c], rows[j + 1, c], rows[j + 2, c], rows[j + 3, c]
                a0, a1, a2, a3 = a0 + x * p, a1 + x * q, a2 + x * r, a3 + x * s
                b0, b1, b2, b3 = b0 + y * p, b1 + y * q, b2 + y * r, b3 + y * s
            out[j, below], out[j + 1, below], out[j + 2, below], out[j + 3, below] = b0, b1, b2, b3
            out[j, i], out[j + 1, i], out[j + 2, i], out[j + 3, i] = a0, a1, a2, a3
            j += 4
        while j < n:
            a0 = b0 = zero
            for c in range(rows.shape[1]):
                a0, b0 = a0 + rows[i, c] * rows[j, c], b0 + rows[below, c] * rows[j, c]
            out[j, below] = b0
            out[j, i] = a0
            j += 1


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def factorize(matrix: np.ndarray, n: int) -> bool:
    """matrix[:n, :n] = A := L with A = L @ L.T; False if A is not positive definite."""
    one, j = matrix.dtype.type(1), 0
    while j + 4 <= n:
        if not _factorize_square(matrix, j, j + 4):
            return False
        d0, d1 = one / matrix[j, j], one / matrix[j + 1, j + 1]
        d2, d3 = one / matrix[j + 2, j + 2], one / matrix[j + 3, j + 3]
        for i in range(j + 4, n, 2):
            below = min(i + 1, n - 1)
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = matrix.dtype.type(0)
            for k in range(j):
                x, y = matrix[i, k], matrix[below, k]
                p, q, r, s = matrix[j, k], matrix[j + 1, k], matrix[j + 2, k], matrix[j + 3, k]
                a0, a1, a2, a3 = a0 + x * p, a1 + x * q, a2 + x * r, a3 + x * s
                b0, b1, b2, b3 = b0 + y * p, b1 + y * q, b2 + y * r, b3 + y * s
            # Both rows are read before either is written: they are one and the same at the end of an odd order.
            b0 = (matrix[below, j] - b0) * d0
            b1 = (matrix[below, j + 1] - b1 - b0 * matrix[j + 1, j]) * d1
            b2 = (matrix[below, j + 2] - b2 - b0 * matrix[j + 2, j] - b1 * matrix[j + 2, j + 1]) * d2
            b3 = matrix[below, j + 3] - b3 - b0 * matrix[j + 3, j] - b1 * matrix[j + 3, j + 1]
            b3 = (b3 - b2 * matrix[j + 3, j + 2]) * d3
            a0 = (matrix[i, j] - a0) * d0
            a1 = (matrix[i, j + 1] - a1 - a0 * matrix[j + 1, j]) * d1
            a2 = (matrix[i, j + 2] - a2 - a0 * matrix[j + 2, j] - a1 * matrix[j + 2, j + 1]) * d2
            a3 = matrix[i, j + 3] - a3 - a0 * matrix[j + 3, j] - a1 * matrix[j + 3, j + 1]
            a3 = (a3 - a2 * matrix[j + 3, j + 2]) * d3
            matrix[below, j], matrix[below, j + 1], matrix[below, j + 2], matrix[below, j + 3] = b0, b1, b2, b3
            matrix[i, j], matrix[i, j + 1], matrix[i, j + 2], matrix[i, j + 3] = a0, a1, a2, a3
        j += 4
    return _factorize_square(matrix, j, n)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _factorize_square(matrix: np.ndarray, first: int, end: int) -> bool:
    """The square from `first` to `end` (exclusive) on the diagonal, given what is left of it."""
    for c in range(first, end):
        for r in range(c, end):
            total = matrix[r, c]
            for k in range(c):
                total -= matrix[r, k] * matrix[c, k]
            matrix[r, c] = total
        if not matrix[c, c] > 0:
            return False
        scale = matrix.dtype.type(1) / np.sqrt(matrix[c, c])
        for r in range(c, end):
            matrix[r, c] *= scale
    return True


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def solve_factorized(factor: np.ndarray, n: int, b: np.ndarray) -> None:
    """b[:n] := the solution x of L @ L.T @ x = b."""
    for k in range(n):
        rest = b[k]
        for i in range(k):
            rest -= factor[k, i] * b[i]
        b[k] = rest / factor[k, k]
    for k in range(n - 1, -1, -1):
        b[k] /= factor[k, k]
        last = b[k]
        for i in range(k):
            b[i] -= last * factor[k, i]
