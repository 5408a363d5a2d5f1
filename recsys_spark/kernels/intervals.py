"""How sure a mean over users is: percentile bootstrap of per-user values.

Owns: the resampling.  Called by evaluations that compare variants.  Users are drawn with replacement, so a value has
to be one user's.  Folds are pooled by laying their values end to end (both sides of a pair in the same order), with
the user's mean where a user is in several folds: two values of one user are not two users.  The same seed and values
give the same interval.  Source: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
"""

from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError

# 2000 keep the Monte Carlo error of a 95 % bound near 0.06 standard errors; the book asks for 1000 or more.
RESAMPLES = 2000
CONFIDENCE = 0.95

# Users are drawn in blocks of at most this many: 8 MiB of int64 (more only if one resample is larger).
BLOCK_DRAWS = 2**20

Seed = int | np.random.Generator


@dataclass(frozen=True)
class Interval:
    """What was measured on all users, and the bounds between which the share `confidence` of the resamples lies."""

    estimate: float
    low: float
    high: float


def mean_interval(
    values: np.ndarray, seed: Seed, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of `values` and its bootstrap interval, in the unit of the values.

    values: one per user, float64 (n_users,).
    Raises KernelError if there are none, one is not finite, resamples < 1 or confidence is not between 0 and 1.
    """
    _check("mean_interval values", values, resamples, confidence)
    means = _resampled_means(values[:, None], np.random.default_rng(seed), resamples)  # (resamples, 1)
    return _interval(float(values.mean()), means[:, 0], confidence)


def paired_difference(
    a: np.ndarray, b: np.ndarray, seed: Seed, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of a - b over users and its bootstrap interval; above 0 where a is higher.

    a, b: values of the same users in the same order, (n_users,).  Errors: as `mean_interval`, or if the lengths differ.
    """
    _check_pairs("paired_difference", a, b, resamples, confidence)
    return mean_interval(a - b, seed, resamples, confidence)


def ratio_of_means(
    a: np.ndarray, b: np.ndarray, seed: Seed, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of a divided by mean of b and its bootstrap interval; above 1 where a is higher.

    a, b: as in `paired_difference`; a resample draws both values of a user together.
    Raises KernelError as there, and if the mean of b is 0 or has another sign in any resample: the ratio has no bounds.
    """
    _check_pairs("ratio_of_means", a, b, resamples, confidence)
    means = _resampled_means(np.column_stack([a, b]), np.random.default_rng(seed), resamples)  # (resamples, 2)
    mean_b = float(b.mean())
    unusable = int(np.count_nonzero(means[:, 1] * np.sign(mean_b) <= 0))
    if unusable:
        raise KernelError(
            f"ratio_of_means b: expected a mean away from 0, got {mean_b} and {unusable} of {resamples} resamples at 0"
            " or of another sign; judge more users or use paired_difference"
        )
    return _interval(float(a.mean()) / mean_b, means[:, 0] / means[:, 1], confidence)


def _resampled_means(columns: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Means of every column over n_users rows drawn with replacement, float64 (resamples, n_columns).

    columns: (n_users, n_columns).
    """
    n_users = len(columns)
    step = max(1, BLOCK_DRAWS // n_users)
    means = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, step):
        drawn = rng.integers(n_users, size=(min(step, resamples - start), n_users))  # (block, n_users)
        for column in range(columns.shape[1]):
            means[start : start + step, column] = columns[:, column][drawn].mean(axis=1)
    return means


def _interval(estimate: float, resampled: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))


def _check(where: str, values: np.ndarray, resamples: int, confidence: float) -> None:
    if values.ndim != 1 or len(values) == 0:
        raise KernelError(f"{where}: expected one value per user, got shape {values.shape}; judge at least one user")
    if not np.isfinite(values).all():
        n_others = int(np.count_nonzero(~np.isfinite(values)))
        raise KernelError(
            f"{where}: expected finite values, got {n_others} others; leave out users whose value has no meaning"
        )
    if resamples < 1:
        raise KernelError(f"{where} resamples: expected an int >= 1, got {resamples}; set it to {RESAMPLES}")
    if not 0 < confidence < 1:
        raise KernelError(f"{where} confidence: expected between 0 and 1, got {confidence}; set it to {CONFIDENCE}")


def _check_pairs(where: str, a: np.ndarray, b: np.ndarray, resamples: int, confidence: float) -> None:
    _check(f"{where} a", a, resamples, confidence)
    _check(f"{where} b", b, resamples, confidence)
    if len(a) != len(b):
        raise KernelError(
            f"{where}: expected values of the same users, got {len(a)} and {len(b)}; keep the users that both have"
        )
