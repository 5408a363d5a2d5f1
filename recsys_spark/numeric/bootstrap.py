"""Poisson bootstrap: confidence intervals of means over users, resampled where the users are.

Owns: how often a user is drawn in each resample, and the bounds that follow.  A user is drawn Poisson(1) times,
independently of all others, so that parts of a data set are resampled apart and their sums added.  The draws depend on
the user's key and the seed alone: a user has the same ones in every list, run and date, so any two figures of the same
seed are paired, and a user who is judged on several dates is still one user.  Source: Chamandy, Muralidharan, Najmi,
Naidu 2012, "Estimating uncertainty for massive data streams"; Efron, Tibshirani 1993, "An Introduction to the
Bootstrap", chapter 13, for percentile bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, factorial

import numpy as np
import pandas as pd

from recsys_spark.errors import KernelError
from recsys_spark.numeric.hashing import mix64

# 500 keep the Monte Carlo error of a 95 % bound near 0.12 standard errors.
RESAMPLES = 500
CONFIDENCE = 0.95

# Chance of at most 0, 1, ... draws; beyond 16 lies less than 2**-53, the step of the uniform numbers.
_CHANCES = np.cumsum([exp(-1) / factorial(n) for n in range(17)])


@dataclass(frozen=True)
class Interval:
    """What was measured on all users, and the bounds between which the share `CONFIDENCE` of the resamples lies."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """One figure, summed over users.  n: how many users; total: the sum of their values.

    Both float64 (1 + resamples,): first as measured, then with every user as often as each resample drew them.
    """

    n: np.ndarray
    total: np.ndarray

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.n + other.n, self.total + other.total)

    @property
    def means(self) -> np.ndarray:
        """Mean over users, nan where there are none."""
        means: np.ndarray = np.divide(self.total, self.n, out=np.full(len(self.n), np.nan), where=self.n > 0)
        return means


def user_keys(user_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """The key on which the draws of each user depend, uint64 (n_users,), the same on every machine."""
    keys: np.ndarray = pd.util.hash_array(np.asarray(user_ids, object), categorize=False)
    return keys


def draw(keys: np.ndarray, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each user counts: once as measured, then Poisson(1) times in each resample.

    keys: uint64 (n_users,).  Returns float64 (n_users, 1 + resamples).
    """
    numbers = mix64(np.arange(1, resamples + 1, dtype=np.uint64) + mix64(np.array([seed], np.uint64)))
    bits = mix64(keys[:, None] ^ numbers)  # (n_users, resamples)
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    return np.hstack([np.ones((len(keys), 1)), np.searchsorted(_CHANCES, uniform, side="right")])


def tally(values: np.ndarray, draws: np.ndarray) -> Tally:
    """The sums of one value per user; a user whose value is nan has none and does not count.

    values: (n_users,), or (n_figures, n_users) for a tally of as many rows.  draws: as `draw` returns them.
    """
    valued = np.isfinite(values)
    return Tally(valued.astype(np.float64) @ draws, np.where(valued, values, 0.0) @ draws)


def mean_interval(folds: Sequence[Tally]) -> Interval:
    """Mean over folds of the mean over users, each fold weighing the same; nan if a fold has no user."""
    return _interval(_pooled("mean_interval", folds))


def difference(a: Sequence[Tally], b: Sequence[Tally]) -> Interval:
    """Mean of a less mean of b, paired; above 0 where a is higher.  Fold i of both is the same date and users."""
    _check_pair("difference", a, b)
    return _interval(_pooled("difference", a) - _pooled("difference", b))


def ratio(a: Sequence[Tally], b: Sequence[Tally]) -> Interval:
    """Mean of a divided by mean of b, paired; above 1 where a is higher; infinite where b is 0."""
    _check_pair("ratio", a, b)
    over, under = _pooled("ratio", a), _pooled("ratio", b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(over / under)


def _pooled(where: str, folds: Sequence[Tally]) -> np.ndarray:
    if not folds:
        raise KernelError(f"{where}: expected the figure of at least one date, got none; judge a date")
    means: np.ndarray = np.mean([fold.means for fold in folds], axis=0)
    return means


def _interval(means: np.ndarray) -> Interval:
    """means: as measured, then one per resample; a resample that drew nobody says nothing."""
    resampled = means[1:][~np.isnan(means[1:])]
    if not len(resampled):
        return Interval(float(means[0]), float("nan"), float("nan"))
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(means[0]), float(low), float(high))


def _check_pair(where: str, a: Sequence[Tally], b: Sequence[Tally]) -> None:
    if [len(fold.n) for fold in a] != [len(fold.n) for fold in b]:
        raise KernelError(
            f"{where}: expected the same dates and resamples on both sides, got {len(a)} and {len(b)} dates; judge both"
            " alike"
        )
