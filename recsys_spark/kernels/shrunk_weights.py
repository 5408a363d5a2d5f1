"""Weights of sources chosen on what users did afterwards, drawn towards equal ones as far as that is needed.

Owns: the fit, and how strongly it is drawn.  What every source says of an item is on one scale (`score_fusion`).

The items that any source proposes to user u are a choice set; item i has the utility c sum over l of w_l z_ui,l.
Fitted are the weights w, and the scale c, under which what u took afterwards is likeliest (a conditional logit, as in
`learned_blend`), plus ridge / 2 |w - prior|^2.  With much to learn from the weights are free; with little, or with one
kind of hold-out, they stay near the prior, which is 1 for every source.  Ridges are held against each other by weights
that are fitted on half of the users by what they took of half of the items, and judged by what the other users took of
the other items; the strongest is chosen that does not find surely less than the best.

Letters: u user, i item of the choice set, l source, n_* counts.  Source: McFadden 1974, "Conditional logit analysis of
qualitative choice behavior"; Hoerl, Kennard 1970, "Ridge regression", for the shrinkage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_spark.errors import KernelError

_SURE = 2.0  # standard errors

_STEPS = {"maxiter": 300, "ftol": 1e-9, "gtol": 1e-6}


@dataclass(frozen=True)
class Taken:
    """Choice sets laid end to end, that of user u at indptr[u]:indptr[u + 1], and what was taken of them.

    indptr: int64 (n_users + 1,).  values: float64 (n, n_sources).  taken: bool (n,).  user_keys: uint64 (n_users,) and
    item_keys: uint64 (n,), the same for the same user, or item, wherever they come up.
    """

    indptr: np.ndarray
    values: np.ndarray
    taken: np.ndarray
    user_keys: np.ndarray
    item_keys: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """User of every row, int64 (n,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def where(self, users: np.ndarray, items: np.ndarray) -> "Taken":
        """The sets of some users, (n_users,) bool, with only those items taken that `items`, bool (n,), has."""
        rows = users[self.users]
        indptr = np.concatenate([[0], np.cumsum(np.diff(self.indptr)[users])])
        return replace(
            self,
            indptr=indptr,
            values=self.values[rows],
            taken=(self.taken & items)[rows],
            user_keys=self.user_keys[users],
            item_keys=self.item_keys[rows],
        )


def fit_weights(held: Taken, prior: np.ndarray, ridge: float) -> np.ndarray:
    """The weights, float64 (n_sources,), none below 0; the prior if nobody took anything that was proposed.

    prior: float64 (n_sources,).  Raises KernelError if the ridge is not above 0.
    """
    from scipy.optimize import minimize  # a second to import, which workers, who only weigh, need not wait for

    if not ridge > 0:
        raise KernelError(f"weights of sources: expected ridge > 0, got {ridge}; raise it")
    n_taken = np.bincount(held.users, weights=held.taken, minlength=len(held.indptr) - 1)
    kept = (n_taken > 0)[held.users]
    if not kept.any():
        return prior.copy()
    _, users, sizes = np.unique(held.users[kept], return_inverse=True, return_counts=True)
    shares = held.taken[kept] / n_taken[n_taken > 0][users]
    loss = _loss_of(held.values[kept], shares, users, np.cumsum(sizes) - sizes, prior, ridge)
    start = np.concatenate([[0.0], prior])
    bounds = [(-20.0, 20.0), *[(0.0, None)] * len(prior)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_STEPS)
    weights: np.ndarray = found.x[1:]
    return weights


_Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _loss_of(
    values: np.ndarray, shares: np.ndarray, users: np.ndarray, starts: np.ndarray, prior: np.ndarray, ridge: float
) -> _Loss:
    """The loss and its gradient as a function of log c and the weights; shares: 1 / |P_u| where taken, 0 elsewhere."""
    wanted, n_users = values.T @ shares, len(starts)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        c, weights = np.exp(at[0]), at[1:]
        utilities = c * (values @ weights)
        highest = np.maximum.reduceat(utilities, starts)
        likely = np.exp(utilities - highest[users])
        sums = np.add.reduceat(likely, starts)
        drawn = weights - prior
        value = ((np.log(sums) + highest).sum() - c * (wanted @ weights)) / n_users + ridge * (drawn @ drawn) / 2
        slope = (values.T @ (likely / sums[users]) - wanted) / n_users
        return value, np.concatenate([[c * (slope @ weights)], c * slope + ridge * drawn])

    return loss


def choose_ridge(held: Taken, prior: np.ndarray, ridges: Sequence[float], k: int) -> float:
    """The strongest ridge whose weights find as much as any's among the k best of other users and of other items.

    As much: but for two standard errors of the difference.
    """
    by_user, by_item = held.user_keys % 2 == 0, held.item_keys % 2 == 0
    found: list[np.ndarray] = []
    strongest_first = sorted(ridges, reverse=True)
    for ridge in strongest_first:
        shares = []
        for users in (by_user, ~by_user):
            for items in (by_item, ~by_item):
                weights = fit_weights(held.where(users, items), prior, ridge)
                shares.append(recall(held.where(~users, ~items), weights, k))
        found.append(np.concatenate(shares))
    n = len(found[0])
    if not n:
        return strongest_first[0]
    less = max(found, key=np.mean) - np.array(found)  # (n_ridges, n)
    enough = less.mean(axis=1) <= _SURE * less.std(axis=1) / np.sqrt(n)
    return strongest_first[int(np.argmax(enough))]


def recall(held: Taken, weights: np.ndarray, k: int) -> np.ndarray:
    """Of what each user took the share among their k highest utilities, without users who took nothing.

    Ties are broken against what was taken, so that weights that tell nothing apart find nothing.
    """
    users, scores = held.users, held.values @ weights
    order = np.lexsort((held.taken, -scores, users))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(held.indptr[:-1], np.diff(held.indptr))
    n_users = len(held.indptr) - 1
    n_taken = np.bincount(users, weights=held.taken, minlength=n_users)
    hits = np.bincount(users, weights=held.taken & (places < k), minlength=n_users)
    share: np.ndarray = hits[n_taken > 0] / n_taken[n_taken > 0]
    return share
