"""Ranked lists, and the top-k heap of compiled loops.

Owns: the order of candidates: score first, higher is better, ties by the smaller index.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.ragged import offsets


class Ranked(NamedTuple):
    """Lists, best first, ties by the smaller index: indptr int64 (n + 1,), indices int32, scores float32."""

    indptr: np.ndarray
    indices: np.ndarray
    scores: np.ndarray


def ranked_of_rows(lengths: np.ndarray, indices: np.ndarray, scores: np.ndarray) -> Ranked:
    """The lists at the left of the rows of `indices` and `scores`, (n, k), with `lengths` (n,) entries."""
    filled = np.arange(indices.shape[1]) < lengths[:, None]  # (n, k)
    return Ranked(offsets(lengths), indices[filled], scores[filled])


def best_of_rows(indptr: np.ndarray, indices: np.ndarray, scores: np.ndarray, k: int) -> Ranked:
    """The k best entries of every row with a score above 0; indptr: (n + 1,), of rows with entries in any order."""
    return ranked_of_rows(*_best(indptr, indices, scores, k))


@njit(cache=True, nogil=True)
def _best(
    indptr: np.ndarray, indices: np.ndarray, scores: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(indptr) - 1
    lengths, best, of_best = np.zeros(n, np.int64), np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    for row in range(n):
        size = 0
        for entry in range(indptr[row], indptr[row + 1]):
            if scores[entry] > 0.0:
                size = offer(best[row], of_best[row], size, indices[entry], scores[entry])
        sort_best_first(best[row], of_best[row], size)
        lengths[row] = size
    return lengths, best, of_best


def joined(parts: list[Ranked]) -> Ranked:
    """The lists of all parts, one part after the other."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return Ranked(
        offsets(lengths),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def merged(parts: list[Ranked], k: int) -> Ranked:
    """The k best entries of every row over all parts, which have the same rows.

    An index stands in at most one list of a row.
    """
    if len(parts) == 1 and np.diff(parts[0].indptr).max(initial=0) <= k:
        return parts[0]
    return ranked_of_rows(*_merge(joined(parts), len(parts), k))


@njit(cache=True, nogil=True)
def _merge(lists: Ranked, n_parts: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = (len(lists.indptr) - 1) // n_parts
    lengths, indices, scores = np.zeros(n, np.int64), np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    for row in range(n):
        size = 0
        for part in range(n_parts):
            at = part * n + row
            for entry in range(lists.indptr[at], lists.indptr[at + 1]):
                size = offer(indices[row], scores[row], size, lists.indices[entry], lists.scores[entry])
        sort_best_first(indices[row], scores[row], size)
        lengths[row] = size
    return lengths, indices, scores


@njit(cache=True, nogil=True)
def _is_worse(score: np.float32, index: int, other_score: np.float32, other_index: int) -> bool:
    return bool(score < other_score or (score == other_score and index > other_index))


@njit(cache=True, nogil=True)
def offer(indices: np.ndarray, scores: np.ndarray, size: int, index: int, score: np.float32) -> int:
    """Puts (index, score) into a heap of `size` if it is among the best; returns the new size."""
    if size < len(indices):
        at = size
        while at > 0 and _is_worse(score, index, scores[(at - 1) // 2], indices[(at - 1) // 2]):
            indices[at], scores[at] = indices[(at - 1) // 2], scores[(at - 1) // 2]
            at = (at - 1) // 2
        indices[at], scores[at] = index, score
        return size + 1
    if not _is_worse(score, index, scores[0], indices[0]):
        _sink(indices, scores, size, index, score)
    return size


@njit(cache=True, nogil=True)
def _sink(indices: np.ndarray, scores: np.ndarray, size: int, index: int, score: np.float32) -> None:
    """Replaces the root of a heap of `size` by (index, score)."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _is_worse(scores[child + 1], indices[child + 1], scores[child], indices[child]):
            child += 1
        if not _is_worse(scores[child], indices[child], score, index):
            break
        indices[at], scores[at] = indices[child], scores[child]
        at = child
    indices[at], scores[at] = index, score


@njit(cache=True, nogil=True)
def sort_best_first(indices: np.ndarray, scores: np.ndarray, size: int) -> None:
    """Turns a heap of `size` into a list, best first."""
    for last in range(size - 1, 0, -1):
        index, score = indices[last], scores[last]
        indices[last], scores[last] = indices[0], scores[0]
        _sink(indices, scores, last, index, score)
