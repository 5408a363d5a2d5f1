"""Weights of an item's neighbours by one ridge regression an item: what each adds beside the others.

Owns: the regression.  `kernels.item_cf` finds the neighbours and the sums that it is made of.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") regresses every item on all others:
B = argmin |R - R B|^2 + ridge |B|^2 with a diagonal of 0.  Most of what it finds is near, so here item j is regressed
on its k nearest items N alone:

    w_j = (G_NN + ridge I)^-1 G_Nj,        G = R'R

which is a system of order k an item in place of one of order n_items.  Weights may be below 0: of two items that say
the same, one takes from what the other gave.

Letters: j item, N its neighbours, k how many, n_items.
"""

import numpy as np
from numba import njit

from recsys_spark.kernels.ranked import Ranked
from recsys_spark.kernels.row_products import CoOccurrences


def ridge_neighbors(gram: CoOccurrences, near: Ranked, items: range, ridge: float) -> np.ndarray:
    """w_ji of every neighbour i of every item j of `items`, float32, laid out as the indices of `near`.

    gram: the sums of all items with all others and themselves, (n_items rows).  near: the neighbours of `items`, which
    do not hold the item itself.  ridge: above 0, in units of the sums.
    """
    longest = int(np.diff(near.indptr).max(initial=0))
    return _solve(gram, near.indptr, near.indices, items.start, float(ridge), longest)


@njit(cache=True, nogil=True)
def _solve(
    gram: CoOccurrences, indptr: np.ndarray, indices: np.ndarray, first: int, ridge: float, longest: int
) -> np.ndarray:
    n_items = len(gram.indptr) - 1
    weights = np.zeros(len(indices), np.float32)
    place_of = np.full(n_items, -1, np.int32)  # place of an item among the neighbours in hand
    system, right = np.empty((longest, longest)), np.empty(longest)
    for row in range(len(indptr) - 1):
        start, k = indptr[row], indptr[row + 1] - indptr[row]
        if k == 0:
            continue
        near = indices[start : start + k]
        for place in range(k):
            place_of[near[place]] = place
        right[:k] = 0.0
        _scatter(gram, first + row, place_of, right)
        for place in range(k):
            system[place, :k] = 0.0
            _scatter(gram, near[place], place_of, system[place])
            system[place, place] += ridge
        for place in range(k):
            place_of[near[place]] = -1
        weights[start : start + k] = np.linalg.solve(system[:k, :k].copy(), right[:k].copy())
    return weights


@njit(cache=True, nogil=True)
def _scatter(gram: CoOccurrences, item: int, place_of: np.ndarray, into: np.ndarray) -> None:
    """The sums of `item` with the neighbours in hand, each at its place."""
    for entry in range(gram.indptr[item], gram.indptr[item + 1]):
        place = place_of[gram.indices[entry]]
        if place >= 0:
            into[place] = gram.sums[entry]
