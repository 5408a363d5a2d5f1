"""Walks of ranked lists: the first k items of each list that a user may see, for whole blocks of users.

Owns: the forms of lists, and the walk.  A list is walked until k admissible items are found, so no list has to be
fetched longer "to be safe", and the rank of an item is its place among what this user may see.  Nothing is a Python
object per candidate.

Letters: u user of the block, k list length, n_* counts.
"""

from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, offsets

NO_ITEM = -1
ITEM_BITS = 31
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: multiplicative hashing (Knuth, vol. 3, 6.4)


@dataclass(frozen=True)
class RankedLists:
    """Lists of items, best first: list i is `items[indptr[i]:indptr[i + 1]]`.

    indptr: int64 (n_lists + 1,).  items: int32 (n_values,), dense indices.  scores: float32 (n_values,).
    """

    indptr: np.ndarray
    items: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class SharedLists:
    """Lists that many users walk, with the place of every item: made once, by `index_shared`.

    cells: int64 (n_values,), list and item in one integer, ascending.  places: int64 (n_values,), from 0 in its list.
    """

    lists: RankedLists
    cells: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Walked:
    """The first k admissible items of one list per user; -1 where the list has ended.

    items: int32 (n_users, k).  scores: float32 (n_users, k), the source's own.
    """

    items: np.ndarray
    scores: np.ndarray


def admit(lists: RankedLists, admissible: np.ndarray) -> RankedLists:
    """`lists` without the items that are not admissible; order is kept.

    admissible: bool (n,), True at the index of an admissible item; an index from n on is not admissible.
    """
    return keep_values(lists, is_admissible(lists.items, admissible))


def is_admissible(items: np.ndarray, admissible: np.ndarray) -> np.ndarray:
    """Whether items are admissible, bool (n,); see `admit`."""
    found: np.ndarray = np.append(admissible, False)[np.minimum(items, len(admissible))]
    return found


def keep_values(lists: RankedLists, kept: np.ndarray) -> RankedLists:
    """`lists` with the values where `kept`, bool (n_values,), is True."""
    indptr = offsets(kept)[lists.indptr]
    return RankedLists(indptr, lists.items[kept], lists.scores[kept])


def index_shared(lists: RankedLists) -> SharedLists:
    """`lists` made ready for `walk_shared`; raises KernelError if a list proposes an item twice."""
    lengths = np.diff(lists.indptr)
    cells = cells_of(np.repeat(np.arange(len(lengths)), lengths), lists.items)
    places = np.arange(len(cells)) - np.repeat(lists.indptr[:-1], lengths)
    order = np.argsort(cells)
    cells = cells[order]
    if (cells[1:] == cells[:-1]).any():
        raise KernelError(REPEATED_ITEM)
    return SharedLists(lists, cells, places[order])


def walk_shared(shared: SharedLists, list_of: np.ndarray, excluded: Ragged, k: int) -> Walked:
    """The first k items of a shared list that each user may see.

    list_of: int64 (n_users,), the user's list, -1 for none.  excluded: the user's items, each once.
    With the places p_0 < p_1 < ... of the user's excluded items in the list, the item that is j-th (from 0) among the
    admissible ones stands at place j + #{i : p_i - i <= j}: a count and a running sum instead of a walk.
    """
    n_users, lists = len(list_of), shared.lists
    users, places = _excluded_places(shared, list_of, excluded)
    order = np.argsort(users * (1 << ITEM_BITS) + places)
    users, places = users[order], places[order]
    firsts = np.searchsorted(users, np.arange(n_users))  # (n_users,)
    shifts = places - (np.arange(len(places)) - firsts[users])  # p_i - i
    near = shifts < k
    passed = np.bincount(users[near] * k + shifts[near], minlength=n_users * k).reshape(n_users, k)
    places = np.arange(k) + np.cumsum(passed, axis=1)  # (n_users, k)
    lengths = np.append(np.diff(lists.indptr), 0)[list_of]  # no list, -1, reads the 0 at the end
    reached = places < lengths[:, None]
    flat = np.where(reached, lists.indptr[list_of][:, None] + places, 0)
    return _gather(lists, flat, reached)


def walk_own(own: RankedLists, users: np.ndarray, excluded: Ragged, k: int) -> Walked:
    """The first k items of each list that its user may see; (n_lists, k).

    users: int64 (n_lists,), the user of each list.  excluded: the items of every user in ascending order, each once.
    """
    owners = np.repeat(users, np.diff(own.indptr))
    kept = keep_values(own, ~_among(excluded, owners, own.items))
    places = np.arange(k)
    reached = places < np.diff(kept.indptr)[:, None]  # (n_lists, k)
    flat = np.where(reached, kept.indptr[:-1, None] + places, 0)
    return _gather(kept, flat, reached)


def rows_of(walked: Walked, users: np.ndarray, lists: np.ndarray, n_users: int) -> Walked:
    """The list of every user, (n_users, k), empty for users without one: list lists[i], int64, is that of users[i]."""
    list_of = np.full(n_users, -1)
    list_of[users] = lists
    items = np.vstack([walked.items, np.full(walked.items.shape[1], NO_ITEM, np.int32)])[list_of]
    return Walked(items, walked.scores[list_of])


REPEATED_ITEM = (
    "blend: expected every list to propose an item once, got one twice; correct the source that made the list "
    "(see its rows in source_candidates)"
)


def cells_of(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Row and item in one integer, int64, ordered by row, then item."""
    cells: np.ndarray = (rows.astype(np.int64) << ITEM_BITS) | items
    return cells


def _gather(lists: RankedLists, flat: np.ndarray, reached: np.ndarray) -> Walked:
    """The values of `lists` at `flat`, (n_users, k), nothing where `reached` is False."""
    if not len(lists.items):
        return Walked(np.full(flat.shape, NO_ITEM, np.int32), np.zeros(flat.shape, np.float32))
    return Walked(np.where(reached, lists.items[flat], np.int32(NO_ITEM)), lists.scores[flat])


def _among(excluded: Ragged, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Which (user, item) are among the excluded ones, bool (n_values,).

    Nearly none is, and a search costs 50 ns where a look into a table of hashes costs 5: only what has a hash in the
    table is searched for.
    """
    forbidden = cells_of(excluded.rows, excluded.values)
    cells = cells_of(users, items)
    bits = max(10, int(8 * len(forbidden)).bit_length())
    table = np.zeros(1 << bits, bool)
    table[_hashes(forbidden, bits)] = True
    met = np.flatnonzero(table[_hashes(cells, bits)])
    found = np.zeros(len(cells), bool)
    found[met] = np.append(forbidden, -1)[np.searchsorted(forbidden, cells[met])] == cells[met]
    return found


def _hashes(cells: np.ndarray, bits: int) -> np.ndarray:
    """A number below 2**bits for every cell, uint64."""
    return (cells.view(np.uint64) * _GOLDEN) >> np.uint64(64 - bits)


def _excluded_places(shared: SharedLists, list_of: np.ndarray, excluded: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """(user, place in the user's list) of every excluded item that the user's list holds; both int64."""
    users = excluded.rows
    wanted = cells_of(list_of[users], excluded.values)  # negative for a user without a list: never found
    found = np.searchsorted(shared.cells, wanted)
    inside = np.append(shared.cells, -1)[found] == wanted
    return users[inside], shared.places[found[inside]]
