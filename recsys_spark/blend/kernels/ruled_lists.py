"""Boosts and pins in the lists of a block of users, with the rules that acted in the provenance.

Owns: the arithmetic of boosts, the places of pins.  What rules mean, and which of two decides, is in
`blend.kernels.rules`; what users may not see is no longer in the pool.

Letters: u user of the block, m pins of a user, k list length, n_* counts.
"""

import numpy as np

from recsys_spark.blend.kernels.fusion import UNITS, Fused, Pool, fuse, raised, relist, spread, with_reasons
from recsys_spark.blend.kernels.rules import EVERYBODY, Pins, RuleBook
from recsys_spark.blend.kernels.walks import cells_of
from recsys_spark.numeric.ragged import Ragged, offsets

# A boosted score is at most 64: an order key of `fuse` has 62 bits, of which 16 count the items of a user's pool.
_MAX_BOOSTED = 2.0**46

# Wider than any position, so that one running maximum serves all users.
_USER_STEP = 1 << 32


def boost_totals(book: RuleBook, audiences: np.ndarray, pool: Pool, totals: np.ndarray) -> np.ndarray:
    """Totals of the pool times their factors, int64; exact to one unit up to 2**53, a score of 8192."""
    at, groups = _boost_groups(book, audiences[pool.users], pool.items)
    if not len(at):
        return totals
    factors = np.ones(len(totals))
    np.multiply.at(factors, at, book.boosts.products[groups])
    touched = np.unique(at)
    # A factor above 1 must not lower a total that is beyond the limit without it.
    limits = np.maximum(totals[touched], _MAX_BOOSTED)
    boosted = totals.copy()
    boosted[touched] = np.rint(np.minimum(totals[touched] * factors[touched], limits)).astype(np.int64)
    return boosted


def pins_of(book: RuleBook, audiences: np.ndarray, excluded: Ragged, k: int) -> Pins:
    """The first k pins of each user that they have not excluded: one row per user.

    audiences: int64 (n_users,).  excluded: the user's items in ascending order.
    """
    pins = book.pins
    rows, lengths = spread(pins.indptr, audiences)
    users = np.repeat(np.arange(len(audiences)), lengths)
    hidden = _find(cells_of(excluded.rows, excluded.values), cells_of(users, pins.items[rows]))[1]
    rows, users = rows[~hidden], users[~hidden]
    indptr = np.searchsorted(users, np.arange(len(audiences) + 1))
    kept = np.arange(len(rows)) - indptr[users] < k
    indptr = offsets(np.minimum(np.diff(indptr), k))
    rows = rows[kept]
    return Pins(indptr, pins.items[rows], pins.positions[rows], pins.rules[rows])


def is_pinned(pins: Pins, pool: Pool) -> np.ndarray:
    """Which items of the pool will be pinned for their user, bool (n_items,).  pins: of the users, by `pins_of`."""
    return _find(np.sort(_cells(pins)), cells_of(pool.users, pool.items))[1]


def fuse_boosted(
    book: RuleBook, audiences: np.ndarray, pins: Pins, pool: Pool, totals: np.ndarray, k: int, n_columns: int
) -> Fused:
    """As `fuse`, but every item that will be pinned is in the list, for `place_pins`; boosts are in the provenance.

    Provenance has rule r as column n_columns + r, after the lists.
    totals: as `boost_totals` makes them.  audiences: int64 (n_users,).  pins: of the users, by `pins_of`.
    pool: of what each user may see.  A boost has source rank 1 and its factor as source score.
    """
    kept = is_pinned(pins, pool)
    if kept.any():
        totals = np.where(kept, totals.max(initial=0) + 1, totals)  # in the list they keep their provenance
    return _with_boosts(book, audiences, fuse(pool, totals, k), n_columns)


def place_pins(
    fused: Fused, pins: Pins, pool: Pool, totals: np.ndarray, k: int, n_columns: int, kept: np.ndarray
) -> Fused:
    """The lists of `fuse_boosted`, of the same pins, pool and totals, with the pins at their places.

    kept: bool (n_entries,), entries of `fused` that a list of k does not lose to a pin while it has others.  A pin has
    the position that it asks for as source rank, and source score 0.  A pinned item that no list proposed counts as
    scored 0.  In a list with pins every score is raised to the highest after it.
    """
    if not len(pins.items):
        return fused
    at, pooled = _find(cells_of(pool.users, pool.items), _cells(pins))
    own = np.zeros(len(pins.items))
    own[pooled] = totals[at[pooled]] / UNITS
    return _with_pins(fused, pins, own.astype(np.float32), k, n_columns, kept)


def _boost_groups(book: RuleBook, audiences: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, group of boosts) of all rows that are boosted, int64; those for everybody first, then the audience's."""
    flagged = np.flatnonzero(book.boosts.is_boosted[items])
    rows = np.concatenate([flagged, flagged[audiences[flagged] != EVERYBODY]])
    of_audience = np.where(np.arange(len(rows)) < len(flagged), EVERYBODY, audiences[rows])
    groups, inside = _find(book.boosts.cells, cells_of(of_audience, items[rows]))
    return rows[inside], groups[inside]


def _with_boosts(book: RuleBook, audiences: np.ndarray, fused: Fused, n_columns: int) -> Fused:
    """`fused` with every boost of each item in its provenance, in the order of rules."""
    users = np.repeat(np.arange(len(fused.indptr) - 1), np.diff(fused.indptr))
    at, groups = _boost_groups(book, audiences[users], fused.items)
    if not len(at):
        return fused
    boosts = book.boosts
    rows, lengths = spread(boosts.indptr, groups)
    entries = np.repeat(at, lengths)
    order = np.lexsort((boosts.rules[rows], entries))
    entries, rows = entries[order], rows[order]
    return with_reasons(fused, entries, n_columns + boosts.rules[rows], np.ones(len(rows)), boosts.factors[rows])


def _with_pins(fused: Fused, pins: Pins, own: np.ndarray, k: int, n_columns: int, kept: np.ndarray) -> Fused:
    """`fused` with the pins at their places.

    Pinned items may stand anywhere in `fused`.  own: float32 (n_pins,), scores of the pinned items.
    """
    n_users, n_entries = len(fused.indptr) - 1, len(fused.items)
    users = np.repeat(np.arange(n_users), np.diff(fused.indptr))
    order = np.argsort(_cells(pins))
    found, is_pinned = _find(_cells(pins)[order], cells_of(users, fused.items))
    origins = n_entries + np.arange(len(pins.items))  # of each pin: a new entry, or that of the list
    origins[order[found[is_pinned]]] = np.flatnonzero(is_pinned)
    rest = np.flatnonzero(~is_pinned)
    n_pins, n_rest = np.diff(pins.indptr), np.bincount(users[rest], minlength=n_users)
    lengths = np.minimum(k, n_pins + n_rest)
    rest = rest[_stays(users[rest], kept[rest], lengths - n_pins, n_users)]
    filled = np.arange(int(lengths.max(initial=0))) < lengths[:, None]  # (n_users, longest)
    table = np.full(filled.shape, -1)
    rows, at = _rows_of(pins), _pin_places(pins, lengths)
    table[rows, at] = origins
    table[filled & (table < 0)] = rest  # both by user, then by place
    scores = np.concatenate([fused.scores, np.zeros(len(origins), np.float32)])
    scores[origins] = own
    listed = raised(relist(fused, pins.items, scores, table[filled], lengths))
    return with_reasons(listed, listed.indptr[rows] + at, n_columns + pins.rules, pins.positions, np.zeros(len(rows)))


def _stays(users: np.ndarray, kept: np.ndarray, room: np.ndarray, n_users: int) -> np.ndarray:
    """Which entries stay in lists with room for `room` of them, int64 (n_users,): kept ones, then the first; bool (n,).

    users: int64 (n,), ascending.  kept: bool (n,).
    """
    order = np.lexsort((np.arange(len(users)), ~kept, users))
    firsts = np.searchsorted(users, np.arange(n_users))
    stays = np.empty(len(users), bool)
    stays[order] = np.arange(len(users)) - firsts[users] < room[users]
    return stays


def _pin_places(pins: Pins, lengths: np.ndarray) -> np.ndarray:
    """Where pins stand, from 0 and rising in each row, int64 (n_pins,).  lengths: int64 (n_users,), of the lists.

    Each takes the first place from its position on after the pin before it: place_i = max over j <= i of p_j + i - j.
    Those beyond the end move up: the last one to the end, the one before it to the place before, and so on.
    """
    rows = _rows_of(pins)
    number = np.arange(len(rows)) - pins.indptr[rows]
    starts = pins.positions - 1 - number + rows * _USER_STEP
    forward = np.maximum.accumulate(starts) - rows * _USER_STEP + number
    places: np.ndarray = np.minimum(forward, (lengths - np.diff(pins.indptr))[rows] + number)
    return places


def _rows_of(pins: Pins) -> np.ndarray:
    """Row of every pin, int64 (n_pins,)."""
    return np.repeat(np.arange(len(pins.indptr) - 1), np.diff(pins.indptr))


def _cells(pins: Pins) -> np.ndarray:
    return cells_of(_rows_of(pins), pins.items)


def _find(cells: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted cell stands in `cells`, ascending, int64, and whether it is there at all, bool."""
    found = np.searchsorted(cells, wanted)
    return found, np.append(cells, -1)[found] == wanted
