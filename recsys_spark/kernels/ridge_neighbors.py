"""What an item adds to others beside all that goes with them: one ridge regression an item, over its nearest ones.

Owns: the regression, and the lists that it makes.  `kernels.item_cf` finds the nearest items and the sums.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") regresses every item on all others:
B = argmin |R - R B|^2 + ridge |B|^2 with a diagonal of 0.  Most of what it finds is near, so here item j is regressed
on its k nearest items N alone:

    B_Nj = (G_NN + ridge I)^-1 G_Nj,        G = R'R

which is a system of order k an item in place of one of order n_items.  Weights may be below 0: of two items that say
the same, one takes from what the other gave.  A list holds those above 0: what an item says against another is left
out, which finds as much or more on every log that it was tried on.

Row i of B is what a history that holds i adds to all others, so it is the list of i; it is found a column at a time.

Letters: j item that is regressed, N its nearest ones, k how many, n_items.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.kernels.cholesky import factorize, solve_factorized
from recsys_spark.kernels.csr import Csr, transposed
from recsys_spark.kernels.item_cf import ItemSums, Similarity, co_occurrences, nearest_items
from recsys_spark.kernels.ranked import Ranked, offer, ranked_of_rows, sort_best_first
from recsys_spark.kernels.row_products import CoOccurrences


class Near(NamedTuple):
    """Of a block of items: the sums with all others and themselves, and the nearest items of each."""

    sums: CoOccurrences
    lists: Ranked


class Added(NamedTuple):
    """Weights above 0 of a block: what an item of a history (`source`) adds to an item of the block (`target`).

    source, target: int32 (n,).  weight: float32 (n,).
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def near_of_block(
    values: Csr, items: range, known: CoOccurrences | None, sums: ItemSums, similarity: Similarity
) -> Near:
    """The sums of the block and its nearest items, from the last, or only, chunk of users; see `nearest_items`."""
    found = co_occurrences(values, items, known, similarity)
    nobody = Csr(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), values.n_cols)
    return Near(found, nearest_items(nobody, items, found, sums, similarity))


def sums_matrix(indptr: np.ndarray, indices: np.ndarray, values: np.ndarray) -> Csr:
    """The sums of all items with all items; given row by row in any order within a row: equal to its own transpose."""
    return transposed(Csr(indptr, indices, values, len(indptr) - 1))


def ridge_of(similarity: Similarity, sums: ItemSums) -> float:
    """The ridge in the units of the sums: that of the settings is in mean squared weights of a pair."""
    return similarity.ridge * float(sums.squares.sum() / max(1.0, sums.n.sum()))


def added_by_neighbors(gram: Csr, near: Ranked, items: range, ridge: float, listed: np.ndarray | None = None) -> Added:
    """The weights above 0 by which the nearest items of `items` tell of them.

    gram: see `sums_matrix`.  near: the nearest items of `items`, which do not hold the item itself.  ridge: above 0,
    in units of the sums.  listed: bool (n_items,), what may stand in a list; None: everything.
    """
    weights = _solve(gram, near, items.start, ridge, np.ones(gram.n_cols, bool) if listed is None else listed)
    kept = weights > 0
    target = np.repeat(np.arange(items.start, items.stop, dtype=np.int32), np.diff(near.indptr))
    return Added(near.indices[kept], target[kept], weights[kept])


def lists_of_added(added: Added, n_items: int, num_neighbors: int) -> Ranked:
    """The list of every item: what it adds most to, at most `num_neighbors`; added: of all blocks."""
    order = np.argsort(added.source, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(added.source, minlength=n_items))])
    return ranked_of_rows(*_best(indptr, added.target[order], added.weight[order], num_neighbors))


@njit(cache=True, nogil=True)
def _best(
    indptr: np.ndarray, targets: np.ndarray, weights: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(indptr) - 1
    lengths, indices, scores = np.zeros(n, np.int64), np.empty((n, most), np.int32), np.empty((n, most), np.float32)
    for row in range(n):
        size = 0
        for entry in range(indptr[row], indptr[row + 1]):
            size = offer(indices[row], scores[row], size, targets[entry], weights[entry])
        sort_best_first(indices[row], scores[row], size)
        lengths[row] = size
    return lengths, indices, scores


@njit(cache=True, nogil=True)
def _solve(gram: Csr, near: Ranked, first: int, ridge: float, listed: np.ndarray) -> np.ndarray:
    """B_Nj of every item j of the block, 0 of those that no list may hold; float32, laid out as the indices of near."""
    weights = np.zeros(len(near.indices), np.float32)
    longest = 0
    for row in range(len(near.indptr) - 1):
        longest = max(longest, near.indptr[row + 1] - near.indptr[row])
    system, right = np.empty((longest, longest), np.float32), np.empty(longest, np.float32)
    for row in range(len(near.indptr) - 1):
        start, k = near.indptr[row], near.indptr[row + 1] - near.indptr[row]
        if k == 0 or not listed[first + row]:
            continue
        order = np.argsort(near.indices[start : start + k])
        sorted_near = near.indices[start : start + k][order]
        _take(gram, first + row, sorted_near, right)
        for place in range(k):
            _take(gram, sorted_near[place], sorted_near[: place + 1], system[place])  # the lower triangle is enough
            system[place, place] += np.float32(ridge)
        if factorize(system, k):
            solve_factorized(system, k, right)
            for place in range(k):
                weights[start + order[place]] = right[place]
    return weights


@njit(cache=True, nogil=True)
def _take(gram: Csr, item: int, wanted: np.ndarray, into: np.ndarray) -> None:
    """into[:len(wanted)] := the sums of `item` with the items `wanted`, which ascend.

    Strides that double until they pass what is wanted, then halves: rows are from a few entries to all items long.
    """
    low, end = gram.indptr[item], gram.indptr[item + 1]
    for place in range(len(wanted)):
        stride = 1
        high = low
        while high < end and gram.indices[high] < wanted[place]:
            low = high + 1
            high += stride
            stride *= 2
        high = min(high, end)
        while low < high:
            middle = (low + high) // 2
            if gram.indices[middle] < wanted[place]:
                low = middle + 1
            else:
                high = middle
        into[place] = gram.values[low] if low < end and gram.indices[low] == wanted[place] else np.float32(0.0)
