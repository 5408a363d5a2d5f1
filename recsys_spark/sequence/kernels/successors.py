"""Item transitions: directed sums over ordered histories, and the likeliest successors of every item.

Owns: what counts as following, the sums, and the similarity.

The history of a user is a row of items with places 0, 1, 2 and so on; items of one time, a basket, share a place, and
do not follow one another.  Item j follows item i d places later, for d from 1 to `window`, and counts half of what it
would `half_life` places before:

    c_ij = sum over users, over pairs of places p < q <= p + window of  0.5^((q - p - 1) / half_life)
    s_ij = c_ij / ((n_i + shrinkage)^alpha n_j^beta)                  n: users who have the item

Sums are integers of 2^-20 each, so they are the same in whatever order users are added up.  A user's list is the sum of
s_ij over the last items of the history, each times a weight of its place (`place_weights`).  First-order transitions
are what session-based and sequence models are held against (Ludewig, Jannach 2018, "Evaluation of session-based
recommendation algorithms"); here they reach over several places, and popular items are damped.

Letters: i source, j target, n_* counts.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.ragged import offsets, row_offsets
from recsys_spark.numeric.ranked import Ranked, best_of_rows
from recsys_spark.numeric.sparse import newest_entries

_UNITS = float(2**20)

_PAIRS_AT_ONCE = 1 << 22  # 64 MB, and as much to sort; all pairs of a user are listed together


class Histories(NamedTuple):
    """Histories of users laid end to end, that of user u at indptr[u]:indptr[u + 1], oldest first.

    indptr: int64 (n_users + 1,).  items: int32 (n,).  places: int32 (n,), from 0 in each history, never falling; items
    of one time have one place.
    """

    indptr: np.ndarray
    items: np.ndarray
    places: np.ndarray


class Transitions(NamedTuple):
    """Sums of pairs, each pair once, by source, then target: sources, targets int32 (n,), sums int64 (n,), in 2^-20."""

    sources: np.ndarray
    targets: np.ndarray
    sums: np.ndarray


class TransitionSettings(NamedTuple):
    """Numbers of the module's formulas; num_successors: longest list kept."""

    window: int
    half_life: float
    alpha: float
    beta: float
    shrinkage: float
    num_successors: int


def histories(indptr: np.ndarray, items: np.ndarray, times: np.ndarray) -> Histories:
    """The histories of rows of items with times: sorted by time, then item, each once at a time, and with places.

    indptr: int64 (n_users + 1,).  items: int32 (n,).  times: int64 (n,), larger is later.
    """
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((items, times, users))
    items, times = items[order], times[order]
    is_new = np.ones(len(items), bool)  # a look and a purchase of the same second are one
    is_new[1:] = (items[1:] != items[:-1]) | (times[1:] != times[:-1]) | (users[1:] != users[:-1])
    users, items, times = users[is_new], items[is_new], times[is_new]
    kept = row_offsets(users, len(indptr) - 1)
    return Histories(kept, items.astype(np.int32), _places(users, times).astype(np.int32))


def newest_histories(users: np.ndarray, items: np.ndarray, times: np.ndarray, n_users: int, n_newest: int) -> Histories:
    """Histories of users 0 to n_users of the newest `n_newest` events of each.

    users: int (n,), below n_users, in any order, with an item and a time each; larger is later.
    """
    order = np.lexsort((items, users))
    users, items, times = users[order], items[order], times[order]
    indptr = row_offsets(users, n_users)
    kept = newest_entries(indptr, items, times, n_newest)
    lengths = np.bincount(users[kept], minlength=n_users)
    return histories(offsets(lengths), items[kept], times[kept])


def place_weights(indptr: np.ndarray, times: np.ndarray, half_life: float) -> np.ndarray:
    """0.5^(d / half_life) of every entry, float32 (n,), d places before the last of its row.

    indptr: (n_rows + 1,).  times: (n,), in any order; entries of one time have one place.
    """
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((-times, rows))  # newest first
    places = _places(rows[order], times[order])
    weights = np.empty(len(times), np.float32)
    weights[order] = 0.5 ** (places / half_life)
    return weights


def _places(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Place of every entry in its row, from 0, int64 (n,); entries stand by row, and by time in it."""
    is_first = np.ones(len(rows), bool)
    is_first[1:] = rows[1:] != rows[:-1]
    is_next = is_first.copy()
    is_next[1:] |= times[1:] != times[:-1]
    places = np.cumsum(is_next)
    found: np.ndarray = places - np.repeat(places[is_first], np.diff(np.append(np.flatnonzero(is_first), len(rows))))
    return found


def transitions(found: Histories, following: TransitionSettings, n_items: int) -> Transitions:
    """The sums of a block of users; pairs are listed of so many users at once as make _PAIRS_AT_ONCE of them."""
    steps = np.rint(0.5 ** (np.arange(following.window) / following.half_life) * _UNITS).astype(np.int64)
    counts = _count(found, following.window)
    slices = (np.cumsum(counts) - counts) // _PAIRS_AT_ONCE  # of each user, never falling
    edges = [0, *(np.flatnonzero(np.diff(slices)) + 1).tolist(), len(counts)]
    parts = []
    for first, end in pairwise(edges):
        n = int(counts[first:end].sum())
        keys, values = np.empty(n, np.int64), np.empty(n, np.int64)
        _list_pairs(found, first, end, steps, n_items, keys, values)
        parts.append(_summed(keys, values, n_items))
    return parts[0] if len(parts) == 1 else added(parts, n_items)


def added(parts: Sequence[Transitions], n_items: int) -> Transitions:
    """The sums of all parts."""
    keys = np.concatenate([part.sources.astype(np.int64) * n_items + part.targets for part in parts])
    return _summed(keys, np.concatenate([part.sums for part in parts]), n_items)


def _summed(keys: np.ndarray, values: np.ndarray, n_items: int) -> Transitions:
    """Sums by key, source times n_items plus target."""
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = np.add.reduceat(values, starts) if len(starts) else values
    keys = keys[starts]
    return Transitions((keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32), sums)


@njit(cache=True, nogil=True)
def _count(found: Histories, window: int) -> np.ndarray:
    """How many pairs every user has, int64 (n_users,)."""
    counts = np.zeros(len(found.indptr) - 1, np.int64)
    for user in range(len(found.indptr) - 1):
        end = found.indptr[user + 1]
        for source in range(found.indptr[user], end):
            for target in range(source + 1, end):
                gap = found.places[target] - found.places[source]
                if gap > window:
                    break
                if gap > 0 and found.items[target] != found.items[source]:
                    counts[user] += 1
    return counts


@njit(cache=True, nogil=True)
def _list_pairs(
    found: Histories, first: int, last: int, steps: np.ndarray, n_items: int, keys: np.ndarray, values: np.ndarray
) -> None:
    """Key and value of every pair of users `first` to `last` (exclusive)."""
    n = 0
    for user in range(first, last):
        end = found.indptr[user + 1]
        for source in range(found.indptr[user], end):
            for target in range(source + 1, end):
                gap = found.places[target] - found.places[source]
                if gap > len(steps):
                    break
                if gap > 0 and found.items[target] != found.items[source]:
                    keys[n] = np.int64(found.items[source]) * n_items + found.items[target]
                    values[n] = steps[gap - 1]
                    n += 1


def successors(
    sums: Transitions,
    items: range,
    n_users: np.ndarray,
    following: TransitionSettings,
    listed: np.ndarray | None = None,
) -> Ranked:
    """The likeliest successors of each of `items`, at most `num_successors`.

    sums: of these sources at least, over all users.  n_users: int64 (n_items,), users who have each item.
    listed: bool (n_items,), what may stand in a list; None: everything.
    """
    # An item of a history may have lost its users to returns, or to a draw.
    left = (np.maximum(n_users, 1.0) + following.shrinkage) ** following.alpha
    right = np.maximum(n_users, 1.0) ** following.beta
    scores = (sums.sums / _UNITS / (left[sums.sources] * right[sums.targets])).astype(np.float32)
    if listed is not None:
        scores[~listed[sums.targets]] = 0.0
    starts = np.searchsorted(sums.sources, np.arange(items.start, items.stop + 1))
    return best_of_rows(starts, sums.targets, scores, following.num_successors)
