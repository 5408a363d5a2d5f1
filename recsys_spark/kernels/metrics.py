"""Ranking metrics over ragged lists of dense item indices, one value per user.

Owns: the arithmetic of recall and ndcg.  Called by `holdout`.  A mean over the returned values weighs every user the
same (macro); nothing here pools users.  Letters: u user (row), k list length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError


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


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """The rows laid end to end."""
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    values = np.fromiter((value for row in rows for value in row), dtype=np.int64, count=int(indptr[-1]))
    return Ragged(indptr, values)


def recall_at_k(lists: Ragged, targets: Ragged, k: int) -> np.ndarray:
    """Share of each user's targets that stand in the first k of the list, float64 (n_users,), 0 to 1.

    lists: best first, no item twice in a row, -1 for an item without an index.  targets: in any order, not empty, -1
    for one that no list can hold: it counts among the user's targets and is never hit.
    Raises KernelError if the rows do not pair up, a list repeats an item or a user has no target.
    """
    hits = _hits(lists, targets, k)
    recall: np.ndarray = _row_sums(hits, lists) / targets.lengths  # (n_users,)
    return recall


def ndcg_at_k(lists: Ragged, targets: Ragged, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain of each user's first k items, float64 (n_users,), 0 to 1.

    Gain 1 for a target and 0 otherwise, discount 1 / log2(rank + 1) with rank from 1, divided by the gain of a list
    that has its min(k, n_targets) targets first.  lists, targets, errors: as in `recall_at_k`.
    Source: Jarvelin, Kekalainen 2002, with binary relevance.
    """
    hits = _hits(lists, targets, k)
    positions = _positions(lists)  # (n_values,)
    gained = _row_sums(hits / np.log2(positions + 2), lists)  # (n_users,)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # (k + 1,)
    ndcg: np.ndarray = gained / best[np.minimum(targets.lengths, k)]
    return ndcg


def _hits(lists: Ragged, targets: Ragged, k: int) -> np.ndarray:
    """True where a value of `lists` is in its first k and among the row's targets, bool (n_values,)."""
    if lists.n_rows != targets.n_rows:
        raise KernelError(
            f"metrics lists: expected one list per row of targets, got {lists.n_rows} lists and {targets.n_rows} rows;"
            " build both from the same users"
        )
    if (targets.lengths == 0).any():
        raise KernelError(
            f"metrics targets: expected at least one target per user, got none in row"
            f" {int(np.argmin(targets.lengths))}; leave users without targets out"
        )
    # Row and item in one integer; two unknown items are not the same item, so -1 never hits.
    stride = int(max(lists.values.max(initial=-1), targets.values.max(initial=-1))) + 2
    cells = lists.rows * stride + lists.values + 1  # (n_values,)
    known = cells[lists.values >= 0]
    if len(np.unique(known)) != len(known):
        raise KernelError("metrics lists: expected no item twice in one list, got a repeated item; remove repetitions")
    wanted = targets.rows * stride + targets.values + 1
    hits: np.ndarray = np.isin(cells, wanted) & (lists.values >= 0) & (_positions(lists) < k)
    return hits


def _positions(lists: Ragged) -> np.ndarray:
    """Place of every value in its row from 0, int64 (n_values,)."""
    positions: np.ndarray = np.arange(len(lists.values)) - np.repeat(lists.indptr[:-1], lists.lengths)
    return positions


def _row_sums(values: np.ndarray, lists: Ragged) -> np.ndarray:
    """Sum of `values` over every row of `lists`, 0 for an empty one, float64 (n_rows,)."""
    sums: np.ndarray = np.bincount(lists.rows, weights=values, minlength=lists.n_rows)
    return sums
