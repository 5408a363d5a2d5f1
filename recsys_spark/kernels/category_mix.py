"""How far the categories of a list are from those of its user's history, for every next item that the list may get.

Owns: the divergence of calibrated lists and its update.

With p the shares of the history's categories g, and q those of the list, the distance is KL(p || q~), in nats, where
q~ = (1 - ALPHA) q + ALPHA p keeps it finite.  Items without a category are left out of q: they say nothing about the
mix, for or against.  A list without any category has q = 0.  The next item changes one count and the total, so that
there are few cases, its slots: slot g < G is the history's category g, G any other category, G + 1 none.  They cost 2 G
logarithms together, however many candidates there are.
Source: Steck 2018, "Calibrated recommendations", eqs. 4 and 5, every item of the list weighing the same.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

ALPHA = 0.01  # Steck 2018, section 5


class CategoryMixes(NamedTuple):
    """What users' histories are made of: user u's row is `indptr[u]:indptr[u + 1]`, empty if nothing is known.

    indptr: int64 (n_users + 1,).  categories: int32, codes from 0, each once in a row.  shares: float32, from 0 up,
    scaled to a sum of 1 here; one of 0 is as good as absent.
    """

    indptr: np.ndarray
    categories: np.ndarray
    shares: np.ndarray


class ListMix(NamedTuple):
    """One list beside its user's history.

    categories: int32 (G,), ascending.  shares: float64 (G,), above 0, of sum 1.  counts: float64 (G + 1,), items of the
    list by slot.  divergences: float64 (G + 2,), KL(p || q~) after one more item, by slot.
    """

    categories: np.ndarray
    shares: np.ndarray
    counts: np.ndarray
    divergences: np.ndarray


@njit(cache=True, nogil=True)
def empty_list(mixes: CategoryMixes, user: int) -> ListMix:
    """The mix of a list with nothing in it; without a history all divergences are 0 and stay so."""
    first, last = mixes.indptr[user], mixes.indptr[user + 1]
    used = first + np.flatnonzero(mixes.shares[first:last] > 0.0)
    used = used[np.argsort(mixes.categories[used])]
    n = len(used)
    shares = mixes.shares[used].astype(np.float64)
    mix = ListMix(mixes.categories[used], shares / shares.sum(), np.zeros(n + 1), np.zeros(n + 2))
    if n:
        mix.divergences[n + 1] = -np.log(ALPHA)
        _look_ahead(mix)
    return mix


@njit(cache=True, nogil=True)
def fill_slots(mix: ListMix, categories: np.ndarray, slots: np.ndarray) -> None:
    """Writes the slot of every candidate; categories: int32 codes, -1 for none."""
    n = len(mix.shares)
    at = np.searchsorted(mix.categories, categories)
    for place in range(len(categories)):
        if categories[place] < 0:
            slots[place] = n + 1
        else:
            is_known = at[place] < n and mix.categories[at[place]] == categories[place]
            slots[place] = at[place] if is_known else n


@njit(cache=True, nogil=True)
def add_item(mix: ListMix, slot: int) -> None:
    """Puts an item of `slot` into the list."""
    n = len(mix.shares)
    if n == 0 or slot == n + 1:
        return
    mix.divergences[n + 1] = mix.divergences[slot]
    mix.counts[slot] += 1
    _look_ahead(mix)


@njit(cache=True, nogil=True)
def _look_ahead(mix: ListMix) -> None:
    """Divergences after an item with a category; that after one without is the list's own."""
    n, total = len(mix.shares), mix.counts.sum() + 1.0
    diluted = 0.0
    for slot in range(n):
        p = mix.shares[slot]
        before = p * np.log(p / ((1.0 - ALPHA) * mix.counts[slot] / total + ALPHA * p))
        after = p * np.log(p / ((1.0 - ALPHA) * (mix.counts[slot] + 1.0) / total + ALPHA * p))
        diluted += before
        mix.divergences[slot] = after - before
    for slot in range(n):
        mix.divergences[slot] += diluted
    mix.divergences[n] = diluted
