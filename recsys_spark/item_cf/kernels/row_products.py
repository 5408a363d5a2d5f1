"""Row products: one item's sums with all others, user by user, and the most similar of them, in compiled loops.

Owns: the co-occurrence of a block of items, the one pass from it to lists, and the cut of all items into blocks of
equal work that each fit into a task's memory.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.numeric.ranked import offer, sort_best_first
from recsys_spark.numeric.sparse import Csr

# An item that touches fewer than one in so many of all items keeps a list of them; above that, to scan all is faster.
_SPARSE = 8


ENTRY_BYTES = 8  # of a user's row: an index and a value
LISTED_BYTES = 8  # of a place in a list: an index and a score
SUM_BYTES = 16  # of a co-occurrence that waits for more users: index, sum and count


class CoOccurrences(NamedTuple):
    """c_ij of a block of items with all others, as far as users have been seen; rows as in a `Csr`, in any order.

    sums: float64.  counts: shared users, int32; empty where nobody asks for them.
    """

    indptr: np.ndarray
    indices: np.ndarray
    sums: np.ndarray
    counts: np.ndarray


class Scale(NamedTuple):
    """Similarity is (c - mean_i mean_j) / (left_i right_j + shrinkage); n_items numbers each.

    is_union: for jaccard left and right are added, and c is taken off.
    """

    left: np.ndarray
    right: np.ndarray
    mean: np.ndarray
    shrinkage: float
    is_union: bool


def no_co_occurrences(n_items: int) -> CoOccurrences:
    """The co-occurrences of a block before any user."""
    return CoOccurrences(np.zeros(n_items + 1, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0, np.int32))


class _Row(NamedTuple):
    """One item's row while it is made: sums (n_items,), all 0 between rows; counts the same, or empty if not wanted.

    scores: similarities, float32 (n_items,).  touched: the items whose sum is not 0, while they are listed.
    """

    sums: np.ndarray
    counts: np.ndarray
    scores: np.ndarray
    touched: np.ndarray


@njit(cache=True, nogil=True)
def extend(
    values: Csr, by_item: Csr, known: CoOccurrences, counting: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of `known` and what the users of `values` add to it; by_item: the block's columns of `values`."""
    row = _empty_row(values.n_cols, counting)
    n_items = len(by_item.indptr) - 1
    indptr = np.zeros(n_items + 1, np.int64)
    room = max(len(known.indices), 1024)
    indices, sums, counts = np.empty(room, np.int32), np.empty(room), np.empty(room if counting else 0, np.int32)
    for at in range(n_items):
        n_touched = _fill(row, values, by_item, known, at, True)
        end = indptr[at] + n_touched
        if end > len(indices):
            indices, sums = _grown(indices, end), _grown(sums, end)
            counts = _grown(counts, end) if counting else counts
        for place in range(n_touched):
            item = row.touched[place]
            indices[indptr[at] + place] = item
            sums[indptr[at] + place] = row.sums[item]
            row.sums[item] = 0.0
            if counting:
                counts[indptr[at] + place] = row.counts[item]
                row.counts[item] = 0
        indptr[at + 1] = end
    end = indptr[n_items]
    return indptr, indices[:end].copy(), sums[:end].copy(), counts[:end].copy() if counting else counts


@njit(cache=True, nogil=True)
def nearest(
    values: Csr,
    by_item: Csr,
    known: CoOccurrences,
    first: int,
    scale: Scale,
    min_co_occurrence: int,
    num_neighbors: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths (block,), indices and scores (block, num_neighbors) of the best of `known` and the users of `values`.

    first: item of the block's first row.  min_co_occurrence: above 1, `known` must have counts.
    """
    row = _empty_row(values.n_cols, min_co_occurrence > 1)
    n_items = len(by_item.indptr) - 1
    lengths = np.zeros(n_items, np.int64)
    indices = np.empty((n_items, num_neighbors), np.int32)
    scores = np.empty((n_items, num_neighbors), np.float32)
    for at in range(n_items):
        is_listed = bool(_n_products(values, by_item, known, at) * _SPARSE < values.n_cols)
        n_touched = _fill(row, values, by_item, known, at, is_listed)
        if is_listed:
            _score_listed(row, n_touched, first + at, scale, min_co_occurrence)
        else:
            _score_all(row, first + at, scale, min_co_occurrence)
        row.scores[first + at] = 0.0
        lengths[at] = _select(row, n_touched, is_listed, indices[at], scores[at])
    return lengths, indices, scores


@njit(cache=True, nogil=True)
def _empty_row(n_items: int, counting: bool) -> _Row:
    counts = np.zeros(n_items if counting else 0, np.int32)
    return _Row(np.zeros(n_items), counts, np.empty(n_items, np.float32), np.empty(n_items, np.int32))


@njit(cache=True, nogil=True)
def _n_products(values: Csr, by_item: Csr, known: CoOccurrences, at: int) -> int:
    """Bound on the items that the row of item `at` of the block touches."""
    n = known.indptr[at + 1] - known.indptr[at]
    for entry in range(by_item.indptr[at], by_item.indptr[at + 1]):
        user = by_item.indices[entry]
        n += values.indptr[user + 1] - values.indptr[user]
    return int(n)


@njit(cache=True, nogil=True)
def _fill(row: _Row, values: Csr, by_item: Csr, known: CoOccurrences, at: int, is_listed: bool) -> int:
    """Puts the sums of item `at` of the block into `row`; how many items it touches, if they are listed."""
    n_touched = 0
    for place in range(known.indptr[at], known.indptr[at + 1]):
        item = known.indices[place]
        row.sums[item] = known.sums[place]
        if len(row.counts):
            row.counts[item] = known.counts[place]
        row.touched[n_touched] = item
        n_touched += 1
    for entry in range(by_item.indptr[at], by_item.indptr[at + 1]):
        user, value = by_item.indices[entry], np.float64(by_item.values[entry])
        start, end = values.indptr[user], values.indptr[user + 1]
        if is_listed:
            n_touched = _list_new(row, values, start, end, n_touched)
        for place in range(start, end):
            row.sums[values.indices[place]] += value * values.values[place]
        if len(row.counts):
            for place in range(start, end):
                row.counts[values.indices[place]] += 1
    return n_touched


@njit(cache=True, nogil=True)
def _list_new(row: _Row, values: Csr, start: int, end: int, n_touched: int) -> int:
    """Lists the items of a user that no user before had; how many are listed then."""
    for place in range(start, end):
        item = values.indices[place]
        if row.sums[item] == 0.0:
            row.touched[n_touched] = item
            n_touched += 1
    return n_touched


@njit(cache=True, nogil=True, error_model="numpy")
def _score_all(row: _Row, own: int, scale: Scale, min_co_occurrence: int) -> None:
    """Similarities of item `own` with all others into row.scores, 0 or nan where there is none; clears the sums.

    Without branches, so that it compiles to vector instructions: most of the items are looked at once per row.
    """
    left, mean, shrinkage = scale.left[own], scale.mean[own], scale.shrinkage
    sums, scores, right, means = row.sums, row.scores, scale.right, scale.mean
    if scale.is_union:
        for item in range(len(sums)):
            scores[item] = sums[item] / (left + right[item] - sums[item] + shrinkage)
    else:
        for item in range(len(sums)):
            scores[item] = (sums[item] - mean * means[item]) / (left * right[item] + shrinkage)
    sums[:] = 0.0
    if len(row.counts):
        for item in range(len(sums)):
            scores[item] = scores[item] if row.counts[item] >= min_co_occurrence else np.float32(0.0)
        row.counts[:] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _score_listed(row: _Row, n_touched: int, own: int, scale: Scale, min_co_occurrence: int) -> None:
    """The same for the listed items alone."""
    left, mean = scale.left[own], scale.mean[own]
    for place in range(n_touched):
        item = row.touched[place]
        product = row.sums[item]
        over = left + scale.right[item] - product if scale.is_union else left * scale.right[item]
        row.scores[item] = (product - mean * scale.mean[item]) / (over + scale.shrinkage)
        row.sums[item] = 0.0
        if len(row.counts):
            if row.counts[item] < min_co_occurrence:
                row.scores[item] = 0.0
            row.counts[item] = 0


@njit(cache=True, nogil=True)
def _select(row: _Row, n_touched: int, is_listed: bool, indices: np.ndarray, scores: np.ndarray) -> int:
    """Puts the best of row.scores, those above 0, into (indices, scores), best first; how many there are."""
    size = 0
    if is_listed:
        for place in range(n_touched):
            item = row.touched[place]
            if row.scores[item] > 0.0:
                size = offer(indices, scores, size, item, row.scores[item])
    else:
        worst = np.float32(0.0)
        for item in range(len(row.scores)):
            # The items come in their order: one that is as good as the worst of a full list has the larger index.
            if row.scores[item] > worst:
                size = offer(indices, scores, size, item, row.scores[item])
                if size == len(indices):
                    worst = scores[0]
    sort_best_first(indices, scores, size)
    return size


@njit(cache=True, nogil=True)
def _grown(array: np.ndarray, at_least: int) -> np.ndarray:
    grown = np.empty(max(at_least, 2 * len(array)), array.dtype)
    grown[: len(array)] = array
    return grown


def item_blocks(
    products: np.ndarray,
    n_entries: int,
    num_neighbors: int,
    n_blocks: int,
    block_bytes: int,
    keeps_sums: bool = False,
) -> list[range]:
    """Ranges of items, in their order, all items once: about `n_blocks` of equal work, more if they would not fit.

    products: int64 (n_items,), products that the row of each item is made of: the lengths of its users' rows, summed.
    n_entries: entries of the whole matrix.
    A block fits if its lists are at most `block_bytes`, and either the rows of its users surely are, and so are read at
    once, or all the sums that it can come to are, while its users pass by in chunks.  An item that fits neither way has
    a block alone.  keeps_sums: the sums are what is asked for, so they must fit.
    """
    n_items = len(products)
    rows = np.minimum(products, n_entries) * ENTRY_BYTES
    sums = np.minimum(products, n_items) * SUM_BYTES
    target = max(1.0, products.sum() / max(1, n_blocks))
    blocks: list[range] = []
    first, work, row_bytes, sum_bytes = 0, 0, 0, 0
    for item in range(n_items):
        read_at_once = min(row_bytes + rows[item], n_entries * ENTRY_BYTES) <= block_bytes
        lists_fit = (item + 1 - first) * num_neighbors * LISTED_BYTES <= block_bytes
        fits = lists_fit and ((read_at_once and not keeps_sums) or sum_bytes + sums[item] <= block_bytes)
        # A block ends where one more item would take it further from the target than it is.
        too_much = work and work + products[item] / 2 > target
        if item > first and (too_much or not fits):
            blocks.append(range(first, item))
            first, work, row_bytes, sum_bytes = item, 0, 0, 0
        work, row_bytes, sum_bytes = work + products[item], row_bytes + rows[item], sum_bytes + sums[item]
    return [*blocks, range(first, n_items)] if n_items else []
