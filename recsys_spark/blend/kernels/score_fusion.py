"""Score fusion: the scores of every source for every pooled item, put on one scale and summed by weights.

Owns: the scale, and the total of an item.

A source's scores are put on one scale for each user:

    background   (score - mean) / deviation, both over all items of the catalogue: how far an item stands out
    capped       the same, 10 at most: a few items of few neighbours do not decide alone

An item without a score of a source counts 0, as an average item of the catalogue.  Lists that many users share stand on
the same scale.  A list that a user does not have adds nothing.  The sums of a user are then scaled to 0 to 1, so that
rules act on them alike whatever sources and weights there are.

Sources: z-scores and scaling by the best as in Fox, Shaw 1994, "Combination of multiple searches", and Wu, Crestani,
Bi 2006, "Evaluating score normalization methods in data fusion".
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from recsys_spark.blend.kernels.fusion import UNITS, Pool
from recsys_spark.blend.kernels.walks import RankedLists, SharedLists, cells_of

Scaling = Literal["background", "capped"]

_CAP = 10.0  # deviations

# Weight by which shared lists break ties: far below the difference of one place in a list that has a weight.
_REST = 1e-6


class Known(NamedTuple):
    """All scores of one source for a block of users.

    cells: int64 (n,), user and item, ascending (`walks.cells_of`).  scores: float64 (n,).  mean, deviation: float64
    (n_users,), of each user's scores over all items, nan where they are not known: then scores are divided by the best.
    best: float64 (n_users,), greatest of each user's scores.
    """

    cells: np.ndarray
    scores: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    best: np.ndarray


class Moments(NamedTuple):
    """Mean and standard deviation of the scores of lists that many users share, float64 (n_lists,)."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True)
class Fusion:
    """How scores are fused.  weights: of every list, float64 (n_lists,), at least 0.

    of_new: the same for items without interactions; None: as for all others.
    """

    weights: np.ndarray
    scaling: Scaling
    of_new: np.ndarray | None = None


def known_scores(
    users: np.ndarray, items: np.ndarray, scores: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> Known:
    """The scores of a source.  users, items, scores: (n,), each pair once, in any order; others as in `Known`."""
    cells = cells_of(users, items)
    order = np.argsort(cells)
    best = np.full(len(mean), -np.inf)
    np.maximum.at(best, users, scores)
    return Known(cells[order], scores[order].astype(np.float64), mean, deviation, best)


def bounded(standard: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Standard scores, capped if `scaling` says so."""
    return np.minimum(standard, _CAP) if scaling == "capped" else standard


def moments_of(lists: RankedLists, n_listed: int) -> Moments:
    """Moments of the scores of every list over all `n_listed` items that lists may hold; a missing item counts as 0."""
    scores, n = lists.scores.astype(np.float64), max(1, n_listed)
    sums = (np.diff(np.concatenate([[0.0], np.cumsum(one)])[lists.indptr]) for one in (scores, scores**2))
    mean, square = (one / n for one in sums)
    return Moments(mean, np.sqrt(np.maximum(square - mean**2, 0.0)))


def shared_scores(pool: Pool, shared: SharedLists, list_of: np.ndarray, moments: Moments) -> np.ndarray:
    """How far every pooled item stands out in its user's shared list, float64 (n_items,), 0 for what it does not hold.

    list_of: int64 (n_users,), the user's list, -1 for none.
    """
    lists, found = list_of[pool.users], np.zeros(len(pool.items))
    wanted = cells_of(lists, pool.items)  # negative for a user without a list: never found
    place = np.searchsorted(shared.cells, wanted)
    at = np.flatnonzero(np.append(shared.cells, -1)[place] == wanted)
    mine = lists[at]
    scores = shared.lists.scores[shared.lists.indptr[mine] + shared.places[place[at]]].astype(np.float64)
    deviation = moments.deviation[mine]
    found[at] = np.divide(scores - moments.mean[mine], deviation, out=np.zeros(len(at)), where=deviation > 0)
    return found


def scaled(pool: Pool, known: Known, scaling: Scaling) -> np.ndarray:
    """The scores of all pooled items on the common scale, float64 (n_items,), 0 where there is none."""
    found = np.zeros(len(pool.items))
    cells = cells_of(pool.users, pool.items)
    place = np.searchsorted(known.cells, cells)
    at = np.flatnonzero(np.append(known.cells, -1)[place] == cells)
    users, scores = pool.users[at], known.scores[place[at]]
    by_background = np.isfinite(known.deviation[users]) & (known.deviation[users] > 0)
    below = np.where(by_background, known.deviation[users], known.best[users])
    above = np.where(by_background, scores - known.mean[users], scores)
    found[at] = np.divide(above, below, out=np.zeros(len(at)), where=below > 0)
    return bounded(found, scaling)


def fused_totals(pool: Pool, said: list[tuple[float | np.ndarray, np.ndarray]], shared: list[np.ndarray]) -> np.ndarray:
    """Totals for `fusion.fuse`, int64 (n_items,), in units of 2**-40; the least of each user is 0, the greatest 1.

    said: of every list its weight, one number or one per item, and its score of every pooled item.  shared: the scores
    of lists that many users share; they order items that no other list tells apart.
    """
    total = np.zeros(len(pool.items))
    for weight, values in said:
        total += weight * values
    for values in shared:
        total += _REST * values
    if len(total):
        starts = np.searchsorted(pool.users, np.arange(pool.n_users))
        filled = np.flatnonzero(np.diff(starts, append=len(total)))
        least, most = np.zeros(pool.n_users), np.zeros(pool.n_users)
        least[filled] = np.minimum.reduceat(total, starts[filled])
        most[filled] = np.maximum.reduceat(total, starts[filled])
        width = np.where(most > least, most - least, 1.0)
        total = (total - least[pool.users]) / width[pool.users]
    return np.rint(total * UNITS).astype(np.int64)
