"""Exact search: the k items with the highest dot product with each query, without the items that it may not have.

Owns: the search, and the scaling of vectors for it.

Scores come from a product of matrices, whose last bits depend on its shape, and so on who else is in the block.  They
only rule items out, with a margin for what rounding can do.  An item that is left is re-scored: products exact in
float64, summed in one fixed order, rounded to float32 once.  That score decides and is returned.  So a query's list is
the same, bit for bit, in whatever call and block it is asked for, whatever `block_bytes` is and on whatever processor.
The re-scoring takes a sixth of the time at 8 000 items, f = 64, k = 100.

Letters: n queries, m searched items, f length of a vector, b queries of a block, w items of a tile, g its groups.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ranked import Ranked, joined, offer, ranked_of_rows, sort_best_first
from recsys_spark.numeric.sparse import Csr

# Scores that are made at once, at most, 4 MiB of them: they stay in the cache.  Wider tiles leave fewer items to
# re-score, narrower ones end a search sooner; these two were near the best with 8 000 and with 27 000 items.
_MAX_BLOCK = 128
_MAX_TILE = 8192
_MIN_TILE = 16
_TILE_PER_QUERY = 64  # items of a tile for each query, in a block that has to be smaller
# Items of a group, whose best score is compared first: one load in place of 16.
_MAX_GROUP = 16

_SCORE_BYTES = 12  # a score, and at most as many maxima of groups, twice
_LISTED_BYTES = 24  # an index and a score, in the heap and in the list, and a mask

_UNIT = 2.0**-24  # what rounding to float32 can add to 1
# More than what rounding adds where numbers are too small for the full precision of float32.
_TINY = float(np.finfo(np.float32).tiny)
_LOWEST = float(np.finfo(np.float32).min)
_MAX_SCORE = float(np.finfo(np.float32).max) / 2


class Items(NamedTuple):
    """Items to search, longest vector first, ties by the smaller idx; made once, by `search_items`.

    vectors: float32 (m, f).  idx: int32 (m,).  norms: float64 (m,).  places: int32 (n_items,), row of an idx in
    `vectors`, -1 for one that is not searched.
    """

    vectors: np.ndarray
    idx: np.ndarray
    norms: np.ndarray
    places: np.ndarray


def damped(vectors: np.ndarray, exponent: float) -> np.ndarray:
    """`vectors` times norm ** (exponent - 1), float32 (n, f): 1 leaves them, 0 makes them units; 0 stays 0.

    Of items it sets how far a long vector counts: the order of the dot product at 1, of the cosine at 0.
    """
    return _damp(np.ascontiguousarray(vectors, np.float32), float(exponent))


def normalized(vectors: np.ndarray) -> np.ndarray:
    """`vectors` at length 1, float32 (n, f); a vector of zeros stays one."""
    return damped(vectors, 0.0)


def search_items(vectors: np.ndarray, listed: np.ndarray | None) -> Items:
    """The items that lists may hold, ready for `top_k`.

    vectors: float32 (n_items, f).  listed: idx of these items, in any order; None for all.
    Raises KernelError if a vector is not finite.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    norms = _norms(vectors)
    wrong = np.flatnonzero(~np.isfinite(norms))
    if len(wrong):
        raise KernelError(
            f"top_k items: expected finite vectors, got {len(wrong)} others, the first at idx {wrong[0]}; correct the "
            "step that made them"
        )
    idx = np.arange(len(vectors)) if listed is None else np.unique(listed)
    idx = idx[np.argsort(-norms[idx], kind="stable")]  # (m,)
    places = np.full(len(vectors), -1, np.int32)
    places[idx] = np.arange(len(idx))
    return Items(vectors[idx], idx.astype(np.int32), norms[idx], places)


def top_k(queries: np.ndarray, items: Items, k: int, hidden: Csr | None, block_bytes: int) -> Ranked:
    """The k best items of every query by dot product, of any sign, ties by the smaller idx; fewer if there are fewer.

    queries: float32 (n, f); one of zeros says nothing and gets an empty list.  hidden: (n, n_items), by idx, the items
    that a query is not given; its values do not matter.  block_bytes: what the work may take besides the lists, as far
    as the work on one query fits in.
    Raises KernelError if a query is not finite, or a score may be too large for float32.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    norms = _norms(queries)
    longest = items.norms.max(initial=0.0)
    if not norms.max(initial=0.0) * longest < _MAX_SCORE:  # not >=: NaN is refused too
        raise KernelError(
            f"top_k queries: expected finite vectors with scores below {_MAX_SCORE:.2g}, got a norm of {norms.max():g} "
            f"and items of up to {longest:g}; correct the step that made them, or scale both down"
        )
    n, k = len(queries), min(k, len(items.idx))
    if hidden is None:
        hidden = Csr(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), len(items.places))
    block, tile = _shape(queries.shape[1], k, block_bytes)
    parts = []
    for first in range(0, max(1, n), block):
        rows = slice(first, first + block)
        of_block = hidden._replace(indptr=hidden.indptr[first : first + block + 1])  # offsets into all entries still
        parts.append(_search(queries[rows], norms[rows], items, k, of_block, tile))
    return joined(parts)


def _shape(f: int, k: int, block_bytes: int) -> tuple[int, int]:
    """Queries of a block and items of a tile that `block_bytes` allow."""
    tile = min(_MAX_TILE, max(_MIN_TILE, isqrt(block_bytes * _TILE_PER_QUERY // _SCORE_BYTES)))
    query_bytes = tile * _SCORE_BYTES + k * _LISTED_BYTES + f * np.float32().nbytes
    return min(_MAX_BLOCK, max(1, block_bytes // query_bytes)), tile


class _Lists(NamedTuple):
    """Heaps while they fill, then lists: lengths int64 (b,), indices int32 (b, k), scores float32 (b, k)."""

    lengths: np.ndarray
    indices: np.ndarray
    scores: np.ndarray


class _Tile(NamedTuple):
    """Rough scores of a block's queries with items in a row, float32 (b, w), their maxima (b, g), and these items."""

    rough: np.ndarray
    maxima: np.ndarray
    vectors: np.ndarray
    idx: np.ndarray


def _search(queries: np.ndarray, norms: np.ndarray, items: Items, k: int, hidden: Csr, tile: int) -> Ranked:
    """The lists of one block of queries."""
    n, m = len(queries), len(items.idx)
    # A sum of f products is off by f units of |query| |item| at most, in any order (Higham 2002, section 3.1); the rest
    # is for the rounding of the score itself and of the sums with the margin.
    margins = (queries.shape[1] + 8) * (_UNIT * norms * items.norms.max(initial=0.0) + _TINY)  # (b,)
    lists = _Lists(np.zeros(n, np.int64), np.empty((n, k), np.int32), np.zeros((n, k), np.float32))
    room = np.empty(n * min(tile, m), np.float32)
    alive = np.flatnonzero(norms)
    for start in range(0, m, tile):
        # No item from here on scores more than its reach; one as good as the last of a full list may displace it.
        reach = norms[alive] * items.norms[start] + margins[alive]
        alive = alive[(lists.lengths[alive] < k) | (reach >= lists.scores[alive, 0])]
        if not len(alive):
            break
        vectors = items.vectors[start : start + tile]
        rough = room[: len(alive) * len(vectors)].reshape(len(alive), len(vectors))
        block = queries[alive]
        np.dot(block, vectors.T, out=rough)
        _hide(rough, hidden, alive, items.places, start)
        maxima = _maxima(rough, max(1, min(_MAX_GROUP, tile // (2 * k))))
        floors = _floors(maxima, k, margins[alive]) if start == 0 else np.full(len(alive), _LOWEST, np.float32)
        _take(_Tile(rough, maxima, vectors, items.idx[start:]), block, alive, floors, margins, lists)
    _sort(lists)
    return ranked_of_rows(*lists)


def _floors(maxima: np.ndarray, k: int, margins: np.ndarray) -> np.ndarray:
    """Rough scores below which no item is among a query's k best, float32 (b,): k groups have one that is above."""
    n_groups = maxima.shape[1]
    if n_groups < k:
        return np.full(len(maxima), _LOWEST, np.float32)
    kth = np.partition(maxima, n_groups - k, axis=1)[:, n_groups - k]
    # Once for the item that is kept out, once for those that keep it out.
    floors: np.ndarray = np.maximum(kth - 2 * margins, _LOWEST).astype(np.float32)
    return floors


@njit(cache=True, nogil=True)
def _hide(rough: np.ndarray, hidden: Csr, rows: np.ndarray, places: np.ndarray, start: int) -> None:
    end = start + rough.shape[1]
    for at in range(len(rows)):
        for entry in range(hidden.indptr[rows[at]], hidden.indptr[rows[at] + 1]):
            place = places[hidden.indices[entry]]
            if start <= place < end:
                rough[at, place - start] = -np.inf


@njit(cache=True, nogil=True)
def _maxima(rough: np.ndarray, group: int) -> np.ndarray:
    """Best score of every group of a row, (b, g); a group is every g-th item, so that the loop compiles to vectors."""
    n_groups = -(-rough.shape[1] // group)
    maxima = rough[:, :n_groups].copy()
    for at in range(len(rough)):
        best = maxima[at]
        for first in range(n_groups, rough.shape[1], n_groups):
            scores = rough[at, first : first + n_groups]
            for place in range(len(scores)):
                best[place] = max(scores[place], best[place])
    return maxima


@njit(cache=True, nogil=True)
def _take(
    tile: _Tile, queries: np.ndarray, rows: np.ndarray, floors: np.ndarray, margins: np.ndarray, lists: _Lists
) -> None:
    """Offers the items that the rough scores do not rule out.

    queries, floors: of the rows of `tile`.  rows: their places in `margins` and `lists`.
    """
    width, n_groups, k = tile.rough.shape[1], tile.maxima.shape[1], lists.indices.shape[1]
    folded = np.empty(queries.shape[1] // 4)
    for at in range(len(rows)):
        row = rows[at]
        indices, scores, size = lists.indices[row], lists.scores[row], lists.lengths[row]
        margin, floor = np.float32(margins[row]), floors[at]
        if size == k:
            floor = max(floor, scores[0] - margin)
        for group in range(n_groups):
            if not tile.maxima[at, group] >= floor:
                continue
            for place in range(group, width, n_groups):
                if tile.rough[at, place] >= floor:
                    score = np.float32(exact_dot(queries[at], tile.vectors[place], folded))
                    size = offer(indices, scores, size, tile.idx[place], score)
                    if size == k:
                        floor = max(floor, scores[0] - margin)
        lists.lengths[row] = size


@njit(cache=True, nogil=True)
def _sort(lists: _Lists) -> None:
    for row in range(len(lists.lengths)):
        sort_best_first(lists.indices[row], lists.scores[row], lists.lengths[row])


@njit(cache=True, nogil=True)
def exact_dot(left: np.ndarray, right: np.ndarray, folded: np.ndarray) -> float:
    """Dot product in float64 in one order on every processor: quarters first, in vectors; folded: room for f / 4."""
    quarter = len(left) // 4
    second, third, fourth = quarter, 2 * quarter, 3 * quarter
    for at in range(quarter):
        folded[at] = (left[at] * np.float64(right[at]) + left[second + at] * np.float64(right[second + at])) + (
            left[third + at] * np.float64(right[third + at]) + left[fourth + at] * np.float64(right[fourth + at])
        )
    a = b = c = d = 0.0
    whole = quarter // 4 * 4
    for at in range(0, whole, 4):
        a += folded[at]
        b += folded[at + 1]
        c += folded[at + 2]
        d += folded[at + 3]
    for at in range(whole, quarter):
        a += folded[at]
    for at in range(4 * quarter, len(left)):
        b += left[at] * np.float64(right[at])
    return (a + b) + (c + d)


@njit(cache=True, nogil=True)
def _norms(vectors: np.ndarray) -> np.ndarray:
    """Length of every row, float64 (n,)."""
    norms, folded = np.empty(len(vectors)), np.empty(vectors.shape[1] // 4)
    for row in range(len(vectors)):
        norms[row] = np.sqrt(exact_dot(vectors[row], vectors[row], folded))
    return norms


@njit(cache=True, nogil=True)
def _damp(vectors: np.ndarray, exponent: float) -> np.ndarray:
    found, norms = np.zeros_like(vectors), _norms(vectors)
    for row in range(len(vectors)):
        if norms[row] != 0.0:
            factor = norms[row] ** (exponent - 1.0)
            for at in range(vectors.shape[1]):
                found[row, at] = vectors[row, at] * factor
    return found
