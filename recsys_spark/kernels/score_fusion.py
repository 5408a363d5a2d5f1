"""Fusion of scores: what every source thinks of every pooled item, put on one scale and summed by weights.

Owns: the scale, and the total of an item.  Called by `adapters.blend_arrow` for every block of users.

A source's scores are put on one scale for each user:

    background   (score - mean) / deviation, both over all items of the catalogue: how far an item stands out
    best         score / best score of the user's own list

An item that a source has no score for counts 0: as any item of the catalogue does.  Lists that many users share say of
an item its score in parts of their best one.  Weights of lists that a user does not have count for nothing.  The sums
of a user are then laid out between 0 and 1, so that rules act on them alike whatever sources and weights there are.

Sources: z-scores and scaling by the best as in Fox, Shaw 1994, "Combination of multiple searches", and Wu, Crestani,
Bi 2006, "Evaluating score normalization methods in data fusion".
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from recsys_spark.kernels.blend import UNITS, Pool
from recsys_spark.kernels.list_walks import cells_of

Scaling = Literal["background", "best"]

# Of a list that otherwise counts for nothing: far below what one place makes in a list that counts.
_REST = 1e-6


class Known(NamedTuple):
    """All scores of one source for a block of users.

    cells: int64 (n,), user and item, ascending (`list_walks.cells_of`).  scores: float64 (n,).  mean, deviation:
    float64 (n_users,), of each user's scores over all items, nan where they are not known.  best: float64 (n_users,),
    greatest of each user's scores.
    """

    cells: np.ndarray
    scores: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    best: np.ndarray


@dataclass(frozen=True)
class Fusion:
    """How scores are fused.  weights: of every list, float64 (n_lists,), at least 0."""

    weights: np.ndarray
    scaling: Scaling


def known_scores(
    users: np.ndarray, items: np.ndarray, scores: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> Known:
    """The scores of a source.  users, items, scores: (n,), each pair once, in any order; others as in `Known`."""
    cells = cells_of(users, items)
    order = np.argsort(cells)
    best = np.full(len(mean), -np.inf)
    np.maximum.at(best, users, scores)
    return Known(cells[order], scores[order].astype(np.float64), mean, deviation, best)


def scaled(pool: Pool, known: Known, scaling: Scaling) -> np.ndarray:
    """The scores of all pooled items on the common scale, float64 (n_items,), 0 where there is none."""
    found = np.zeros(len(pool.items))
    cells = cells_of(pool.users, pool.items)
    place = np.searchsorted(known.cells, cells)
    at = np.flatnonzero(np.append(known.cells, -1)[place] == cells)
    users, scores = pool.users[at], known.scores[place[at]]
    by_background = np.isfinite(known.deviation[users]) & (known.deviation[users] > 0) & (scaling == "background")
    below = np.where(by_background, known.deviation[users], known.best[users])
    above = np.where(by_background, scores - known.mean[users], scores)
    found[at] = np.divide(above, below, out=np.zeros(len(at)), where=below > 0)
    return found


def fused_totals(pool: Pool, said: list[tuple[float, np.ndarray]], shared: list[np.ndarray]) -> np.ndarray:
    """Totals for `blend.fuse`, int64 (n_items,), in units of 2**-40; the least of each user is 0, the greatest 1.

    said: of every list its weight, and what it says of every item.  shared: what lists say that many users share, by
    which those are ordered of whom no list of their own says anything.
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
