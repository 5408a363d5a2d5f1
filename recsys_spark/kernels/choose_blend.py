"""Whether all lists together find more of what users chose than the best list alone, and how sure that is.

Owns: what is found, the bounds of a difference, the choice.  Called by `adapters.learned_blend`.  The weights are
fitted and judged on different users, but on the same items: one item that everybody takes can make a list that many
users share look better or worse by more than all users' chance.  So both are drawn, users and items, each by itself.

Source: Owen 2007, "The pigeonhole bootstrap"; draws as in `kernels.intervals`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from recsys_spark.kernels.intervals import Interval, Tally, draw, mean_interval
from recsys_spark.kernels.learned_blend import Choices, utilities

_CHUNK_ROWS = 4096  # of which the products of both draws are held, 16 MB


def choose_blend(
    fit: Callable[[Choices], np.ndarray], alone: Sequence[np.ndarray], choices: Choices, k: int, seed: int
) -> tuple[int | None, int, Interval]:
    """Which of `alone` decides, None if all lists together do; the best of `alone`; what together finds more than it.

    fit: the weights of all lists together, (n_lists, N_SAID), as alone's.  Half of the users are judged by weights that
    were fitted on the other half, and these by those.  Together decides if the lower bound of the difference is above
    0; of equals of `alone` the first is best.
    """
    found = [share_found(choices, utilities(choices.said, weights), k) for weights in alone]
    best = int(np.argmax([one.mean() if len(one) else 0.0 for one in found]))
    users, at = np.unique(choices.user_keys, return_inverse=True)  # a user may have a choice set of several runs
    one = (np.random.default_rng(seed).permutation(len(users)) % 2 == 0)[at]
    halves = [choices.of_users(one), choices.of_users(~one)]
    tallies = [found_more(fit(fitted), alone[best], judged, k, seed) for fitted, judged in (halves, halves[::-1])]
    more = mean_interval([tallies[0] + tallies[1]])
    return (None if more.low > 0 else best), best, more


def found_more(a: np.ndarray, b: np.ndarray, choices: Choices, k: int, seed: int) -> Tally:
    """How much more of what a user chose weights `a` find than `b`, summed over users, with users and items drawn."""
    n_chosen, users = choices.n_chosen, choices.users
    of_a, of_b = (is_found(choices, utilities(choices.said, weights), k).astype(float) for weights in (a, b))
    rows = np.flatnonzero(of_a != of_b)
    values = (of_a - of_b)[rows] / n_chosen[users[rows]]
    drawn_users = draw(choices.user_keys, seed)
    items, item_of = np.unique(choices.item_keys[rows], return_inverse=True)
    drawn_items = draw(items, seed + 1)
    total = np.zeros(drawn_users.shape[1])
    for first in range(0, len(rows), _CHUNK_ROWS):
        at = slice(first, first + _CHUNK_ROWS)
        total += values[at] @ (drawn_users[users[rows[at]]] * drawn_items[item_of[at]])
    return Tally((n_chosen > 0) @ drawn_users, total)


def share_found(choices: Choices, scores: np.ndarray, k: int) -> np.ndarray:
    """Of each user's chosen items the share among their k highest scores, float64, without users who chose nothing."""
    n_chosen = choices.n_chosen
    hits = np.bincount(choices.users, weights=is_found(choices, scores, k), minlength=len(n_chosen))
    share: np.ndarray = hits[n_chosen > 0] / n_chosen[n_chosen > 0]
    return share


def is_found(choices: Choices, scores: np.ndarray, k: int) -> np.ndarray:
    """Whether a chosen item is among its user's k highest scores, bool (n,).

    Ties are broken against what was chosen, so that weights that tell nothing apart find nothing.
    """
    lengths, users = np.diff(choices.indptr), choices.users
    order = np.lexsort((choices.chosen, -scores, users))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(choices.indptr[:-1], lengths)
    found: np.ndarray = choices.chosen & (places < k)
    return found
