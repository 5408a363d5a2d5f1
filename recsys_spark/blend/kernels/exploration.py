"""Exploration of fresh items by Thompson sampling: each user's explored items, their propensities and their places.

Owns: the posterior samples, the walk of a sample past what a user may not see, the propensity, the places of explored
items in a list and their provenance.  The samples are drawn once a day for everybody; a block of users is then a pure
function of the samples, so a user's items do not depend on who else is in the block.

A user takes one of S samples by the hash of their id, which spreads users over them about evenly.  The propensity of an
item for a user is therefore exact: it is the share of the S samples that would have given this user the item.

Letters: n fresh items, S samples, u user of the block, m explored items a user at most, k list length.
Source: Thompson 1933; Chapelle, Li 2011, "An empirical evaluation of Thompson sampling".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from recsys_spark.blend.kernels.fusion import Fused, relist, with_reasons
from recsys_spark.errors import KernelError
from recsys_spark.numeric.hashing import hashed
from recsys_spark.numeric.ragged import Ragged, offsets, row_offsets

_NO_ITEM = -1

# Above the rounding of rank * share, below the step of any share that a person types: 0.29 * 100 is 28.999999999999996.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class FreshItems:
    """Fresh items and their counts.

    items: int32 (n,), dense indices, ascending.  trials: int64 (n,), showings.  successes: int64 (n,), those that were
    followed by an engagement, 0 to trials.
    """

    items: np.ndarray
    successes: np.ndarray
    trials: np.ndarray


@dataclass(frozen=True)
class Prior:
    """Beta(a, b) of the rate of an item of which nothing is known; both > 0, their sum counts as trials."""

    a: float
    b: float


@dataclass(frozen=True)
class Drawing:
    """How the samples are drawn.

    mode: "thompson" orders a sample by rates drawn from the posteriors, "epsilon" evenly at random.
    floor_rate, min_chance: an item is left out, in both modes, if fewer than min_chance of its S posterior draws reach
    floor_rate.  An item with less than one expected success stays: nearly all draws of a small prior are 0.
    n_samples: S.  A propensity is a multiple of 1 / S, and one that is logged is never below it.
    """

    prior: Prior
    floor_rate: float
    min_chance: float
    n_samples: int = 256
    mode: Literal["thompson", "epsilon"] = "thompson"


@dataclass(frozen=True)
class Samples:
    """S orders of the fresh items that are not below the floor.

    items: int32 (n,), ascending.  order: int32 (S, n), in each row the places in `items`, best first.
    """

    items: np.ndarray
    order: np.ndarray


@dataclass(frozen=True)
class Explored:
    """Explored items of each user in the order of their sample; a row that has ended is filled up.

    items: int32 (n_users, m), -1 for none.  propensities: float32 (n_users, m), 1 / S to 1, 0 for none.
    """

    items: np.ndarray
    propensities: np.ndarray


@dataclass(frozen=True)
class Merged:
    """Final lists laid end to end, and where each entry comes from; the other of the two arrays is -1 there.

    indptr: int64 (n_users + 1,).  from_list: int64 (n_entries,), entry of the lists before.  from_explored: int64
    (n_entries,), entry of `Explored.items.ravel()`.
    """

    indptr: np.ndarray
    from_list: np.ndarray
    from_explored: np.ndarray


def global_prior(successes: int, trials: int, strength: float) -> Prior:
    """Prior whose mean is the rate over all items and that weighs as much as `strength` trials.

    Half a success and half a failure are added, so that both parameters are > 0 whatever was counted; without trials
    the mean is 1 / 2.
    """
    rate = (successes + 0.5) / (trials + 1)
    return Prior(rate * strength, (1 - rate) * strength)


def draw_samples(fresh: FreshItems, drawing: Drawing, rng: np.random.Generator) -> Samples:
    """S orders of the items that are not below the floor; ties break by the smaller index.

    For 256 samples of 10 000 items it takes 0.6 s and 60 MB, of which the orders, 4 * S * n bytes, stay: 10 MB.
    Raises KernelError if the counts or the settings are out of range, all faults together.
    """
    _check(fresh, drawing)
    shape = (drawing.n_samples, len(fresh.items))
    failures = fresh.trials - fresh.successes
    rates = rng.beta(drawing.prior.a + fresh.successes, drawing.prior.b + failures, shape)  # (S, n)
    expected = fresh.trials * (drawing.prior.a / (drawing.prior.a + drawing.prior.b))
    kept = (expected < 1) | ((rates >= drawing.floor_rate).mean(axis=0) >= drawing.min_chance)  # (n,)
    keys = rng.random(shape) if drawing.mode == "epsilon" else rates
    order = np.argsort(-keys[:, kept], axis=1, kind="stable").astype(np.int32)  # (S, n_kept)
    return Samples(fresh.items[kept].astype(np.int32), order)


def assign_samples(user_ids: Sequence[str], seed: int, n_samples: int) -> np.ndarray:
    """Number of the sample that each user takes, int32 (n_users,); by the id and the day's seed only."""
    return hashed(f"explore {seed}", user_ids, n_samples)


def explore(samples: Samples, sample_of: np.ndarray, hidden: Sequence[Ragged], m: int) -> Explored:
    """The first m items of each user's sample that are not hidden from them, with exact propensities.

    sample_of: int (n_users,).  hidden: by user, what they may not see and what their list holds already, in any order,
    also repeated; an index that is no fresh item, or -1, changes nothing.
    The propensity is over the S samples, in both modes, because a user's draw is one of them: in epsilon mode its mean
    over the admissible items is exactly m / n_admissible.
    Raises KernelError if `hidden` has not a row for every user.
    """
    n_users, n = len(sample_of), len(samples.items)
    indptr, hidden_places = _hidden_places(samples.items, hidden, n_users)
    first = samples.order[:, :m]  # (S, width), the items of a user from whom nothing is hidden
    width = first.shape[1]
    n_first = np.bincount(first.ravel(), minlength=n)  # (n,)
    chosen, counts = np.full((n_users, m), _NO_ITEM, np.int32), np.zeros((n_users, m), np.int32)
    chosen[:, :width] = first[sample_of]
    counts[:, :width] = n_first[first][sample_of]
    _walk_around(samples.order, sample_of.astype(np.int64), indptr, hidden_places, chosen, counts)
    items = np.append(samples.items, np.int32(_NO_ITEM))[chosen]
    return Explored(items, (counts / len(samples.order)).astype(np.float32))


def slots(k: int, share: float) -> np.ndarray:
    """Ranks, from 1, at which explored items stand, int64 ascending: of the first r ranks floor(r * share).

    With share 1 / q it is every q-th rank.  Raises KernelError unless share is 0 to 1.
    """
    if not 0 <= share <= 1:
        raise KernelError(f"explore share: expected 0 to 1, got {share}; set the part of a list that may be explored")
    filled = np.floor(np.arange(k + 1) * share + _ROUNDING)  # (k + 1,)
    return np.flatnonzero(np.diff(filled)) + 1


def merge_explored(indptr: np.ndarray, explored: Explored, ranks: np.ndarray, k: int) -> Merged:
    """Lists of at most k entries with the explored items at `ranks`; the others move down and the last fall out.

    indptr: int64 (n_users + 1,), of the lists before.  ranks: int64 (>= m,), from `slots`.  A user's i-th explored item
    takes the i-th rank; with fewer explored items the later ranks are the list's, and where a list ends before a rank
    the explored item follows its last entry.  Raises KernelError if there are more explored items than ranks.
    """
    n_users, m = explored.items.shape
    if m > len(ranks) or ranks[:m].max(initial=0) > k:
        raise KernelError(
            f"explore ranks: expected a rank up to {k} for each of {m} explored items, got {ranks.tolist()}; "
            "explore as many items as slots(k, share) has ranks"
        )
    lengths = np.diff(indptr)
    n_explored = (explored.items != _NO_ITEM).sum(axis=1)
    users, numbers = np.nonzero(explored.items != _NO_ITEM)
    taken = np.zeros((n_users, k), bool)
    taken[users, np.minimum(ranks[numbers] - 1, lengths[users] + numbers)] = True
    n_taken = np.cumsum(taken, axis=1)  # (n_users, k), this place included
    entries = np.where(taken, _NO_ITEM, indptr[:-1, None] + np.arange(k) - n_taken)
    numbered = np.where(taken, np.arange(n_users)[:, None] * m + n_taken - 1, _NO_ITEM)
    n_entries = np.minimum(lengths + n_explored, k)
    inside = np.arange(k) < n_entries[:, None]
    return Merged(offsets(n_entries), entries[inside], numbered[inside])


def _check(fresh: FreshItems, drawing: Drawing) -> None:
    """Raises KernelError with all that is wrong with the input of `draw_samples`."""
    faults = []
    if not (len(fresh.items) == len(fresh.successes) == len(fresh.trials)):
        faults.append(
            f"fresh items: expected successes and trials of each of {len(fresh.items)}, got {len(fresh.successes)} and "
            f"{len(fresh.trials)}; count them by item"
        )
    elif wrong := int(((fresh.successes < 0) | (fresh.successes > fresh.trials)).sum()):
        faults.append(
            f"successes: expected 0 to the item's trials, got {wrong} others; count only what followed a showing"
        )
    if (np.diff(fresh.items.astype(np.int64)) <= 0).any() or fresh.items.min(initial=0) < 0:
        faults.append("fresh items: expected indices >= 0 that ascend, got others; sort them and keep each once")
    a, b = drawing.prior.a, drawing.prior.b
    if not (np.isfinite([a, b]).all() and min(a, b) > 0):
        faults.append(f"prior: expected finite a > 0 and b > 0, got {a} and {b}; give it a strength > 0")
    if not 0 <= drawing.floor_rate <= 1 or not 0 <= drawing.min_chance <= 1:
        faults.append(
            f"floor: expected a rate and a chance of 0 to 1, got {drawing.floor_rate} and {drawing.min_chance}; "
            "set both to 0 to leave nothing out"
        )
    if drawing.n_samples < 1:
        faults.append(f"n_samples: expected >= 1, got {drawing.n_samples}; 256 is usual")
    if faults:
        raise KernelError("explore " + "; ".join(faults))


def _hidden_places(items: np.ndarray, hidden: Sequence[Ragged], n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in `items` of what is hidden from each user, as rows: indptr (n_users + 1,) and places, both int64."""
    if strange := [rows.n_rows for rows in hidden if rows.n_rows != n_users]:
        raise KernelError(
            f"explore hidden: expected a row for each of {n_users} users, got {strange[0]}; build it from those users"
        )
    empty = np.zeros(0, np.int64)
    users = np.concatenate([empty, *(rows.rows for rows in hidden)])
    values = np.concatenate([empty, *(rows.values for rows in hidden)])
    places = np.searchsorted(items, values)
    fresh = (np.append(items, _NO_ITEM)[places] == values) & (values >= 0)
    users, places = users[fresh], places[fresh]
    indptr = row_offsets(users, n_users)
    return indptr, places[np.argsort(users, kind="stable")]


@njit(cache=True, nogil=True)
def _walk_around(
    order: np.ndarray,
    sample_of: np.ndarray,
    indptr: np.ndarray,
    hidden: np.ndarray,
    chosen: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Writes the rows of `chosen` and `counts`, (n_users, m), of the users from whom a fresh item is hidden.

    counts: in how many samples an item is among the user's first m.  A walk ends after m items and those hidden on the
    way.  Compiled because the walks differ in length.
    """
    n_samples, n = order.shape
    m = chosen.shape[1]
    roles = np.zeros(n, np.int32)  # -1 hidden, i + 1 the user's i-th explored item
    for user in range(len(sample_of)):
        if indptr[user] == indptr[user + 1]:
            continue
        for place in hidden[indptr[user] : indptr[user + 1]]:
            roles[place] = -1
        size = _walk(order[sample_of[user]], roles, chosen[user])
        chosen[user, size:] = -1
        # With fewer than m admissible items every sample gives all of them.
        counts[user, :size] = n_samples if size < m else 0
        counts[user, size:] = 0
        if size == m:
            for number in range(size):
                roles[chosen[user, number]] = number + 1
            for sample in range(n_samples):
                _count(order[sample], roles, counts[user])
        for place in hidden[indptr[user] : indptr[user + 1]]:
            roles[place] = 0
        for number in range(size):
            roles[chosen[user, number]] = 0


@njit(cache=True, nogil=True)
def _walk(order: np.ndarray, roles: np.ndarray, chosen: np.ndarray) -> int:
    """Writes the first items of `order` that are not hidden to `chosen`, (m,), and returns how many they are."""
    size = 0
    for place in order:
        if size == len(chosen):
            break
        if roles[place] != -1:
            chosen[size] = place
            size += 1
    return size


@njit(cache=True, nogil=True)
def _count(order: np.ndarray, roles: np.ndarray, counts: np.ndarray) -> None:
    """Adds 1 to `counts`, (m,), for each of the user's explored items among the first m that are not hidden."""
    size = 0
    for place in order:
        if size == len(counts):
            break
        if roles[place] > 0:
            counts[roles[place] - 1] += 1
        if roles[place] != -1:
            size += 1


def with_explored(fused: Fused, explored: Explored, ranks: np.ndarray, k: int, column: int) -> Fused:
    """`fused` with the explored items at `ranks`, int64 (>= m,), from 1; lists of at most k.

    The provenance of an explored item is `column` alone, its number among the user's from 1 as source rank and its
    propensity as source score.  Its fused score is 0: it has no score that could be compared.
    """
    merged = merge_explored(fused.indptr, explored, ranks, k)
    is_explored = merged.from_explored >= 0
    rows, numbers = np.divmod(merged.from_explored[is_explored], max(1, explored.items.shape[1]))
    items, propensities = explored.items[rows, numbers], explored.propensities[rows, numbers]
    picked = merged.from_list.copy()
    picked[is_explored] = len(fused.items) + np.arange(len(items))
    scores = np.concatenate([fused.scores, np.zeros(len(items), np.float32)])
    listed = relist(fused, items, scores, picked, np.diff(merged.indptr))
    entries = np.flatnonzero(is_explored)
    return with_reasons(listed, entries, np.full(len(entries), column), numbers + 1, propensities)
