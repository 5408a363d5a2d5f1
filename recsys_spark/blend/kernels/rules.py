"""Business rules on blocks of users: what may not be listed, what counts more, what stands at a given position.

Owns: the order in which rules act, and what of an audience's rules is the same for all of its users.
`blend.compile_rules` makes `Rules`; `blend.kernels.ruled_lists` applies boosts and pins to lists.

A rule is for everybody or for one segment; both have equal force.  The audience of a user is that of their segment, 0
if no rule names it.  When rules disagree about an item, the earlier of these decides:

1. What may not be shown, or not to this user (seen, disliked), is not listed, whatever a rule says.
2. block: the item is not listed.
3. allow: where any is in force for a user, what none of them allows is not listed; those for everybody and those for
   the segment add up.
4. pin: the item stands at its position, also if no source proposed it, and the others move down.  Pins of one position
   are in the order of their rule ids, those of the segment before those for everybody; the later take the next free
   positions.  An item that is pinned twice has the first of its pins.  Where the list ends before a pin's position, the
   pin stands at the end, and pins before it move up as far as that needs.
5. boost: the fused score is multiplied before the list is cut to k; the factors of one item multiply.  Scores are never
   below 0, so a factor above 1 never lowers an item.

Letters: a audience, g group of boosts, n_* counts.
"""

from dataclasses import dataclass

import numpy as np

from recsys_spark.blend.kernels.walks import ITEM_BITS, RankedLists, cells_of, keep_values
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import offsets

EVERYBODY = 0  # the audience of rules without a segment, and of users whose segment no rule names

_MAX_PRODUCT = 2.0**62  # of factors; finite, so that times a total of 0 it is 0

# One bit for each item and audience: 255 segments with 8 million items.
_MAX_BARRED_BYTES = 256 << 20


@dataclass(frozen=True)
class Effects:
    """What rules do to items, one row for each rule and item: int32 audiences, items (dense indices) and rules (places
    in `rule_ids`); values, float64, factors above 0 of boosts and positions from 1 of pins."""

    audiences: np.ndarray
    items: np.ndarray
    rules: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Rules:
    """The rules in force at one time, by dense item index.

    rule_ids: in the order of their bytes.  segments: audience a, from 1, is segments[a - 1].  blocked, allowed: int64,
    ascending, `cells_of` audience and item, each once.  restricted: bool (n_audiences,), whether an allow rule is in
    force for the audience, known items or not.
    """

    rule_ids: tuple[str, ...]
    segments: tuple[str, ...]
    blocked: np.ndarray
    allowed: np.ndarray
    restricted: np.ndarray
    boosts: Effects
    pins: Effects


@dataclass(frozen=True)
class Boosts:
    """Boosts by audience and item; group g, of cell cells[g], has the boosts indptr[g]:indptr[g + 1].

    cells: int64 (n_groups,), ascending.  rules: int32, and factors: float64, of the boosts.  products: of the factors
    of each group.  is_boosted: bool (n_items,), for any audience.
    """

    cells: np.ndarray
    indptr: np.ndarray
    rules: np.ndarray
    factors: np.ndarray
    products: np.ndarray
    is_boosted: np.ndarray


@dataclass(frozen=True)
class Pins:
    """Pins laid end to end, those of row r from indptr[r] to indptr[r + 1], by position; each item once in a row.

    items, positions (from 1), rules: int64 (n_pins,).
    """

    indptr: np.ndarray
    items: np.ndarray
    positions: np.ndarray
    rules: np.ndarray


@dataclass(frozen=True)
class RuleBook:
    """Rules made ready for many blocks, by `open_rules`.

    shown: bool (n_items,), what may be shown to anybody.  barred: uint8 (n_items, n_bytes), bit a where audience a may
    not see the item, None if all see the same.  pins: one row per audience, of what it may see.
    """

    shown: np.ndarray
    barred: np.ndarray | None
    boosts: Boosts
    pins: Pins


def open_rules(rules: Rules, shown: np.ndarray) -> RuleBook:
    """The rules made ready.  shown: bool (n_items,), items that may be shown.

    Raises KernelError if rules tell more audiences apart than _MAX_BARRED_BYTES has room for.
    """
    n_audiences = len(rules.segments) + 1
    n_bytes = (n_audiences + 7) // 8
    if n_bytes * len(shown) > _MAX_BARRED_BYTES:
        raise KernelError(
            f"rules: expected at most {_MAX_BARRED_BYTES // len(shown) * 8 - 1} segments with rules for "
            f"{len(shown)} items, got {n_audiences - 1}; write rules for everybody where segments have the same"
        )
    bits = np.zeros((len(shown), n_bytes), np.uint8)
    from_all = np.ones(len(shown), bool)
    for audience in range(n_audiences):
        is_barred = _barred_from(rules, audience, len(shown))
        bits[:, audience >> 3] |= is_barred.astype(np.uint8) << (audience & 7)
        from_all &= is_barred
    left = shown & ~from_all
    barred = bits if bits[left].any() else None
    pins = _pins_by_audience(rules.pins, left, barred, n_audiences)
    return RuleBook(left, barred, _grouped(rules.boosts, left), pins)


def may_see(barred: np.ndarray | None, audiences: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Whether audience audiences[j] may see item items[j], bool (n,).

    barred: as in `RuleBook`.  items: shown to anybody, hence below n_items.
    """
    if barred is None:
        return np.ones(len(items), bool)
    seen: np.ndarray = (barred[items, audiences >> 3] >> (audiences & 7).astype(np.uint8)) & 1 == 0
    return seen


def split_lists(book: RuleBook, lists: RankedLists, audience_of: np.ndarray) -> tuple[RankedLists, np.ndarray]:
    """`lists` with copies after them for audiences that may not see all of one, and which list each audience walks.

    lists: of items that are shown.  audience_of: int64 (n_lists,), the audience of a list's segment, -1 for everybody.
    The second is int64 (n_audiences, n_lists); copies take as much memory as what they hold.
    """
    n_audiences, n_lists = len(book.pins.indptr) - 1, len(audience_of)
    variants = np.tile(np.arange(n_lists), (n_audiences, 1))
    if book.barred is None:
        return lists, variants
    row_of = np.repeat(np.arange(n_lists), np.diff(lists.indptr))
    parts, n_rows = [lists], n_lists
    for audience in range(n_audiences):
        kept = may_see(book.barred, np.full(len(row_of), audience), lists.items)
        walks = (audience_of < 0) | (audience_of == audience)
        copied = walks & (np.bincount(row_of[~kept], minlength=n_lists) > 0)
        variants[audience, copied] = n_rows + np.arange(copied.sum())
        n_rows += int(copied.sum())
        shorter = keep_values(lists, kept & copied[row_of])
        lengths = np.diff(shorter.indptr)[copied]
        parts.append(RankedLists(offsets(lengths), shorter.items, shorter.scores))
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    items, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("items", "scores"))
    return RankedLists(offsets(lengths), items, scores), variants


def _barred_from(rules: Rules, audience: int, n_items: int) -> np.ndarray:
    """What the audience may not see, bool (n_items,)."""
    both = sorted({EVERYBODY, audience})
    barred = _flags(rules.blocked, both, n_items)
    if rules.restricted[both].any():
        barred |= ~_flags(rules.allowed, both, n_items)
    return barred


def _flags(cells: np.ndarray, audiences: list[int], n_items: int) -> np.ndarray:
    """True at the items that `cells` holds for any of the audiences, bool (n_items,)."""
    flags = np.zeros(n_items, bool)
    for audience in audiences:
        first, last = np.searchsorted(cells, [audience << ITEM_BITS, (audience + 1) << ITEM_BITS])
        items = cells[first:last] & ((1 << ITEM_BITS) - 1)
        flags[items[items < n_items]] = True
    return flags


def _grouped(boosts: Effects, shown: np.ndarray) -> Boosts:
    """The boosts of items that are shown, by audience and item, in the order of rules."""
    kept = np.flatnonzero(boosts.items < len(shown))
    kept = kept[shown[boosts.items[kept]]]
    cells = cells_of(boosts.audiences[kept], boosts.items[kept])
    order = np.lexsort((boosts.rules[kept], cells))
    kept = kept[order]
    groups, starts = np.unique(cells[order], return_index=True)
    factors = boosts.values[kept]
    with np.errstate(over="ignore"):
        products = np.minimum(np.multiply.reduceat(factors, starts), _MAX_PRODUCT)
    is_boosted = np.zeros(len(shown), bool)
    is_boosted[boosts.items[kept]] = True
    return Boosts(groups, np.append(starts, len(kept)), boosts.rules[kept], factors, products, is_boosted)


def _pins_by_audience(pins: Effects, shown: np.ndarray, barred: np.ndarray | None, n_audiences: int) -> Pins:
    """One row per audience: its pins and those for everybody that it may see, in the order in which they are placed."""
    is_shown = np.append(shown, False)[np.minimum(pins.items, len(shown))]
    rows = []
    for audience in range(n_audiences):
        mine = np.flatnonzero(is_shown & ((pins.audiences == EVERYBODY) | (pins.audiences == audience)))
        mine = mine[may_see(barred, np.full(len(mine), audience), pins.items[mine])]
        order = np.lexsort((pins.rules[mine], pins.audiences[mine] == EVERYBODY, pins.values[mine]))
        mine = mine[order]
        first = np.unique(pins.items[mine], return_index=True)[1]
        rows.append(mine[np.sort(first)])
    indptr = offsets([len(row) for row in rows])
    at = np.concatenate(rows)
    return Pins(indptr, *(values[at].astype(np.int64) for values in (pins.items, pins.values, pins.rules)))
