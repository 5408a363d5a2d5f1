"""What the vectors of users say of any item, and of all items together: single products, and their moments.

Owns: scores beside those of the lists that `kernels.top_k` finds, to the same bit.  Called by `adapters.personal`.

Letters: n queries, m searched items, f length of a vector.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.kernels.top_k import Items, exact_dot

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
    wide = queries.astype(np.float64)
    mean = wide @ spread.mean
    variance = np.einsum("nf,nf->n", wide @ spread.second, wide) - mean**2
    return mean, np.sqrt(np.maximum(variance, 0.0))


def pair_scores(queries: np.ndarray, items: Items, rows: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """The score of item idx[j] for query rows[j], float32 (n,), the bits of `top_k`; 0 of what is not searched."""
    return _pair_scores(np.ascontiguousarray(queries, np.float32), items, rows, idx)


@njit(cache=True, nogil=True)
def _pair_scores(queries: np.ndarray, items: Items, rows: np.ndarray, idx: np.ndarray) -> np.ndarray:
    scores, folded = np.zeros(len(rows), np.float32), np.empty(queries.shape[1] // 4)
    for at in range(len(rows)):
        place = items.places[idx[at]]
        if place >= 0:
            scores[at] = exact_dot(queries[rows[at]], items.vectors[place], folded)
    return scores
