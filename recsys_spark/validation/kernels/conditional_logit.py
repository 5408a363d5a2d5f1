"""Conditional logit with a ridge: weights of sources fitted on what users took, shrunk towards equal weights.

Owns: the fit.  The scores of all sources are on one scale (`blend.kernels.score_fusion`).

The items that any source proposes to user u are a choice set; item i has the utility c sum over l of w_l z_ui,l.
Fitted are the weights w, and the scale c, under which what u took afterwards is likeliest (a conditional logit), plus
ridge / 2 |w - prior|^2.  With much data the weights are free; with little, or with one kind of hold-out, they stay near
the prior.

Letters: u user, i item of the choice set, l source, n_* counts.  Source: McFadden 1974, "Conditional logit analysis of
qualitative choice behavior"; Hoerl, Kennard 1970, "Ridge regression", for the shrinkage.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError

_STEPS = {"maxiter": 300, "ftol": 1e-9, "gtol": 1e-6}


@dataclass(frozen=True)
class Taken:
    """Choice sets laid end to end, that of user u at indptr[u]:indptr[u + 1], and what was taken of them.

    indptr: int64 (n_users + 1,).  items: int32 (n,).  values: float64 (n, n_sources).  taken: bool (n,).
    """

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray
    taken: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """User of every row, int64 (n,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def fit_weights(held: Taken, prior: np.ndarray, ridge: float) -> np.ndarray:
    """The weights, float64 (n_sources,), none below 0; the prior if nobody took anything that was proposed.

    prior: float64 (n_sources,).  Raises KernelError if the ridge is not above 0.
    """
    from scipy.optimize import minimize  # takes a second to import, and only the fit needs it

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
