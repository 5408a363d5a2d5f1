"""Fusion of several ranked lists into one top-K per user, with the user's exclusions applied inside.

Owns: the walk of a list past what a user may not see, reciprocal-rank fusion, provenance.  Called by `adapters.blend`.
A list is walked until k admissible items are found, so no list has to be fetched longer "to be safe", and the rank of
an item is its place among what this user may see.  Everything is done on whole blocks of users; nothing is a Python
object per candidate.

Letters: u user of the block, c column (one list per user), k list length, n_* counts.
Source: Cormack, Clarke, Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.kernels.metrics import Ragged

# Fused scores are summed as integers of 2**-40: the sum does not depend on the order of the columns, so equal scores
# are equal bits and ties really break by the smaller index.  Neighbours at rank 1000 still differ by 2**20 units.
UNITS = float(2**40)

_NO_ITEM = -1
_PADDING = np.iinfo(np.int64).max
ITEM_BITS = 31


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


@dataclass(frozen=True)
class Pool:
    """All that columns propose to a block of users.

    users: int64 (n_items,), ascending.  items: int32 (n_items,), ascending for each user.  Item j was proposed by
    `lengths[j]` columns, which stand from `starts[j]` on in columns, ranks (from 1) and scores, (n_proposals,).
    """

    n_users: int
    users: np.ndarray
    items: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    columns: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Fused:
    """Top-K lists laid end to end, best first, and where each item came from.

    indptr: int64 (n_users + 1,).  items: int32 (n_items,).  ranks: int32, from 1.  scores: float32, fused.
    source_indptr: int64 (n_items + 1,) into the three arrays of provenance: columns (position in `walked`), int32;
    source_ranks, int32, from 1 among what the user may see; source_scores, float32.
    """

    indptr: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    source_indptr: np.ndarray
    columns: np.ndarray
    source_ranks: np.ndarray
    source_scores: np.ndarray


def admit(lists: RankedLists, admissible: np.ndarray) -> RankedLists:
    """`lists` without the items that are not admissible; order is kept.

    admissible: bool (n,), True at the index of an admissible item; an index from n on is not admissible.
    """
    last = len(admissible)
    return keep_values(lists, np.append(admissible, False)[np.minimum(lists.items, last)])


def keep_values(lists: RankedLists, kept: np.ndarray) -> RankedLists:
    """`lists` with the values where `kept`, bool (n_values,), is True."""
    indptr = np.concatenate([[0], np.cumsum(kept)])[lists.indptr]
    return RankedLists(indptr, lists.items[kept], lists.scores[kept])


def index_shared(lists: RankedLists) -> SharedLists:
    """`lists` made ready for `walk_shared`; raises KernelError if a list proposes an item twice."""
    lengths = np.diff(lists.indptr)
    cells = cells_of(np.repeat(np.arange(len(lengths)), lengths), lists.items)
    places = np.arange(len(cells)) - np.repeat(lists.indptr[:-1], lengths)
    order = np.argsort(cells)
    cells = cells[order]
    if (cells[1:] == cells[:-1]).any():
        raise KernelError(_REPEATED)
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


def walk_own(own: RankedLists, excluded: Ragged, k: int) -> Walked:
    """The first k items of each user's own list that the user may see; list u is user u's, empty if there is none.

    excluded: the user's items in ascending order, each once.
    """
    lengths = np.diff(own.indptr)
    cells = cells_of(np.repeat(np.arange(len(lengths)), lengths), own.items)
    forbidden = cells_of(excluded.rows, excluded.values)
    nearest = np.searchsorted(forbidden, cells)
    seen = np.append(forbidden, -1)[nearest] == cells
    kept = keep_values(own, ~seen)
    places = np.arange(k)
    reached = places < np.diff(kept.indptr)[:, None]  # (n_users, k)
    flat = np.where(reached, kept.indptr[:-1, None] + places, 0)
    return _gather(kept, flat, reached)


def pool_lists(walked: Sequence[Walked], wanted: Sequence[bool]) -> Pool:
    """Every item that a wanted column proposes to a user, once, by user and item.

    walked: one column per list, all of one block of users.  Raises KernelError if a column proposes an item twice.
    """
    width = walked[0].items.shape[1]
    slot_bits = max(1, int(len(walked) * width - 1).bit_length())
    slots = np.hstack([column.items for column in walked]).astype(np.int64)  # (n_users, n_slots)
    proposed = (slots >= 0) & np.repeat(np.asarray(wanted, bool), width)
    keys = np.where(proposed, (slots << slot_bits) | np.arange(slots.shape[1]), _PADDING)
    keys.sort(axis=1)
    n_proposed = proposed.sum(axis=1)
    users = np.repeat(np.arange(len(keys)), n_proposed)  # (n_proposals,)
    flat = keys[np.arange(slots.shape[1]) < n_proposed[:, None]]
    starts = _group_starts(users, flat, slot_bits, width)
    slot = flat & ((1 << slot_bits) - 1)
    scores = np.hstack([column.scores for column in walked])[users, slot]
    lengths = np.diff(starts, append=len(flat))
    items = (flat[starts] >> slot_bits).astype(np.int32)
    return Pool(len(keys), users[starts], items, starts, lengths, slot // width, slot % width + 1, scores)


def fuse_rrf(walked: Sequence[Walked], weights: Sequence[float], rrf_k: int, k: int) -> Fused:
    """The k best items of each user by the sum of weight / (rrf_k + rank) over the columns that propose them.

    A column of weight 0 is left out.  Ties break by the smaller item index.  Raises KernelError if a column proposes an
    item twice, or the weights are out of range.
    """
    return fuse(*pool_rrf(walked, weights, rrf_k), k)


def pool_rrf(walked: Sequence[Walked], weights: Sequence[float], rrf_k: int) -> tuple[Pool, np.ndarray]:
    """What `fuse_rrf` makes lists of: the pool and the total of every pooled item; errors as there."""
    points = _points(weights, rrf_k, walked[0].items.shape[1])  # (n_columns, width)
    pool = pool_lists(walked, [weight > 0 for weight in weights])
    return pool, np.add.reduceat(points[pool.columns, pool.ranks - 1], pool.starts)


def fuse(pool: Pool, totals: np.ndarray, k: int) -> Fused:
    """The k items of each user with the highest totals, ties by the smaller item index.

    totals: int64, of every pooled item, in units of 2**-40, not below 0.
    """
    chosen, indptr = best_of_users(pool.users, totals, pool.n_users, k)
    lengths = pool.lengths[chosen]
    source_indptr = np.concatenate([[0], np.cumsum(lengths)])
    sources = np.repeat(pool.starts[chosen] - source_indptr[:-1], lengths) + np.arange(source_indptr[-1])
    return Fused(
        indptr=indptr,
        items=pool.items[chosen],
        ranks=(np.arange(len(chosen)) - np.repeat(indptr[:-1], np.diff(indptr)) + 1).astype(np.int32),
        scores=(totals[chosen] / UNITS).astype(np.float32),
        source_indptr=source_indptr,
        columns=pool.columns[sources].astype(np.int32),
        source_ranks=pool.ranks[sources].astype(np.int32),
        source_scores=pool.scores[sources],
    )


_REPEATED = (
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
        return Walked(np.full(flat.shape, _NO_ITEM, np.int32), np.zeros(flat.shape, np.float32))
    return Walked(np.where(reached, lists.items[flat], np.int32(_NO_ITEM)), lists.scores[flat])


def _excluded_places(shared: SharedLists, list_of: np.ndarray, excluded: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """(user, place in the user's list) of every excluded item that the user's list holds; both int64."""
    users = excluded.rows
    wanted = cells_of(list_of[users], excluded.values)  # negative for a user without a list: never found
    found = np.searchsorted(shared.cells, wanted)
    inside = np.append(shared.cells, -1)[found] == wanted
    return users[inside], shared.places[found[inside]]


def _points(weights: Sequence[float], rrf_k: int, width: int) -> np.ndarray:
    """What a proposal of each column at each rank is worth, int64 (n_columns, width), in units of 2**-40."""
    per_rank = 1.0 / (rrf_k + np.arange(1, width + 1))
    points: np.ndarray = np.rint(np.outer(weights, per_rank) * UNITS)
    # An order key holds a total and a place in 63 bits.
    slot_bits = max(1, int(len(weights) * width - 1).bit_length())
    if not np.isfinite(points).all() or points.max(axis=1).sum() >= 2.0 ** (62 - slot_bits) or (points < 0).any():
        bound = 2.0 ** (22 - slot_bits) * (rrf_k + 1)
        raise KernelError(
            f"blend weights: expected finite weights >= 0 with a sum below {bound:.3g}, got {list(weights)}; "
            "scale candidates.source_weights down"
        )
    return points.astype(np.int64)


def _group_starts(users: np.ndarray, flat: np.ndarray, slot_bits: int, width: int) -> np.ndarray:
    """Where each (user, item) starts in `flat`, int64 (n_groups,)."""
    if not len(flat):
        return np.zeros(0, np.int64)
    items = flat >> slot_bits
    slot = flat & ((1 << slot_bits) - 1)
    same = (items[1:] == items[:-1]) & (users[1:] == users[:-1])
    if (same & (slot[1:] // width == slot[:-1] // width)).any():
        raise KernelError(_REPEATED)
    starts: np.ndarray = np.concatenate([[0], np.flatnonzero(~same) + 1])
    return starts


def best_of_users(users: np.ndarray, totals: np.ndarray, n_users: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each user's k highest totals stand, best first, int64, and the offsets of the users among them.

    users, totals: int64 (n_items,), by user, then item: the order among equals is by item.
    """
    n_groups = np.bincount(users, minlength=n_users)
    firsts = np.concatenate([[0], np.cumsum(n_groups)])[:-1]
    place = np.arange(len(users)) - firsts[users]
    keys = np.full((n_users, int(n_groups.max(initial=0))), _PADDING)
    place_bits = max(1, int(n_groups.max(initial=0) - 1).bit_length())
    top = totals.max(initial=0)
    keys[users, place] = ((top - totals) << place_bits) | place
    keys.sort(axis=1)
    n_chosen = np.minimum(n_groups, k)
    best = keys[:, :k] & ((1 << place_bits) - 1)
    inside = np.arange(best.shape[1]) < n_chosen[:, None]
    chosen = (firsts[:, None] + best)[inside]
    return chosen, np.concatenate([[0], np.cumsum(n_chosen)])
