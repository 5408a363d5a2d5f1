"""Compressed sparse rows (CSR): their type, its transpose, chosen rows, and the newest entries of every row.

Owns: the type, and the order of the entries of a row.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.ragged import offsets


class Csr(NamedTuple):
    """Compressed sparse rows; a named tuple, because compiled functions take one as it is.

    indptr: int64 (n_rows + 1,).  indices: int32 (n,), ascending and unique in a row, below n_cols.
    values: float32 (n,).
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    n_cols: int

    @property
    def n_rows(self) -> int:
        """Number of rows, empty ones too."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of entries of every row, int64 (n_rows,)."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> np.ndarray:
        """Row of every entry, int64 (n,)."""
        return np.repeat(np.arange(self.n_rows), self.lengths)


def entries_of(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows `rows`, in that order: their own indptr, int64 (len(rows) + 1,), and the place of each of their entries.

    indptr: of any rows of entries, (n_rows + 1,).
    """
    lengths = np.diff(indptr)[rows]
    ends = offsets(lengths)
    return ends, np.repeat(indptr[rows] - ends[:-1], lengths) + np.arange(ends[-1])


def rows_of(matrix: Csr, rows: np.ndarray) -> Csr:
    """The chosen rows of `matrix`, in that order."""
    indptr, at = entries_of(matrix.indptr, rows)
    return Csr(indptr, matrix.indices[at], matrix.values[at], matrix.n_cols)


def stacked(*parts: Csr) -> Csr:
    """The rows of all parts, one below the other; all have the same columns."""
    lengths = np.concatenate([one.lengths for one in parts])
    return Csr(
        offsets(lengths),
        np.concatenate([one.indices for one in parts]),
        np.concatenate([one.values for one in parts]),
        parts[0].n_cols,
    )


def transposed(matrix: Csr, first: int = 0, end: int | None = None) -> Csr:
    """Columns `first` to `end` (exclusive; None: all) of `matrix` as rows, (end - first, n_rows)."""
    indptr, indices, values = _transpose(matrix, first, matrix.n_cols if end is None else end)
    return Csr(indptr, indices, values, matrix.n_rows)


@njit(cache=True, nogil=True)
def _transpose(matrix: Csr, first: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_cols = end - first
    indptr = np.zeros(n_cols + 1, np.int64)
    for index in matrix.indices:
        if first <= index < end:
            indptr[index - first + 1] += 1
    for col in range(n_cols):
        indptr[col + 1] += indptr[col]
    indices = np.empty(indptr[n_cols], np.int32)
    values = np.empty(indptr[n_cols], np.float32)
    free = indptr[:-1].copy()  # where the next entry of a column goes
    for row in range(len(matrix.indptr) - 1):
        for entry in range(matrix.indptr[row], matrix.indptr[row + 1]):
            col = matrix.indices[entry] - first
            if 0 <= col < n_cols:
                indices[free[col]] = row
                values[free[col]] = matrix.values[entry]
                free[col] += 1
    return indptr, indices, values


def newest_entries(indptr: np.ndarray, indices: np.ndarray, times: np.ndarray, n_newest: int) -> np.ndarray:
    """Whether an entry is among the `n_newest` of its row, bool (n,), ties by the smaller index.

    indptr: (n_rows + 1,).  times: (n,), larger is newer.
    """
    kept = np.ones(len(indices), bool)
    lengths = np.diff(indptr)
    # Few rows are long, whatever the matrix; the others are skipped.
    for row in np.flatnonzero(lengths > n_newest):
        entries = slice(indptr[row], indptr[row + 1])
        newest_first = np.lexsort((indices[entries], -times[entries]))
        kept[indptr[row] + newest_first[n_newest:]] = False
    return kept
