"""Ridge regression of every item on its nearest items, which is EASE cut to neighbours.

Owns: the regression, and the lists that it makes.  `item_cf.kernels.similarity` finds the nearest items and the sums.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") regresses every item on all others:
B = argmin |R - R B|^2 + ridge |B|^2 with a diagonal of 0.  Most of what it finds is near, so here item j is regressed
on its k nearest items N alone:

    B_Nj = (G_NN + ridge I)^-1 G_Nj,        G = R'R

which is a system of order k an item in place of one of order n_items.  Weights may be below 0: of two items that say
the same, one subtracts what the other added.  A list holds weights above 0 alone; on every log that was tried, lists
without the negative weights found as much or more.

Row i of B is what a history that holds i adds to all others, so it is the list of i; B is found a column at a time.

Letters: j item that is regressed, N its nearest ones, k how many, n_items.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.errors import KernelError
from recsys_spark.item_cf.kernels.row_products import CoOccurrences
from recsys_spark.item_cf.kernels.similarity import ItemSums, Similarity, co_occurrences, nearest_items
from recsys_spark.numeric.cholesky import factorize, solve_factorized
from recsys_spark.numeric.ragged import row_offsets
from recsys_spark.numeric.ranked import Ranked, best_of_rows
from recsys_spark.numeric.sparse import Csr


class Near(NamedTuple):
    """Of a block of items: the sums with all others and themselves, and the nearest items of each."""

    sums: CoOccurrences
    lists: Ranked


class RidgeWeights(NamedTuple):
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


def ridge_of(similarity: Similarity, sums: ItemSums) -> float:
    """The ridge in the units of the sums: that of the settings is in mean squared weights of a pair."""
    return similarity.ridge * float(sums.squares.sum() / max(1.0, sums.n.sum()))


def added_by_neighbors(
    gram: Csr, near: Ranked, items: range, ridge: float, listed: np.ndarray | None = None
) -> RidgeWeights:
    """The weights above 0 that the nearest items of `items` have for them.

    gram: the sums of all items with all items, in any order within a row.  near: the nearest items of `items`, which
    do not hold the item itself.  ridge: above 0, in units of the sums.  listed: bool (n_items,), what may stand in a
    list; None: everything.
    Raises KernelError if a system has no solution: the ridge is next to nothing beside the sums.
    """
    listed = np.ones(gram.n_cols, bool) if listed is None else listed
    weights, n_unsolved = _solve(gram, near, items.start, ridge, listed)
    if n_unsolved:
        raise KernelError(
            f"item_cf ridge: expected systems that can be solved, got {n_unsolved} items of {len(items)} whose sums a "
            f"ridge of {ridge:g} leaves singular; raise the setting ridge beside similarity"
        )
    kept = weights > 0
    target = np.repeat(np.arange(items.start, items.stop, dtype=np.int32), np.diff(near.indptr))
    return RidgeWeights(near.indices[kept], target[kept], weights[kept])


def lists_of_added(added: RidgeWeights, n_items: int, num_neighbors: int) -> Ranked:
    """The list of every item: what it adds most to, at most `num_neighbors`; added: of all blocks."""
    order = np.argsort(added.source, kind="stable")
    indptr = row_offsets(added.source, n_items)
    return best_of_rows(indptr, added.target[order], added.weight[order], num_neighbors)


# Numbers of the systems that are filled side by side: as many as stay in a cache beside a row of sums.
_SYSTEM_NUMBERS = 4_000_000


@njit(cache=True, nogil=True)
def _solve(gram: Csr, near: Ranked, first: int, ridge: float, listed: np.ndarray) -> tuple[np.ndarray, int]:
    """B_Nj of every item j of the block, 0 of those that no list may hold; float32, laid out as the indices of near.

    Second: how many systems have no solution.
    """
    weights, n_unsolved = np.zeros(len(near.indices), np.float32), 0
    n = len(near.indptr) - 1
    longest = 1
    for row in range(n):
        longest = max(longest, near.indptr[row + 1] - near.indptr[row])
    together = max(1, _SYSTEM_NUMBERS // (longest * longest))
    systems, rights = np.empty((together, longest, longest), np.float32), np.empty((together, longest), np.float32)
    of_item = np.zeros(gram.n_cols, np.float32)  # the sums of one item with all, 0 between items
    for start in range(0, n, together):
        end = min(start + together, n)
        _fill(gram, near, first, start, end, of_item, systems, rights)
        for row in range(start, end):
            at, k = near.indptr[row], near.indptr[row + 1] - near.indptr[row]
            if k == 0 or not listed[first + row]:
                continue
            system, right = systems[row - start], rights[row - start]
            for place in range(k):
                system[place, place] += np.float32(ridge)
            if factorize(system, k):
                solve_factorized(system, k, right)
                weights[at : at + k] = right[:k]
            else:
                n_unsolved += 1
    return weights, n_unsolved


@njit(cache=True, nogil=True)
def _fill(
    gram: Csr,
    near: Ranked,
    first: int,
    start: int,
    end: int,
    of_item: np.ndarray,
    systems: np.ndarray,
    rights: np.ndarray,
) -> None:
    """The lower triangles G_NN and the right sides G_Nj of the rows from `start` to `end` (exclusive).

    An item is near to many: its sums are laid out once for all systems that hold it.
    """
    base, n_entries = near.indptr[start], near.indptr[end] - near.indptr[start]
    # Every place of a system, and its right side, with the item whose sums it takes.
    items = np.empty(n_entries + end - start, np.int32)
    rows, places = np.empty(len(items), np.int32), np.empty(len(items), np.int32)
    items[:n_entries] = near.indices[base : base + n_entries]
    for row in range(start, end):
        for entry in range(near.indptr[row], near.indptr[row + 1]):
            rows[entry - base], places[entry - base] = row, entry - near.indptr[row]
        at = n_entries + row - start
        items[at], rows[at], places[at] = first + row, row, -1
    held = -1
    for at in np.argsort(items):
        if items[at] != held:
            _lay(gram, held, of_item, True)
            held = items[at]
            _lay(gram, held, of_item, False)
        row, place = rows[at], places[at]
        begin = near.indptr[row]
        if place < 0:
            for other in range(near.indptr[row + 1] - begin):
                rights[row - start, other] = of_item[near.indices[begin + other]]
        else:
            for other in range(place + 1):
                systems[row - start, place, other] = of_item[near.indices[begin + other]]
    _lay(gram, held, of_item, True)


@njit(cache=True, nogil=True)
def _lay(gram: Csr, item: int, of_item: np.ndarray, is_cleared: bool) -> None:
    """The sums of `item`, or zeros, at the places of the items that it has any with."""
    if item < 0:
        return
    for entry in range(gram.indptr[item], gram.indptr[item + 1]):
        of_item[gram.indices[entry]] = np.float32(0.0) if is_cleared else gram.values[entry]
