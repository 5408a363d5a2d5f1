"""Union of a user's lists, and lists extended to all of it, so that every list scores what any list proposes.

Owns: the union of lists, and what is appended to each.  A fusion of scores must not take an item for worthless because
a list was cut before it.

Letters: u user, n_* counts.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from recsys_spark.blend.kernels.walks import ITEM_BITS, cells_of
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr

_ITEM_MASK = (1 << ITEM_BITS) - 1

# Lists of users: the user of each, ascending and unique, and the lists.
Listed = tuple[np.ndarray, Ranked]


def first_items(lists: Iterable[Ranked], depth: int) -> np.ndarray:
    """Every item that stands among the first `depth` of any list, once, ascending, int32."""
    parts = [np.zeros(0, np.int32)]
    for one in lists:
        near = np.arange(len(one.indices)) - np.repeat(one.indptr[:-1], np.diff(one.indptr)) < depth
        parts.append(one.indices[near])
    return np.unique(np.concatenate(parts))


def for_all_cells(n_users: int, items: np.ndarray, hidden: Csr) -> np.ndarray:
    """Every user with every one of `items` that is not hidden from them, ascending (`walks.cells_of`)."""
    cells = cells_of(np.repeat(np.arange(n_users), len(items)), np.tile(items, n_users))
    return cells[~np.isin(cells, cells_of(hidden.rows, hidden.indices))]


def union_cells(listed: Sequence[Listed], depth: int) -> np.ndarray:
    """Every user and item that stands among the first `depth` of any list, once, ascending (`walks.cells_of`)."""
    parts = [np.zeros(0, np.int64)]
    for users, lists in listed:
        lengths = np.diff(lists.indptr)
        near = np.arange(len(lists.indices)) - np.repeat(lists.indptr[:-1], lengths) < depth
        parts.append(cells_of(np.repeat(users, lengths)[near], lists.indices[near]))
    return np.unique(np.concatenate(parts))


def missing(cells: np.ndarray, listed: Listed) -> tuple[np.ndarray, np.ndarray]:
    """Row in `listed` and item of the cells that its lists lack, for users with a list there; int64, int32, (n,)."""
    users, lists = listed
    own = np.sort(cells_of(np.repeat(users, np.diff(lists.indptr)), lists.indices))
    place = np.searchsorted(own, cells)
    lacking = cells[np.append(own, -1)[place] != cells]
    of_user, items = lacking >> ITEM_BITS, lacking & _ITEM_MASK
    row = np.searchsorted(users, of_user)
    known = np.append(users, -1)[row] == of_user
    return row[known], items[known].astype(np.int32)


def appended(lists: Ranked, rows: np.ndarray, items: np.ndarray, scores: np.ndarray) -> Ranked:
    """The lists with further items at their ends, best first, ties by the smaller index.

    rows: int64 (n,), ascending.  scores: float32 (n,), none above that of an item of its list.
    """
    order = np.lexsort((items, -scores, rows))
    n_lists, lengths = len(lists.indptr) - 1, np.diff(lists.indptr)
    more = np.bincount(rows, minlength=n_lists)
    indptr = offsets(lengths + more)
    is_own = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths + more) < np.repeat(lengths, lengths + more)
    indices, found = np.empty(len(is_own), np.int32), np.empty(len(is_own), np.float32)
    indices[is_own], found[is_own] = lists.indices, lists.scores
    indices[~is_own], found[~is_own] = items[order], scores[order]
    return Ranked(indptr, indices, found)
