"""AUC, log loss and calibration against arithmetic written out, a slow oracle, and properties."""

from itertools import product
from math import inf, log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.kernels.score_metrics import auc, auc_per_user, calibration_error, logloss

# Sums of at most 40 terms of size 1 in float64.
TOLERANCE = 1e-12

# Few distinct scores, so that ties are common.
SCORED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=12)
PREDICTED = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.integers(0, 1)), min_size=1, max_size=20)


def auc_oracle(scored: list[tuple[int, int]]) -> float:
    positives = [score for score, label in scored if label]
    negatives = [score for score, label in scored if not label]
    wins = [(a > b) + (a == b) / 2 for a, b in product(positives, negatives)]
    return sum(wins) / len(wins) if wins else nan


def calibration_oracle(predicted: list[tuple[float, int]], n_bins: int) -> float:
    bins: dict[int, list[tuple[float, int]]] = {}
    for p, label in predicted:
        n_lower = sum(other < p for other, _ in predicted)
        bins.setdefault(n_lower * n_bins // len(predicted), []).append((p, label))
    return sum(
        len(members)
        / len(predicted)
        * abs(sum(p for p, _ in members) / len(members) - sum(label for _, label in members) / len(members))
        for members in bins.values()
    )


def test_auc_counts_pairs_in_order_and_ties_half() -> None:
    # Positives 0.9 and 0.4, negatives 0.4 and 0.1: three pairs in order, one tie.
    scores, labels = np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0])
    assert auc(scores, labels) == pytest.approx((3 + 1 / 2) / 4, abs=TOLERANCE)


def test_auc_per_user_compares_within_a_user() -> None:
    # Across users the positive 1.0 is below the negative 5.0; within its own user it is on top.
    scores, labels = np.array([1.0, 0.0, 5.0, 9.0, 3.0]), np.array([1, 0, 0, 1, 1])
    aucs = auc_per_user(scores, labels, np.array([0, 2, 5, 5]))
    np.testing.assert_allclose(aucs, [1.0, 1 / 2, nan], atol=TOLERANCE)


def test_auc_has_no_meaning_for_one_kind_of_label() -> None:
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([1, 1])))


def test_logloss_is_mean_negative_log_likelihood() -> None:
    expected = -(log(0.8) + log(1 - 0.3)) / 2
    assert logloss(np.array([0.8, 0.3]), np.array([1, 0])) == pytest.approx(expected, abs=TOLERANCE)


def test_logloss_is_finite_for_a_sure_and_wrong_prediction() -> None:
    # 1 - 1e-15 is rounded to a multiple of 1.1e-16, which moves its logarithm by up to 0.1.
    assert logloss(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(-log(1e-15), abs=0.1)


def test_logloss_clips_float32_as_float64() -> None:
    assert logloss(np.array([1.0], dtype=np.float32), np.array([0])) == pytest.approx(-log(1e-15), abs=0.1)


def test_calibration_error_weighs_the_gap_of_each_bin() -> None:
    # Two bins of two: 0.1 and 0.3 with no positive, 0.6 and 0.8 with one.
    p, labels = np.array([0.8, 0.1, 0.6, 0.3]), np.array([0, 0, 1, 0])
    expected = 2 / 4 * ((0.1 + 0.3) / 2 - 0 / 2) + 2 / 4 * ((0.6 + 0.8) / 2 - 1 / 2)
    assert calibration_error(p, labels, n_bins=2) == pytest.approx(expected, abs=TOLERANCE)


def test_calibration_error_keeps_equal_probabilities_in_one_bin() -> None:
    # Half of them happen: perfect, though bins by the order of input would find a gap of 1/2 in each.
    assert calibration_error(np.full(4, 0.5), np.array([1, 1, 0, 0]), n_bins=2) == 0.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.5], [1, 0], r"labels: expected one per score, \(1,\), got \(2,\)"),
        ([0.5, nan], [1, 0], "scores: expected finite values, got nan"),
        ([0.5, inf], [1, 0], "scores: expected finite values, got inf"),
        ([0.5, 0.5], [1, 2], "labels: expected 0 or 1, got 2"),
    ],
)
def test_scores_and_labels_without_meaning_are_refused(scores: list[float], labels: list[int], message: str) -> None:
    for metric in (auc, logloss, calibration_error):
        with pytest.raises(KernelError, match=message):
            metric(np.array(scores), np.array(labels))


@pytest.mark.parametrize("indptr", [[0, 1], [1, 2], [0, 2, 1, 2]])
def test_auc_per_user_refuses_bounds_that_do_not_fit(indptr: list[int]) -> None:
    with pytest.raises(KernelError, match="indptr: expected to rise from 0 to 2"):
        auc_per_user(np.array([0.1, 0.2]), np.array([0, 1]), np.array(indptr))


@pytest.mark.parametrize(
    ("probabilities", "message"), [([], "at least one, got none"), ([1.5], "from 0 to 1"), ([-0.1], "from 0 to 1")]
)
def test_probabilities_outside_their_range_are_refused(probabilities: list[float], message: str) -> None:
    for metric in (logloss, calibration_error):
        with pytest.raises(KernelError, match=message):
            metric(np.array(probabilities), np.zeros(len(probabilities)))


def test_calibration_error_refuses_no_bins() -> None:
    with pytest.raises(KernelError, match="n_bins: expected an int >= 1, got 0"):
        calibration_error(np.array([0.5]), np.array([1]), n_bins=0)


@given(users=st.lists(SCORED, min_size=1, max_size=4))
def test_auc_matches_the_oracle(users: list[list[tuple[int, int]]]) -> None:
    pooled = [pair for user in users for pair in user]
    scores, labels = np.array([s for s, _ in pooled], dtype=float), np.array([y for _, y in pooled], dtype=int)
    indptr = np.concatenate([[0], np.cumsum([len(user) for user in users])])
    np.testing.assert_allclose(
        auc_per_user(scores, labels, indptr), [auc_oracle(user) for user in users], atol=TOLERANCE
    )
    np.testing.assert_allclose(auc(scores, labels), auc_oracle(pooled), atol=TOLERANCE)
    np.testing.assert_allclose(auc(-scores, labels), 1 - auc(scores, labels), atol=TOLERANCE)
    np.testing.assert_allclose(auc(np.exp(scores)[::-1], labels[::-1]), auc(scores, labels), atol=TOLERANCE)


@given(predicted=PREDICTED, n_bins=st.integers(1, 25))
def test_losses_match_the_oracle_in_any_order(predicted: list[tuple[float, int]], n_bins: int) -> None:
    p, labels = np.array([p for p, _ in predicted]), np.array([label for _, label in predicted])
    expected = sum(-log(p) if label else -log(1 - p) for p, label in predicted) / len(predicted)
    assert logloss(p, labels) == pytest.approx(expected, abs=TOLERANCE)
    expected = calibration_oracle(predicted, n_bins)
    assert calibration_error(p, labels, n_bins) == pytest.approx(expected, abs=TOLERANCE)
    assert calibration_error(p[::-1], labels[::-1], n_bins) == pytest.approx(expected, abs=TOLERANCE)
