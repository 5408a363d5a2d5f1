"""Truncated SVD of the normalised matrix as a graph filter: what is left of a history in the smoothest directions.

Owns: the normalisation, the product that the subspace iteration is made of, and the change of basis between passes.

With v_ui above 0 what user u has of item i, d_u and d_i the sums of rows and columns, and

    A = D_u^-1/2 R D_i^-1/2,        whose singular values are between 0 and 1,

let V be the f right singular vectors of A with the greatest singular values.  The score of item j for user u is

    sum over i of v_ui d_i^-1/2 (V V')_ij d_j^1/2

an ideal low-pass filter on the graph of items that share users (Shen et al. 2021, "How powerful is graph convolution
for recommendation?", the filter with alpha).  It is the closed form of what linear graph convolutions learn.  Scores
are products of two vectors, but for a factor that is the same for all items of a user: a_u V of the user, where a_u is
the row of A, and d_j^1/2 V_j of the item.

V comes from a subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4): Y = A X over the users, Z = A' Y over
the items, X = Z made orthonormal.  Both products are the same function of rows, so blocks of users and of items can be
worked on anywhere; what makes Z orthonormal are f x f sums over its rows.

Letters: u user, i and j items, f length of a vector, n rows of a block, m its columns.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.sparse import Csr

# Part of the greatest eigenvalue below which a direction is what rounding left.
_NO_DIRECTION = 1e-10


class Product(NamedTuple):
    """One product of the iteration; turned: the fixed side is made orthonormal before it."""

    turned: bool

    def space(self, gram: np.ndarray, n_cols: int) -> np.ndarray:
        """The change of basis of the fixed side, (f, f)."""
        return orthonormal(gram) if self.turned else np.eye(len(gram))

    def fixed(self, rows: np.ndarray, space: np.ndarray) -> np.ndarray:
        """Rows of the fixed side in the new basis, float32."""
        return np.ascontiguousarray(rows @ space.astype(np.float32))

    def solve(self, weights: Csr, fixed: np.ndarray) -> tuple[np.ndarray, float, float, float]:
        """The rows of A, or of its transpose, times the fixed side; no objective is minimised, so the sums are 0."""
        return products(weights, fixed), 0.0, 0.0, 0.0


def normalised(weights: Csr, row_sums: np.ndarray, col_sums: np.ndarray) -> Csr:
    """The entries of `weights` as those of A, or of its transpose.

    weights: (n, m), above 0.  row_sums, col_sums: float64 (n,), (m,), over the whole matrix.
    """
    # A row without entries has a sum of 0, and nothing to divide.
    per_row = 1.0 / np.sqrt(np.where(row_sums > 0, row_sums, 1.0))
    per_col = 1.0 / np.sqrt(np.where(col_sums > 0, col_sums, 1.0))
    values = weights.values * per_row[weights.rows] * per_col[weights.indices]
    return weights._replace(values=values.astype(np.float32))


def products(matrix: Csr, fixed: np.ndarray) -> np.ndarray:
    """`matrix` times `fixed`, float32 (n, f): each row summed in float64 in the order of its entries.

    fixed: float32 (m, f).  A row has the same bits in whatever block it is.
    """
    return _products(matrix, np.ascontiguousarray(fixed, np.float32))


@njit(cache=True, nogil=True)
def _products(matrix: Csr, fixed: np.ndarray) -> np.ndarray:
    n, f = len(matrix.indptr) - 1, fixed.shape[1]
    found, total = np.zeros((n, f), np.float32), np.zeros(f)
    for row in range(n):
        total[:] = 0.0
        for entry in range(matrix.indptr[row], matrix.indptr[row + 1]):
            value, other = np.float64(matrix.values[entry]), fixed[matrix.indices[entry]]
            for at in range(f):
                total[at] += value * other[at]
        for at in range(f):
            found[row, at] = total[at]
    return found


def orthonormal(gram: np.ndarray) -> np.ndarray:
    """The change of basis T, float64 (f, f), that makes the columns of Z T orthonormal, greatest direction first.

    gram: Z' Z.  A direction that Z does not have comes out as a column of zeros.
    """
    eigenvalues, basis = np.linalg.eigh(gram)
    eigenvalues, basis = eigenvalues[::-1], basis[:, ::-1]
    is_there = eigenvalues > _NO_DIRECTION * max(float(eigenvalues[0]), np.finfo(np.float64).tiny)
    lengths = np.sqrt(np.where(is_there, eigenvalues, 1.0))
    turn: np.ndarray = np.where(is_there, basis / lengths, 0.0)
    return turn


def singular(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values, float64 (f,), greatest first, and the rotation Q to the singular vectors X Q.

    gram: Y' Y with Y = A X.
    """
    eigenvalues, basis = np.linalg.eigh(gram)
    return np.sqrt(np.maximum(eigenvalues[::-1], 0.0)), np.ascontiguousarray(basis[:, ::-1])
