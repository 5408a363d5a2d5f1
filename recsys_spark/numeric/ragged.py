"""Rows of different length: item lists, targets, histories.

Owns: the type, its checks, and where an item of one list stands in another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError


def offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where rows of these lengths begin when they are laid end to end, and where the last ends, int64 (n + 1,)."""
    ends: np.ndarray = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def row_offsets(rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Where each row begins among entries in the order of their rows, int64 (n_rows + 1,); rows: of each entry."""
    return offsets(np.bincount(rows, minlength=n_rows))


@dataclass(frozen=True)
class Ragged:
    """Rows of different length: row r is `values[indptr[r]:indptr[r + 1]]`; both int64, indptr (n_rows + 1,)."""

    indptr: np.ndarray
    values: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of rows, empty ones included."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of every row, int64 (n_rows,)."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> np.ndarray:
        """Row of every value, int64 (n_values,)."""
        return np.repeat(np.arange(self.n_rows), self.lengths)

    @property
    def positions(self) -> np.ndarray:
        """Place of every value in its row from 0, int64 (n_values,)."""
        positions: np.ndarray = np.arange(len(self.values)) - np.repeat(self.indptr[:-1], self.lengths)
        return positions

    def where(self, kept: np.ndarray) -> "Ragged":
        """The same rows with only the values where `kept`, bool (n_values,), is true."""
        lengths = np.bincount(self.rows[kept], minlength=self.n_rows)  # (n_rows,)
        return Ragged(offsets(lengths), self.values[kept])

    def head(self, k: int) -> "Ragged":
        """The first k values of every row.  Raises KernelError if k < 1."""
        check_k(k)
        return self.where(self.positions < k)


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """The rows laid end to end."""
    indptr = offsets([len(row) for row in rows])
    values = np.fromiter((value for row in rows for value in row), dtype=np.int64, count=int(indptr[-1]))
    return Ragged(indptr, values)


def find_in_rows(lists: Ragged, others: Ragged) -> np.ndarray:
    """Place in `others.values` of every value of `lists`, looked for in the same row only, int64 (n_values,).

    -1 where the row of `others` lacks the item or the item is unknown (-1): two unknown items are never the same.
    """
    if not (others.values >= 0).any():
        return np.full(len(lists.values), -1)
    # Row and item in one integer; only known items are packed, so none can be taken for one of the row before.
    stride = int(max(lists.values.max(initial=0), others.values.max(initial=0))) + 1
    known = np.flatnonzero(others.values >= 0)
    cells = others.rows[known] * stride + others.values[known]  # (n_known,)
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    wanted = lists.rows * stride + lists.values  # (n_values,)
    at = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
    found = (cells[at] == wanted) & (lists.values >= 0)
    return np.where(found, known[order[at]], -1)


def check_rows_pair(lists: Ragged, others: Ragged) -> None:
    """Raises KernelError unless both have one row per user."""
    if lists.n_rows != others.n_rows:
        raise KernelError(
            f"metrics lists: expected one list per row of what it is held against, got {lists.n_rows} lists and"
            f" {others.n_rows} rows; build both from the same users"
        )


def check_no_repeats(lists: Ragged) -> None:
    """Raises KernelError if a known item stands twice in one row."""
    if _has_repeats(lists):
        raise KernelError("metrics lists: expected no item twice in one list, got a repeated item; remove repetitions")


def check_k(k: int) -> None:
    """Raises KernelError unless k is a length that a list can be cut to."""
    if k < 1:
        raise KernelError(f"metrics k: expected an int >= 1, got {k}; set the number of places to judge")


def _has_repeats(lists: Ragged) -> bool:
    known = lists.values >= 0
    stride = int(lists.values.max(initial=0)) + 1
    cells = np.sort(lists.rows[known] * stride + lists.values[known])
    return bool((cells[1:] == cells[:-1]).any())
