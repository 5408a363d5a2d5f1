"""Scores of users by item neighbours: the sum of the similarity rows of a history, and the best without hidden items.

Owns: the sum and its top K.

score_uj = sum over keys i of a_ui * s_ij, with `normalize` divided by the sum of s_ij over the same keys: the mean
of a, weighted by similarity.  That mean is for ratings, where a says how much an item was liked.  On implicit weights
it drops what matters: how many of the user's items are near to j, and how near.
"""

import numpy as np
from numba import njit

from recsys_spark.numeric.ranked import Ranked, joined, offer, ranked_of_rows, sort_best_first
from recsys_spark.numeric.sparse import Csr

# Lists of a block of users are made in slices of this size, whatever K.
_LISTS_BYTES = 64 << 20
_LISTED_BYTES = 8  # an index and a score


def score_neighbors(history: Csr, neighbors: Ranked, hidden: Csr, k: int, normalize: bool) -> Ranked:
    """The k best items of every user, scores above 0.

    history: (n_users, n_keys), values a_ui; one that decay has left at 0 does not count.  neighbors: row i holds the
    s_ij > 0 of key i.  hidden: (n_users, n_items), the items that a user is not shown; its values do not matter.
    """
    k = min(k, hidden.n_cols)
    at_once = max(1, _LISTS_BYTES // (_LISTED_BYTES * max(1, k)))
    parts = [
        _score(_rows(history, first, first + at_once), neighbors, _rows(hidden, first, first + at_once), k, normalize)
        for first in range(0, max(1, history.n_rows), at_once)
    ]
    return joined([ranked_of_rows(*part) for part in parts])


def pair_scores(
    history: Csr, neighbors: Ranked, rows: np.ndarray, items: np.ndarray, n_items: int, normalize: bool
) -> np.ndarray:
    """The score of item items[j] for user rows[j], float32 (n,), to the bit that of `score_neighbors`, 0 where none is.

    rows: int64 (n,), ascending.  history, neighbors: as there, with n_items items.
    """
    starts = np.searchsorted(rows, np.arange(history.n_rows + 1))
    return _pair_scores(history, neighbors, starts, items, n_items, normalize)


@njit(cache=True, nogil=True)
def _pair_scores(
    history: Csr, neighbors: Ranked, starts: np.ndarray, items: np.ndarray, n_items: int, normalize: bool
) -> np.ndarray:
    sums, near = np.zeros(n_items), np.zeros(n_items)
    wanted = np.zeros(n_items, np.bool_)
    scores = np.zeros(len(items), np.float32)
    for user in range(len(history.indptr) - 1):
        if starts[user] == starts[user + 1]:
            continue
        for place in range(starts[user], starts[user + 1]):
            wanted[items[place]] = True
        for entry in range(history.indptr[user], history.indptr[user + 1]):
            key, weight = history.indices[entry], np.float64(history.values[entry])
            if not weight > 0.0:
                continue
            for place in range(neighbors.indptr[key], neighbors.indptr[key + 1]):
                item = neighbors.indices[place]
                if wanted[item]:
                    sums[item] += weight * neighbors.scores[place]
                    near[item] += neighbors.scores[place]
        for place in range(starts[user], starts[user + 1]):
            item = items[place]
            if sums[item] > 0.0:
                scores[place] = sums[item] / near[item] if normalize else sums[item]
            sums[item] = near[item] = 0.0
            wanted[item] = False
    return scores


def background(
    history: Csr, neighbors: Ranked, n_items: int, n_listed: int, normalize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each user's scores over `n_listed` items, float64 (n_users,): most are 0."""
    total, squares = _moments(history, neighbors, n_items, normalize)
    mean = total / max(1, n_listed)
    return mean, np.sqrt(np.maximum(squares / max(1, n_listed) - mean**2, 0.0))


@njit(cache=True, nogil=True)
def _moments(history: Csr, neighbors: Ranked, n_items: int, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    n_users = len(history.indptr) - 1
    sums, near, touched = np.zeros(n_items), np.zeros(n_items), np.empty(n_items, np.int32)
    total, squares = np.zeros(n_users), np.zeros(n_users)
    for user in range(n_users):
        n_touched = 0
        for entry in range(history.indptr[user], history.indptr[user + 1]):
            key, weight = history.indices[entry], np.float64(history.values[entry])
            if not weight > 0.0:
                continue
            for place in range(neighbors.indptr[key], neighbors.indptr[key + 1]):
                item = neighbors.indices[place]
                if sums[item] == 0.0:
                    touched[n_touched] = item
                    n_touched += 1
                sums[item] += weight * neighbors.scores[place]
                near[item] += neighbors.scores[place]
        for place in range(n_touched):
            item = touched[place]
            score = sums[item] / near[item] if normalize else sums[item]
            total[user] += score
            squares[user] += score * score
            sums[item] = near[item] = 0.0
    return total, squares


def _rows(matrix: Csr, first: int, end: int) -> Csr:
    """Rows `first` to `end` (exclusive), as far as there are any."""
    indptr = matrix.indptr[first : end + 1]
    entries = slice(indptr[0], indptr[-1])
    return Csr(indptr - indptr[0], matrix.indices[entries], matrix.values[entries], matrix.n_cols)


@njit(cache=True, nogil=True)
def _score(
    history: Csr, neighbors: Ranked, hidden: Csr, k: int, normalize: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_users, n_items = len(history.indptr) - 1, hidden.n_cols
    sums, near = np.zeros(n_items), np.zeros(n_items if normalize else 0)  # all 0 between users
    touched = np.empty(n_items, np.int32)
    lengths = np.zeros(n_users, np.int64)
    indices, scores = np.empty((n_users, k), np.int32), np.empty((n_users, k), np.float32)
    for user in range(n_users):
        n_touched = 0
        for entry in range(history.indptr[user], history.indptr[user + 1]):
            key, weight = history.indices[entry], np.float64(history.values[entry])
            if not weight > 0.0:  # decayed to nothing: it would list its items again and again, past the end
                continue
            for place in range(neighbors.indptr[key], neighbors.indptr[key + 1]):
                item = neighbors.indices[place]
                if sums[item] == 0.0:
                    touched[n_touched] = item
                    n_touched += 1
                sums[item] += weight * neighbors.scores[place]
                if normalize:
                    near[item] += neighbors.scores[place]
        for entry in range(hidden.indptr[user], hidden.indptr[user + 1]):
            sums[hidden.indices[entry]] = 0.0
        size = 0
        for place in range(n_touched):
            item = touched[place]
            if sums[item] > 0.0:
                score = np.float32(sums[item] / near[item] if normalize else sums[item])
                if score > 0.0:  # what float32 cannot hold is no score
                    size = offer(indices[user], scores[user], size, item, score)
            sums[item] = 0.0
            if normalize:
                near[item] = 0.0
        sort_best_first(indices[user], scores[user], size)
        lengths[user] = size
    return lengths, indices, scores
