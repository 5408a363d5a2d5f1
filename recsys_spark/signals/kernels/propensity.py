"""Propensities of exposure: the chance that an item is shown to a user, and the chance that its position is examined.

Owns: the two propensities, which are estimated from different data and kept apart.  An item is engaged with if it is
shown, examined and liked; the policy decides the first two, and an inverse weight removes their effect.

The propensity of a position comes from items that were shown at several positions (intervention harvesting).  The
engagements of one item at two positions then differ only by examination, as long as its position does not depend on how
much this user likes it.  Where the order of a list is personal that holds only for showings whose position was drawn or
moved at random: give the kernel those, or use (context, item) as the item.

Letters: d item, K positions, n_dk showings and c_dk engagements of item d at position k.
Sources: Agarwal, Zaitsev, Wang, Li, Najork, Joachims 2019, "Estimating position bias without intrusive interventions";
Mantel, Haenszel 1959, for the weights of a ratio over strata.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recsys_spark.errors import KernelError

# Items of which a (items, K) table is held at a time: 2 MB for K = 50.
_CHUNK_ITEMS = 4096


@dataclass(frozen=True)
class PositionCounts:
    """Showings and engagements of every (item, position) that was shown, all int64 (n_cells,).

    position: from 1.  n_engaged: 0 to n_shown.  No (item, position) twice; cells are in any order.
    """

    item_idx: np.ndarray
    position: np.ndarray
    n_shown: np.ndarray
    n_engaged: np.ndarray


@dataclass(frozen=True)
class Harvest:
    """Sums over items that were shown at several positions.

    engaged: float64 (K, K), A[k, l] = sum over d of c_dk n_dl / (n_dk + n_dl), an engagement count to which an item
    shown once adds next to nothing.  shared: bool (K, K), where two positions have an item in common.  n_usable:
    showings.
    """

    engaged: np.ndarray
    shared: np.ndarray
    n_usable: int

    def __add__(self, other: "Harvest") -> "Harvest":
        engaged, shared = self.engaged + other.engaged, self.shared | other.shared
        return Harvest(engaged, shared, self.n_usable + other.n_usable)


@dataclass(frozen=True)
class PositionPropensity:
    """Chance that a position is examined, relative to position 1.

    propensity: float64 (K,), 1 at position 1, never rising.  identified: bool (K,), False for a position that no chain
    of shared items connects with position 1: it has the value of the position before.  n_usable: showings of items that
    were shown at several positions.  fitted: False if these are too few, and then every propensity is 1.
    """

    propensity: np.ndarray
    identified: np.ndarray
    n_usable: int
    fitted: bool


@dataclass(frozen=True)
class ExposureCounts:
    """Counts of how each item was shown.

    n_users_exposed: users who were shown anything.  n_users: int64 (n_items,), users who were shown the item.
    n_rows, n_logged: int64 (n_items,), showings, and those of them with a logged propensity.  inverse_logged: float64
    (n_items,), sum of 1 / propensity over these.
    """

    n_users_exposed: int
    n_users: np.ndarray
    n_rows: np.ndarray
    n_logged: np.ndarray
    inverse_logged: np.ndarray


def harvest(counts: PositionCounts, n_positions: int) -> Harvest:
    """Sums over the items that were shown at several of the positions 1 to K = n_positions.

    All cells of an item must be in one `counts`; the harvests of several add up.  Raises KernelError if a position is
    out of range.
    """
    _check_positions(counts, n_positions)
    counts = _at_several_positions(counts)
    engaged = np.zeros((n_positions, n_positions))  # A
    shared = np.zeros((n_positions, n_positions), bool)
    for shown, clicked in _tables(counts, n_positions):
        for k in range(n_positions):
            weight = shown / np.maximum(shown + shown[:, [k]], 1)  # (items, K), n_dl / (n_dk + n_dl)
            engaged[k] += clicked[:, k] @ weight
            shared[k] |= shown[:, k] @ shown > 0
    np.fill_diagonal(shared, val=False)
    return Harvest(engaged, shared, int(counts.n_shown.sum()))


def fit_positions(harvested: Harvest, min_showings: int, floor: float) -> PositionPropensity:
    """Chance of examination of positions 1 to K by intervention harvesting over all pairs of positions.

    The ratio of two positions is that of Mantel and Haenszel over the items shown at both: A[k, l] / A[l, k].  The
    logarithms of the K positions fit the logarithms of all ratios by least squares; a pair weighs as much as
    its engagements, A[k, l] A[l, k] / (A[k, l] + A[l, k]), 1 / variance of the logarithm of a ratio of two Poisson
    counts.  Half an engagement is added to both, so that a position that was shown and never engaged with has a value.
    Then the curve is made non-increasing, scaled to 1 at position 1 and cut off below at `floor`.
    Raises KernelError if the floor is out of range.
    """
    _check_chances("floor", np.array([floor]))
    n_positions, n_usable = len(harvested.engaged), harvested.n_usable
    if n_usable < max(min_showings, 1):
        alone = np.arange(n_positions) == 0
        return PositionPropensity(np.ones(n_positions), alone, n_usable, fitted=False)
    logarithms, weights, identified = _fit_chain(harvested.engaged + 0.5, harvested.shared)
    smooth = np.exp(non_increasing(logarithms[identified], weights[identified]))
    last_known = np.cumsum(identified) - 1  # (K,), position 1 is always identified
    propensity = np.maximum(smooth / smooth[0], floor)[last_known]
    return PositionPropensity(propensity, identified, n_usable, fitted=True)


def non_increasing(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The never rising sequence next to `values` by weighted squares, float64 (n,); weights > 0, (n,).

    Pool adjacent violators: Ayer, Brunk, Ewing, Reid, Silverman 1955.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] < pool[0]:
            mean, before, length = pools.pop()
            total = before + pool[1]
            pool = ((mean * before + pool[0] * pool[1]) / total, total, length + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [length for _, _, length in pools])


def shown_propensity(counts: ExposureCounts, floor: float) -> np.ndarray:
    """Chance that an exposed user is shown the item, float64 (n_items,), at least `floor`; an item never shown has it.

    Where every showing of an item has a logged propensity it is their harmonic mean: users with a high chance are
    shown the item more often, so that the harmonic mean is the mean chance of all users, the plain mean that of the
    users who were shown it.  Else it is the share of the exposed users who were shown the item.
    Raises KernelError unless the floor is above 0 and at most 1, or if what was logged is no chance.
    """
    _check_chances("floor", np.array([floor]))
    share = counts.n_users / max(counts.n_users_exposed, 1)
    all_logged = (counts.n_logged == counts.n_rows) & (counts.n_rows > 0)
    harmonic = counts.n_logged / np.where(all_logged, counts.inverse_logged, 1.0)
    chances: np.ndarray = np.maximum(np.where(all_logged, harmonic, share), floor)
    return chances


def _check_positions(counts: PositionCounts, n_positions: int) -> None:
    """Raises KernelError if a position is not 1 to n_positions."""
    strange = counts.position[(counts.position < 1) | (counts.position > n_positions)]
    if n_positions < 1 or len(strange):
        raise KernelError(
            f"propensity position: expected 1 to {n_positions}, got {len(strange)} others {strange[:1].tolist()}; "
            "count positions from 1 and leave out those beyond the list"
        )


def _check_chances(name: str, chances: np.ndarray) -> None:
    """Raises KernelError if one of `chances` is not above 0 and at most 1."""
    strange = chances[~((chances > 0) & (chances <= 1))]
    if len(strange):
        raise KernelError(
            f"propensity {name}: expected above 0 and at most 1, got {len(strange)} others, e.g. {strange[0]}; "
            "correct what was logged, or raise the floor above 0"
        )


def _at_several_positions(counts: PositionCounts) -> PositionCounts:
    """The cells of items that were shown at two positions or more, by item."""
    order = np.argsort(counts.item_idx, kind="stable")
    _, place, n_places = np.unique(counts.item_idx[order], return_inverse=True, return_counts=True)
    kept = order[n_places[place] > 1]
    return PositionCounts(counts.item_idx[kept], counts.position[kept], counts.n_shown[kept], counts.n_engaged[kept])


def _tables(counts: PositionCounts, n_positions: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """n_dk and c_dk of at most _CHUNK_ITEMS items at a time, float64 (items, K) each; the cells are by item."""
    _, first = np.unique(counts.item_idx, return_index=True)
    bounds = [*first[::_CHUNK_ITEMS].tolist(), len(counts.item_idx)]
    for start, end in pairwise(bounds):
        items, row = np.unique(counts.item_idx[start:end], return_inverse=True)
        shown, engaged = np.zeros((len(items), n_positions)), np.zeros((len(items), n_positions))
        column = counts.position[start:end] - 1
        shown[row, column] = counts.n_shown[start:end]
        engaged[row, column] = counts.n_engaged[start:end]
        yield shown, engaged


def _fit_chain(engaged: np.ndarray, shared: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithm of every position's propensity and its weight, float64 (K,), and which are identified, bool (K,).

    engaged: (K, K), A + 1 / 2.  shared: bool (K, K), where two positions have an item in common.  Position 1 has 0; the
    matrix of the normal equations is a graph Laplacian, solved over the positions that are connected with position 1.
    """
    identified = np.arange(len(shared)) == 0
    for _ in range(len(shared)):
        identified |= shared[identified].any(axis=0)
    weights = np.where(shared, engaged * engaged.T / (engaged + engaged.T), 0.0)  # (K, K)
    wanted = (weights * np.log(engaged / engaged.T)).sum(axis=1)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    logarithms = np.zeros(len(shared))
    free = np.flatnonzero(identified)[1:]
    logarithms[free] = np.linalg.solve(laplacian[np.ix_(free, free)], wanted[free])
    return logarithms, weights.sum(axis=1), identified
