"""How close the items of a pool are to those already chosen from it, kept up to date in compiled loops.

Owns: the layout that makes cosines fast, and the order of their sums.

A pool is cut into tiles of 64 items, each with its vectors turned, (f, 64): one chosen item meets the whole tile in one
go, and every cosine is summed from the first number of the vector to the last, in float32.  So it has the same bits on
every processor and in every block, without a sum across a vector register.
(64 was the fastest of 16, 32, 64 and 128 at a pool of 400, f = 64.)
"""

from typing import NamedTuple

import numpy as np
from numba import njit

TILE = 64


class PoolSimilarity(NamedTuple):
    """The vectors of one pool at length 1, and the highest cosine of each with the chosen ones, from 0 up.

    tiles: float32 (n_tiles, f, TILE).  chosen: float32 (k, f), in the order of choice.  nearest: float32
    (n_tiles, TILE), as far as `seen`, int64 (n_tiles,), of the chosen ones.  cosines: float32 (TILE,), squares: float64
    (TILE,) and rows: float32 (TILE, f), for the work on one tile.
    """

    tiles: np.ndarray
    chosen: np.ndarray
    nearest: np.ndarray
    seen: np.ndarray
    cosines: np.ndarray
    squares: np.ndarray
    rows: np.ndarray


@njit(cache=True, nogil=True)
def similarity_room(n_items: int, f: int, k: int) -> PoolSimilarity:
    """Room for pools of up to `n_items`, from which k are chosen."""
    n_tiles = -(-n_items // TILE)
    return PoolSimilarity(
        np.zeros((n_tiles, f, TILE), np.float32),
        np.zeros((k, f), np.float32),
        np.zeros((n_tiles, TILE), np.float32),
        np.zeros(n_tiles, np.int64),
        np.zeros(TILE, np.float32),
        np.zeros(TILE),
        np.zeros((TILE, f), np.float32),
    )


@njit(cache=True, nogil=True)
def load_pool(room: PoolSimilarity, vectors: np.ndarray, items: np.ndarray) -> bool:
    """Puts the vectors of `items` into `room`, nothing chosen yet; False if one of them is not finite."""
    room.nearest[:] = 0.0
    room.seen[:] = 0
    if vectors.shape[1] == 0:
        return True
    for first in range(0, len(items), TILE):
        listed = items[first : first + TILE]
        _turn(vectors, listed, room.rows, room.tiles[first // TILE])
        if not _make_units(room.tiles[first // TILE], room.squares):
            return False
    return True


@njit(cache=True, nogil=True)
def _turn(vectors: np.ndarray, items: np.ndarray, rows: np.ndarray, tile: np.ndarray) -> None:
    """The vectors of `items` as the first columns of `tile`, the others 0; through rows, twice as fast as directly."""
    f = vectors.shape[1]
    for lane in range(len(items)):
        vector, row = vectors[items[lane]], rows[lane]
        for at in range(f):
            row[at] = vector[at]
    rows[len(items) :] = 0.0
    for at in range(f):
        numbers = tile[at]
        for lane in range(TILE):
            numbers[lane] = rows[lane, at]


@njit(cache=True, nogil=True)
def _make_units(tile: np.ndarray, squares: np.ndarray) -> bool:
    """Scales the columns of `tile` to length 1, zeros stay; False if one is not finite."""
    squares[:] = 0.0
    for at in range(len(tile)):
        numbers = tile[at]
        for lane in range(TILE):
            number = np.float64(numbers[lane])  # no float32 overflows a square in float64
            squares[lane] += number * number
    for lane in range(TILE):
        if not np.isfinite(squares[lane]):
            return False
        squares[lane] = 1.0 / np.sqrt(squares[lane]) if squares[lane] > 0.0 else 0.0
    for at in range(len(tile)):
        numbers = tile[at]
        for lane in range(TILE):
            numbers[lane] = numbers[lane] * squares[lane]
    return True


@njit(cache=True, nogil=True)
def note_chosen(room: PoolSimilarity, place: int, rank: int) -> None:
    """Takes down that the item at `place` of the pool is the chosen one number `rank`, from 0."""
    for at in range(room.chosen.shape[1]):
        room.chosen[rank, at] = room.tiles[place // TILE, at, place % TILE]


@njit(cache=True, nogil=True)
def catch_up(room: PoolSimilarity, tile: int, n_chosen: int) -> None:
    """Makes `nearest` of one tile right for the first `n_chosen`."""
    vectors, nearest, cosines = room.tiles[tile], room.nearest[tile], room.cosines
    f = len(vectors)
    whole = f // 4 * 4
    for rank in range(room.seen[tile], n_chosen):
        chosen = room.chosen[rank]
        cosines[:] = 0.0
        for at in range(0, whole, 4):  # four at once, so that sums are read and written once for all four
            a, b, c, d = chosen[at], chosen[at + 1], chosen[at + 2], chosen[at + 3]
            for lane in range(TILE):
                cosines[lane] = (
                    ((cosines[lane] + a * vectors[at, lane]) + b * vectors[at + 1, lane]) + c * vectors[at + 2, lane]
                ) + d * vectors[at + 3, lane]
        for at in range(whole, f):
            for lane in range(TILE):
                cosines[lane] += chosen[at] * vectors[at, lane]
        for lane in range(TILE):
            nearest[lane] = max(nearest[lane], cosines[lane])
    room.seen[tile] = n_chosen
