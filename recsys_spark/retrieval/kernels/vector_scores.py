"""Dot-product scores of single pairs of user and item, and mean and deviation of a user's scores over all items.

Owns: scores beside those of the lists that `numeric.top_k` finds, to the same bit.

Letters: n queries, m searched items, f length of a vector.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.top_k import Items, exact_dot

_ROWS_AT_ONCE = 8192


class Spread(NamedTuple):
    """Moments of the searched vectors: their mean, float64 (f,), and the mean of their outer products, (f, f)."""

    mean: np.ndarray
    second: np.ndarray


def spread_of(items: Items) -> Spread:
    """The moments of the vectors of `items`; zeros if there are none."""
    m, f = items.vectors.shape
    total, second = np.zeros(f), np.zeros((f, f))
    for first in range(0, m, _ROWS_AT_ONCE):
        rows = items.vectors[first : first + _ROWS_AT_ONCE].astype(np.float64)
        total += rows.sum(axis=0)
        second += rows.T @ rows
    return Spread(total / max(1, m), second / max(1, m))


def background(queries: np.ndarray, spread: Spread) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each query's scores over all searched items, float64 (n,)."""
    mean, square = _background(np.ascontiguousarray(queries, np.float32), spread)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


@njit(cache=True, nogil=True)
def _background(queries: np.ndarray, spread: Spread) -> tuple[np.ndarray, np.ndarray]:
    """Means of the scores and of their squares, row by row, so that a row has the same bits in any block."""
    n, f = queries.shape
    mean, square = np.zeros(n), np.zeros(n)
    turned = np.empty(f)
    for row in range(n):
        turned[:] = 0.0
        for at in range(f):
            value = np.float64(queries[row, at])
            mean[row] += value * spread.mean[at]
            for other in range(f):
                turned[other] += value * spread.second[at, other]
        for at in range(f):
            square[row] += turned[at] * queries[row, at]
    return mean, square


def pair_scores(queries: np.ndarray, items: Items, rows: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """The score of item idx[j] for query rows[j], float32 (n,), the bits of `top_k`; nan of what is not searched."""
    return _pair_scores(np.ascontiguousarray(queries, np.float32), items, rows, idx)


@njit(cache=True, nogil=True)
def _pair_scores(queries: np.ndarray, items: Items, rows: np.ndarray, idx: np.ndarray) -> np.ndarray:
    scores, folded = np.full(len(rows), np.nan, np.float32), np.empty(queries.shape[1] // 4)
    for at in range(len(rows)):
        place = items.places[idx[at]]
        if place >= 0:
            scores[at] = exact_dot(queries[rows[at]], items.vectors[place], folded)
    return scores
