"""How well scores tell labels apart, and how far predicted probabilities are from what happened.

Owns: the arithmetic of AUC, log loss and expected calibration error.  Called by evaluations of models that score or
predict.  Labels are 0 or 1, of any dtype; scores and labels are (n,) and parallel.
"""

import numpy as np

from recsys_spark.errors import KernelError

# Probabilities are kept this far from 0 and 1: one sure and wrong prediction costs 34.5 nats and not infinity.
CLIP = 1e-15

CALIBRATION_BINS = 10


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a random positive scores above a random negative, ties counting half, 0 to 1.

    nan if the labels are all the same.  Raises KernelError as `auc_per_user`.
    """
    return float(auc_per_user(scores, labels, np.array([0, len(scores)]))[0])


def auc_per_user(scores: np.ndarray, labels: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """As `auc`, among each user's own scores, float64 (n_users,); nan where a user's labels are all the same.

    indptr: scores of user u are `scores[indptr[u]:indptr[u + 1]]`, int64 (n_users + 1,).
    With R the sum of the positives' ranks from 1 up, ties at their mean rank: (R - n1 (n1 + 1) / 2) / (n1 n0).
    Raises KernelError if the arrays are not parallel, a score is not finite or a label is not 0 or 1.
    Source: Mann, Whitney 1947; Hanley, McNeil 1982.
    """
    _check_labels("auc", scores, labels)
    n_users = len(indptr) - 1
    if indptr[0] != 0 or indptr[-1] != len(scores) or (np.diff(indptr) < 0).any():
        raise KernelError(
            f"auc indptr: expected to rise from 0 to {len(scores)}, got {indptr[0]} to {indptr[-1]}; lay the scores out"
            " user by user"
        )
    positive = np.asarray(labels) == 1
    rows = np.repeat(np.arange(n_users), np.diff(indptr))  # (n,)
    ranks = _ranks(scores, rows) - indptr[rows]  # (n,), from 1 in every user
    rank_sums = np.bincount(rows[positive], weights=ranks[positive], minlength=n_users)  # (n_users,)
    n1 = np.bincount(rows[positive], minlength=n_users).astype(np.float64)
    n0 = np.diff(indptr) - n1
    above = rank_sums - n1 * (n1 + 1) / 2
    aucs: np.ndarray = np.divide(above, n1 * n0, out=np.full(n_users, np.nan), where=n1 * n0 > 0)
    return aucs


def logloss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels in nats, >= 0.

    probabilities: that the label is 1; kept 1e-15 away from 0 and 1.
    Raises KernelError if the arrays are empty or not parallel, a probability is not in 0 to 1 or a label not 0 or 1.
    """
    _check_probabilities("logloss", probabilities, labels)
    p = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    return float(-np.where(np.asarray(labels) == 1, np.log(p), np.log1p(-p)).mean())


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean over predictions of |mean probability - mean label| of their bin, 0 to 1.

    Bins hold equal counts by rank of the probability, except that equal probabilities stay in one bin: the order of
    the input changes nothing.  probabilities, labels, errors: as in `logloss`; also for n_bins < 1.
    Source: Naeini, Cooper, Hauskrecht 2015; equal counts as in Nguyen, O'Connor 2015.
    """
    _check_probabilities("calibration_error", probabilities, labels)
    if n_bins < 1:
        raise KernelError(f"calibration_error n_bins: expected an int >= 1, got {n_bins}; set it between 10 and 100")
    p = probabilities.astype(np.float64)
    earlier = np.searchsorted(np.sort(p), p)  # (n,), predictions that are lower
    bins = earlier * n_bins // len(p)  # (n,)
    gaps = np.bincount(bins, weights=p - np.asarray(labels), minlength=n_bins)  # (n_bins,), count * difference of means
    return float(np.abs(gaps).sum() / len(p))


def _ranks(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rank of every score from 1 up by row and then by score, equal scores of a row at their mean, float64 (n,)."""
    order = np.lexsort((scores, rows))
    new = np.ones(len(order), dtype=bool)  # starts another score or row
    new[1:] = (np.diff(rows[order]) != 0) | (scores[order][1:] != scores[order][:-1])
    starts = np.flatnonzero(new)  # (n_groups,)
    sizes = np.diff(np.append(starts, len(order)))
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks


def _check_labels(where: str, scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.ndim != 1 or scores.shape != np.shape(labels):
        raise KernelError(
            f"{where} labels: expected one per score, {scores.shape}, got {np.shape(labels)}; pass parallel columns"
        )
    if not np.isfinite(scores).all():
        raise KernelError(
            f"{where} scores: expected finite values, got {scores[~np.isfinite(scores)][0]}; leave these rows out"
        )
    valid = np.isin(labels, (0, 1))
    if not valid.all():
        raise KernelError(
            f"{where} labels: expected 0 or 1, got {np.asarray(labels)[~valid][0]}; make the labels binary"
        )


def _check_probabilities(where: str, probabilities: np.ndarray, labels: np.ndarray) -> None:
    _check_labels(where, probabilities, labels)
    if len(probabilities) == 0:
        raise KernelError(f"{where} probabilities: expected at least one, got none; leave the metric out")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise KernelError(
            f"{where} probabilities: expected values from 0 to 1, got {probabilities.min()} to {probabilities.max()};"
            " pass scores through the model's link"
        )
