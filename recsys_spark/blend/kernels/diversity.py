"""Diversification of lists: MMR, caps and category calibration, by a greedy choice from each user's pool.

Owns: what the settings mean, what input is refused, and totals that keep the order of the choice.  The choice itself is
`blend.kernels.greedy`.

A list is made one item at a time; the next is the candidate i with the highest

    (1 - c) ((1 - w) relevance_i - w max_j cos(i, j)) - c KL(p || q~ with i),   j over the items chosen before,

the earlier in the pool if two are equal.
- relevance = score * popularity ** -d, divided by the highest of the user's pool.  A fused score depends on the number
  of sources and on rrf_k, about 1 / 60, while a cosine goes up to 1: with 1 for everybody's best candidate w means the
  same for every user, and after a change of the sources.
- A cosine below 0 counts as 0.  Else an item opposite to the list would be chosen for that alone, and one without a
  vector, which is neither near nor far, would count as near.
- KL: see `blend.kernels.greedy`.  A user without history gets the choice without it.
- A cap is kept even if the list gets shorter: items beyond it are left out.

A list has the fused scores of its items, each raised to the highest after it, so that scores fall with the rank as they
do everywhere; among equal scores the rank decides, by a few units of 2**-40.

Sources: Carbonell, Goldstein 1998, "The use of MMR"; Steck 2018, "Calibrated recommendations".
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from recsys_spark.blend.kernels.fusion import UNITS, Pool, best_of_users
from recsys_spark.blend.kernels.greedy import CategoryMixes, ListSettings, Pools, choose
from recsys_spark.blend.kernels.walks import RankedLists
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, offsets

_NO_CODE = -1
_NO_CAP = int(np.iinfo(np.int64).max)
_CODE_BITS = 31


POOL_LISTS = 2  # a list of k is chosen from this many times k candidates, those with the highest totals


@dataclass(frozen=True)
class Diversity:
    """Settings of diversification; by default lists stay as they are.

    mmr_weight: w, 0 to below 1, of being unlike the items above.  category_cap, brand_cap: items of one category or
    brand in a list, at most; 0 for any number; items without one are not counted.  calibration_weight: c, 0 to below
    1, of having the category shares of the user's history.  popularity_damping: d >= 0.
    """

    mmr_weight: float = 0.0
    category_cap: int = 0
    brand_cap: int = 0
    calibration_weight: float = 0.0
    popularity_damping: float = 0.0


@dataclass(frozen=True)
class ItemTraits:
    """What is known of all items, by dense index; None for what the settings do not ask for.

    vectors: float32 (n_items, f), a row of zeros for an item without one.  categories, brands: int32 (n_items,), codes
    from 0, -1 for none.  popularity: (n_items,), the item's share of all interactions, above 0.
    """

    vectors: np.ndarray | None = None
    categories: np.ndarray | None = None
    brands: np.ndarray | None = None
    popularity: np.ndarray | None = None


NOTHING = Diversity()
NO_TRAITS = ItemTraits()


def widest(wanted: Sequence[Diversity]) -> Diversity:
    """The highest value of every setting in `wanted`: what it needs to know of items is enough for all of them."""
    return Diversity(*(max(values) for values in zip(*map(astuple, wanted), strict=True)))


def diversify(
    pools: RankedLists, traits: ItemTraits, history: CategoryMixes | None, wanted: Diversity, k: int
) -> Ragged:
    """Positions in `pools` of each user's list, in its order; k of them, fewer if the pool or a cap does not give more.

    pools: one list per user, each item once, scores above 0.  history: one row per user, None without calibration.
    With `wanted` all 0 the lists are the first k of the pools.  A user's list depends on nobody else in `pools`.
    Raises KernelError if a setting is out of range, something it needs is missing, or input is not as it must be.
    """
    check_diversity(wanted, k)
    _check_pools(pools)
    _check_traits(pools, traits, wanted)
    sizes = np.minimum(np.diff(pools.indptr), k)
    if wanted == NOTHING:
        indptr = offsets(sizes)
        return Ragged(indptr, np.arange(indptr[-1]) + np.repeat(pools.indptr[:-1] - indptr[:-1], sizes))
    mixes = _mixes(history, len(sizes), wanted)
    vectors = np.empty((0, 0), np.float32)
    if traits.vectors is not None and wanted.mmr_weight > 0:
        vectors = np.ascontiguousarray(traits.vectors, np.float32)
    lengths, positions = choose(
        _candidates(pools, traits, wanted),
        vectors,
        mixes,
        ListSettings(
            float(wanted.mmr_weight),
            float(wanted.calibration_weight),
            wanted.category_cap or _NO_CAP,
            wanted.brand_cap or _NO_CAP,
        ),
        int(sizes.max(initial=0)),
    )
    if lengths.min(initial=0) < 0:
        raise KernelError(
            f"diversify vectors: expected finite vectors, got others in {(lengths < 0).sum()} of {len(lengths)} "
            f"pools, the first in row {np.argmin(lengths)}; correct the step that made them"
        )
    filled = np.arange(positions.shape[1]) < lengths[:, None]  # (n_users, k)
    return Ragged(offsets(lengths), positions[filled])


def check_diversity(wanted: Diversity, k: int) -> None:
    """Raises KernelError, naming all of them, if settings are out of range."""
    ranges = {
        "mmr_weight": ("0 <= mmr_weight < 1", 0 <= wanted.mmr_weight < 1),
        "category_cap": ("category_cap >= 0", wanted.category_cap >= 0),
        "brand_cap": ("brand_cap >= 0", wanted.brand_cap >= 0),
        "calibration_weight": ("0 <= calibration_weight < 1", 0 <= wanted.calibration_weight < 1),
        "popularity_damping": ("0 <= popularity_damping < inf", 0 <= wanted.popularity_damping < np.inf),
    }
    faults = [(ranges[name.name][0], getattr(wanted, name.name)) for name in fields(wanted) if not ranges[name.name][1]]
    faults += [("k >= 1", k)] if k < 1 else []
    if faults:
        raise KernelError(
            f"diversify settings: expected {', '.join(what for what, _ in faults)}, got "
            f"{', '.join(str(value) for _, value in faults)}; 0 switches a setting off"
        )


def _check_pools(pools: RankedLists) -> None:
    scores = pools.scores
    if not (pools.indptr[-1] == len(pools.items) == len(scores)):
        raise KernelError(
            f"diversify pools: expected as many items and scores as indptr says, {pools.indptr[-1]}, got "
            f"{len(pools.items)} and {len(scores)}; cut all three alike"
        )
    rises = scores[1:] > scores[:-1]
    starts = pools.indptr[1:-1]
    rises[starts[(starts > 0) & (starts < len(scores))] - 1] = False  # between two users
    if not ((scores > 0) & np.isfinite(scores)).all() or rises.any():
        wrong = np.flatnonzero(~((scores > 0) & np.isfinite(scores)) | np.append(False, rises)[: len(scores)])
        raise KernelError(
            f"diversify pools: expected finite scores above 0, highest first, got {scores[wrong[0]]:g} at position "
            f"{wrong[0]} and {len(wrong) - 1} like it; correct the step that scored them"
        )


def _check_traits(pools: RankedLists, traits: ItemTraits, wanted: Diversity) -> None:
    needs = {
        "vectors": ("mmr_weight", wanted.mmr_weight),
        "categories": ("category_cap and calibration_weight", wanted.category_cap or wanted.calibration_weight),
        "brands": ("brand_cap", wanted.brand_cap),
        "popularity": ("popularity_damping", wanted.popularity_damping),
    }
    lowest, highest = pools.items.min(initial=0), pools.items.max(initial=-1)
    for name, (setting, value) in needs.items():
        trait = getattr(traits, name)
        if value and (trait is None or lowest < 0 or highest >= len(trait)):
            rows = "none" if trait is None else f"{len(trait)} rows"
            raise KernelError(
                f"diversify {name}: expected a row for each item of the pools, {lowest} to {highest}, got {rows}; give "
                f"those of all items, or set {setting} to 0"
            )


def _candidates(pools: RankedLists, traits: ItemTraits, wanted: Diversity) -> Pools:
    """The pools with all that the choice reads of every candidate."""
    none = np.full(len(pools.items), _NO_CODE, np.int32)
    categories = brands = none
    if traits.categories is not None and (wanted.category_cap or wanted.calibration_weight):
        categories = traits.categories[pools.items].astype(np.int32)
    if traits.brands is not None and wanted.brand_cap:
        brands = traits.brands[pools.items].astype(np.int32)
    weights = pools.scores.astype(np.float64)
    if traits.popularity is not None and wanted.popularity_damping:
        shares = traits.popularity[pools.items].astype(np.float64)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            weights = weights * shares**-wanted.popularity_damping
        wrong = ~((shares > 0) & (shares <= 1) & np.isfinite(weights))
        if wrong.any():
            raise KernelError(
                f"diversify popularity: expected shares above 0, at most 1, and not so small that relevance overflows, "
                f"got {shares[wrong][0]:g}; floor them at the share of one interaction"
            )
    indptr, items = pools.indptr.astype(np.int64), pools.items.astype(np.int32)
    return Pools(indptr, items, weights, categories, brands)


def _mixes(history: CategoryMixes | None, n_users: int, wanted: Diversity) -> CategoryMixes:
    """`history`, checked; empty rows where lists are not calibrated."""
    if not wanted.calibration_weight:
        return CategoryMixes(np.zeros(n_users + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    rows = 0 if history is None else len(history.indptr) - 1
    if history is None or rows != n_users:
        raise KernelError(
            f"diversify history: expected one row per user, {n_users}, got {rows}; give an empty row for a user "
            "without history, or set calibration_weight to 0"
        )
    users = np.repeat(np.arange(n_users), np.diff(history.indptr))
    cells = (users << _CODE_BITS) | history.categories
    faults = {
        "codes from 0": (history.categories < 0).any(),
        "each category once in a row": len(np.unique(cells)) != len(cells),
        "finite shares from 0": not ((history.shares >= 0) & np.isfinite(history.shares)).all(),
    }
    if any(faults.values()):
        raise KernelError(
            f"diversify history: expected {', '.join(what for what, is_fault in faults.items() if is_fault)}, got "
            "others; correct the step that made it"
        )
    return CategoryMixes(
        history.indptr.astype(np.int64), history.categories.astype(np.int32), history.shares.astype(np.float32)
    )


def diverse_pool(
    pool: Pool,
    totals: np.ndarray,
    traits: ItemTraits,
    history: CategoryMixes | None,
    wanted: Diversity,
    k: int,
    kept: np.ndarray | None = None,
) -> tuple[Pool, np.ndarray]:
    """The pool cut to the chosen items, at most k of a user, and int64 totals by which `fuse` keeps their order.

    totals: int64 (n_items,), of the pool, in units of 2**-40, not below 0; a total of 0 counts as one unit.
    kept: bool (n_items,), pinned items: they stay in the pool with their totals even if they are not chosen.
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
    """The pool with the items at `chosen` alone, int64, ascending; the arrays of proposals stay whole."""
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
