"""Weights of lists learnt from what followed: a conditional logit over what the lists propose to a user.

Owns: what a list says of an item in numbers, the fit, and the score of an item.  Called by `adapters.learned_blend`,
which draws the examples, and by `adapters.blend_arrow` for every block of users: the same numbers in both.

The items that any list proposes to user u are a choice set C_u; item i has the utility s_ui = sum over lists l of
a_l f(rank) + b_l g(score), with weights a, b >= 0.  Fitted are the weights under which what u engaged with afterwards,
P_u, is likeliest: the mean over users of -1/|P_u| sum over i in P_u of log softmax(s_u)_i, plus a ridge.  It is
convex, so the fit has one answer, and every user weighs the same, as in recall.  f(rank) = 1 / log2(1 + rank), as nDCG
discounts; g is the score in parts of the best one of the list, between 0 and 1.  A list without an item says 0 of it.

Letters: u user, i item of the choice set, l list, n_* counts.  Source: McFadden 1974, "Conditional logit analysis of
qualitative choice behavior".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.kernels.blend import Pool
from recsys_spark.kernels.list_walks import SharedLists, Walked, cells_of

N_SAID = 2  # numbers that a list says of an item: by its rank, and by its score


@dataclass(frozen=True)
class Choices:
    """Choice sets laid end to end: that of user u is indptr[u]:indptr[u + 1].

    indptr: int64 (n_users + 1,).  said: float32 (n, n_lists, N_SAID), by `say`.  chosen: bool (n,).  user_keys: uint64
    (n_users,), and item_keys: uint64 (n,), the same for the same user and item wherever they come up.
    """

    indptr: np.ndarray
    said: np.ndarray
    chosen: np.ndarray
    user_keys: np.ndarray
    item_keys: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """User of every row, int64 (n,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    @property
    def n_chosen(self) -> np.ndarray:
        """Number of items that each user chose, float64 (n_users,)."""
        return np.bincount(self.users, weights=self.chosen, minlength=len(self.indptr) - 1)

    def of_users(self, wanted: np.ndarray) -> "Choices":
        """The choice sets of the users for whom `wanted`, bool (n_users,), is True."""
        lengths = np.diff(self.indptr)
        rows = np.repeat(wanted, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[wanted])])
        return Choices(indptr, self.said[rows], self.chosen[rows], self.user_keys[wanted], self.item_keys[rows])


def say(ranks: np.ndarray, scores: np.ndarray, best: np.ndarray) -> np.ndarray:
    """What lists say of items, float32 (..., N_SAID), 0 to 1.

    ranks: from 1.  scores: the list's own.  best: that of the list's first item; if it is not above 0, scores say 0.
    """
    share = np.divide(scores, best, out=np.zeros(np.shape(scores)), where=np.asarray(best) > 0)
    return np.stack([1.0 / np.log2(1.0 + ranks), np.clip(share, 0.0, 1.0)], axis=-1).astype(np.float32)


def say_own(pool: Pool, walked: Walked, column: int) -> np.ndarray:
    """What the users' own lists, column `column` of the pool, say of every pooled item, float32 (n_items, N_SAID)."""
    said = np.zeros((len(pool.items), N_SAID), np.float32)
    mine = np.flatnonzero(pool.columns == column)
    items = np.repeat(np.arange(len(pool.items)), pool.lengths)[mine]
    best = walked.scores[:, 0][pool.users[items]]
    said[items] = say(pool.ranks[mine], pool.scores[mine], best)
    return said


def say_shared(pool: Pool, shared: SharedLists, list_of: np.ndarray) -> np.ndarray:
    """What lists that many users share say of every pooled item, whoever proposed it, float32 (n_items, N_SAID).

    list_of: int64 (n_users,), the user's list, -1 for none.  Ranks are those of the whole list.
    """
    said = np.zeros((len(pool.items), N_SAID), np.float32)
    lists = list_of[pool.users]
    wanted = cells_of(lists, pool.items)  # negative for a user without a list: never found
    found = np.searchsorted(shared.cells, wanted)
    inside = np.flatnonzero(np.append(shared.cells, -1)[found] == wanted)
    places, first = shared.places[found[inside]], shared.lists.indptr[lists[inside]]
    scores = shared.lists.scores
    said[inside] = say(places + 1, scores[first + places], scores[first])
    return said


def utilities(said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The score of every item, float64 (n,), not below 0.

    said: (n, n_lists, N_SAID).  weights: (n_lists, N_SAID).
    Summed list by list, so that an item's score has the same bits in any block.
    """
    total = np.zeros(len(said))
    for at in range(said.shape[1]):
        for number in range(N_SAID):
            total += said[:, at, number].astype(np.float64) * weights[at, number]
    return total


def fit_weights(choices: Choices, ridge: float) -> np.ndarray:
    """The weights, float64 (n_lists, N_SAID), not below 0; all 0 if nobody chose anything that was proposed.

    ridge: half of it is added for each squared weight.  Raises KernelError if it is not above 0.
    """
    from scipy.optimize import minimize  # a second to import, which workers, who only weigh, need not wait for

    if not ridge > 0:
        raise KernelError(f"learned blend: expected ridge > 0, got {ridge}; raise it")
    users, n_chosen = choices.users, choices.n_chosen
    kept = (n_chosen > 0)[users]
    shape = choices.said.shape[1:]
    if not kept.any():
        return np.zeros(shape)
    said = choices.said[kept].reshape(int(kept.sum()), -1).astype(np.float64)  # (n, n_lists * N_SAID)
    _, users, sizes = np.unique(users[kept], return_inverse=True, return_counts=True)
    loss = _loss_of(said, choices.chosen[kept] / n_chosen[n_chosen > 0][users], users, sizes, ridge)
    bounds = [(0.0, None)] * said.shape[1]
    found = minimize(loss, np.zeros(said.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=_STEPS)
    weights: np.ndarray = found.x.reshape(shape)
    return weights


_Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]
_STEPS = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-6}


def _loss_of(said: np.ndarray, shares: np.ndarray, users: np.ndarray, sizes: np.ndarray, ridge: float) -> _Loss:
    """The loss and its gradient as a function of the weights.

    shares: 1 / |P_u| where chosen, 0 elsewhere, (n,).  users, sizes: the user of every row, and rows of every user.
    """
    starts = np.cumsum(sizes) - sizes
    wanted = said.T @ shares  # (n_weights,)
    n_users = len(sizes)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = said @ weights
        highest = np.maximum.reduceat(scores, starts)
        likely = np.exp(scores - highest[users])
        sums = np.add.reduceat(likely, starts)
        value = (np.log(sums) + highest).sum() - wanted @ weights
        gradient = said.T @ (likely / sums[users]) - wanted
        return value / n_users + ridge * (weights @ weights) / 2, gradient / n_users + ridge * weights

    return loss
