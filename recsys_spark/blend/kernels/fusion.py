"""Reciprocal-rank fusion of several walked lists into one top-k per user, with provenance.

Owns: reciprocal-rank fusion, the choice of the best, provenance, and changes of finished lists: other entries at other
places, and more reasons.  Everything is done on whole blocks of users; nothing is a Python object per candidate.

Letters: u user of the block, c column (one list per user), k list length, n_* counts.
Source: Cormack, Clarke, Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_spark.blend.kernels.walks import REPEATED_ITEM, Walked
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import offsets

# Fused scores are summed as integers of 2**-40: the sum does not depend on the order of the columns, so equal scores
# have equal bits and ties really break by the smaller index.  Neighbours at rank 1000 still differ by 2**20 units.
UNITS = float(2**40)

_PADDING = np.iinfo(np.int64).max


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
    """Top-k lists laid end to end, best first, and where each item came from.

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


def pool_rrf(walked: Sequence[Walked], weights: Sequence[float], rrf_k: int) -> tuple[Pool, np.ndarray]:
    """The pool, and for every pooled item the sum of weight / (rrf_k + rank) over the columns that propose it.

    A column of weight 0 is left out.  Raises KernelError as `pool_lists`, or if the weights are out of range.
    """
    points = _points(weights, rrf_k, walked[0].items.shape[1])  # (n_columns, width)
    pool = pool_lists(walked, [weight > 0 for weight in weights])
    return pool, np.add.reduceat(points[pool.columns, pool.ranks - 1], pool.starts)


def fuse(pool: Pool, totals: np.ndarray, k: int) -> Fused:
    """The k items of each user with the highest totals, ties by the smaller item index.

    totals: int64, of every pooled item, in units of 2**-40, not below 0.
    """
    chosen, indptr = best_of_users(pool.users, totals, pool.n_users, k)
    lengths = pool.lengths[chosen]
    source_indptr = offsets(lengths)
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


def _points(weights: Sequence[float], rrf_k: int, width: int) -> np.ndarray:
    """weight / (rrf_k + rank) of each column at each rank, int64 (n_columns, width), in units of 2**-40."""
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
        raise KernelError(REPEATED_ITEM)
    starts: np.ndarray = np.concatenate([[0], np.flatnonzero(~same) + 1])
    return starts


def best_of_users(users: np.ndarray, totals: np.ndarray, n_users: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each user's k highest totals, best first, int64, and the offsets of the users among them.

    users, totals: int64 (n_items,), ordered by user, then item, so that ties break by the smaller item.
    """
    n_groups = np.bincount(users, minlength=n_users)
    firsts = offsets(n_groups)[:-1]
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
    return chosen, offsets(n_chosen)


def relist(fused: Fused, added: np.ndarray, scores: np.ndarray, picked: np.ndarray, lengths: np.ndarray) -> Fused:
    """Lists made of the entries `picked`, int64, user by user and best first; lengths: int64 (n_users,), of the lists.

    Entries are those of `fused` and, from its end on, those of the items `added`, (n_added,), which have no reasons
    yet.  scores: float32 (n_entries + n_added,), of all entries.
    """
    indptr = offsets(lengths)
    ends = np.append(fused.source_indptr, np.full(len(added), fused.source_indptr[-1]))
    sources, n_sources = spread(ends, picked)
    return Fused(
        indptr=indptr,
        items=np.concatenate([fused.items, added]).astype(np.int32)[picked],
        ranks=(np.arange(len(picked)) - np.repeat(indptr[:-1], lengths) + 1).astype(np.int32),
        scores=scores[picked],
        source_indptr=offsets(n_sources),
        columns=fused.columns[sources],
        source_ranks=fused.source_ranks[sources],
        source_scores=fused.source_scores[sources],
    )


def raised(fused: Fused) -> Fused:
    """`fused` with every score raised to the highest after it in its list."""
    lengths = np.diff(fused.indptr)
    filled = np.arange(int(lengths.max(initial=0))) < lengths[:, None]  # (n_users, longest)
    heights = np.zeros(filled.shape, np.float32)
    heights[filled] = fused.scores
    return replace(fused, scores=np.maximum.accumulate(heights[:, ::-1], axis=1)[:, ::-1][filled])


def with_reasons(
    fused: Fused, entries: np.ndarray, columns: np.ndarray, ranks: np.ndarray, scores: np.ndarray
) -> Fused:
    """`fused` with one more reason, the last, for each of `entries`, int64, ascending."""
    at = fused.source_indptr[entries + 1]
    added = np.searchsorted(entries, np.arange(len(fused.source_indptr)))
    return replace(
        fused,
        source_indptr=fused.source_indptr + added,
        columns=np.insert(fused.columns, at, columns),
        source_ranks=np.insert(fused.source_ranks, at, ranks),
        source_scores=np.insert(fused.source_scores, at, scores),
    )


def spread(indptr: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of all values of `groups`, laid end to end, and how many values each has; both int64."""
    lengths = np.diff(indptr)[groups]
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(indptr[groups] - (ends - lengths), lengths), lengths
