"""The pool of a block of users cut to lists that are not all of one kind, with totals that keep their order.

Owns: how many candidates a diversified list is chosen from, and its scores.  The choice itself is `kernels.diversify`.

A list has the fused scores of its items, each raised to the highest after it, so that scores fall with the rank as they
do everywhere; within equal ones the rank decides, by a few units of 2**-40.
"""

from dataclasses import replace

import numpy as np

from recsys_spark.kernels.blend import UNITS, Pool, best_of_users
from recsys_spark.kernels.category_mix import CategoryMixes
from recsys_spark.kernels.diversify import NOTHING, Diversity, ItemTraits, diversify
from recsys_spark.kernels.list_walks import RankedLists

POOL_LISTS = 2  # a list of k is chosen from as many times k candidates, those with the highest totals


def diverse_pool(
    pool: Pool,
    totals: np.ndarray,
    traits: ItemTraits,
    history: CategoryMixes | None,
    wanted: Diversity,
    k: int,
    kept: np.ndarray | None = None,
) -> tuple[Pool, np.ndarray]:
    """The chosen items alone, k of a user at most, and int64 totals that `fuse` orders as they were chosen.

    kept: bool (n_items,), items that stay in the pool with their totals though they were not chosen: they are pinned.

    totals: int64 (n_items,), of the pool, in units of 2**-40, not below 0; a total of 0 counts as one unit.
    With `wanted` all 0 both are returned as they are.  Errors: as `diversify`.
    """
    if wanted == NOTHING or not len(pool.items):
        return pool, totals
    best, indptr = best_of_users(pool.users, totals, pool.n_users, POOL_LISTS * k)
    scores = np.maximum(totals[best], 1) / UNITS
    lists = diversify(RankedLists(indptr, pool.items[best], scores), traits, history, wanted, k)
    chosen = best[lists.values]
    falling = totals.copy()
    falling[chosen] = _falling(totals[chosen], lists.rows, lists.positions, k)
    stays = np.zeros(len(totals), bool) if kept is None else kept.copy()
    stays[chosen] = True
    places = np.flatnonzero(stays)
    return _pool_where(pool, places), falling[places]


def _pool_where(pool: Pool, chosen: np.ndarray) -> Pool:
    """The pool with the items at `chosen` alone, int64, ascending; proposals of others stay where they are."""
    return replace(
        pool,
        users=pool.users[chosen],
        items=pool.items[chosen],
        starts=pool.starts[chosen],
        lengths=pool.lengths[chosen],
    )


def _falling(totals: np.ndarray, rows: np.ndarray, positions: np.ndarray, k: int) -> np.ndarray:
    """Totals of lists laid end to end, each raised to the highest after it, and falling strictly; int64."""
    table = np.zeros((int(rows.max(initial=-1)) + 1, k), np.int64)
    table[rows, positions] = totals
    heights = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    falling: np.ndarray = heights[rows, positions] + (k - positions)
    return falling
