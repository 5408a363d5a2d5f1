"""Bootstrap intervals against a slow twin, against the normal interval, and by properties of resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.kernels import intervals
from recsys_spark.kernels.intervals import Interval, mean_interval, paired_difference, ratio_of_means

# Means of at most 500 values of size 10 in float64.
TOLERANCE = 1e-12

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=8).map(lambda values: np.array(values, dtype=np.float64))


def oracle(values: np.ndarray, seed: int, resamples: int, confidence: float) -> list[float]:
    """Estimate and bounds with one resample drawn after the other."""
    rng = np.random.default_rng(seed)
    means = sorted(
        sum(values[user] for user in rng.integers(len(values), size=len(values))) / len(values)
        for _ in range(resamples)
    )
    bounds = [np.quantile(means, (1 - confidence) / 2), np.quantile(means, 1 - (1 - confidence) / 2)]
    return [sum(values) / len(values), *bounds]


def as_list(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]


@settings(max_examples=25, deadline=None)
@given(values=VALUES, seed=st.integers(0, 99), confidence=st.sampled_from([0.5, 0.9, 0.95]))
def test_mean_interval_matches_the_oracle(values: np.ndarray, seed: int, confidence: float) -> None:
    interval = mean_interval(values, seed, resamples=40, confidence=confidence)
    np.testing.assert_allclose(as_list(interval), oracle(values, seed, 40, confidence), atol=TOLERANCE)


def test_mean_interval_is_near_the_normal_one_for_many_users() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=500)
    error = values.std() / np.sqrt(500)
    interval = mean_interval(values, seed=2)
    # Bounds of 2000 resamples have a Monte Carlo error of 0.06 standard errors: four of these.
    np.testing.assert_allclose(
        as_list(interval),
        [values.mean(), values.mean() - 1.96 * error, values.mean() + 1.96 * error],
        atol=0.24 * error,
    )


def test_mean_interval_has_no_width_for_equal_users() -> None:
    assert mean_interval(np.full(5, 0.25), seed=0) == Interval(0.25, 0.25, 0.25)


def test_mean_interval_repeats_for_a_seed_and_a_generator_of_it() -> None:
    values = np.arange(20.0)
    assert mean_interval(values, seed=7) == mean_interval(values, seed=np.random.default_rng(7))
    assert mean_interval(values, seed=7) != mean_interval(values, seed=8)


def test_mean_interval_does_not_change_with_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(20.0)
    whole = mean_interval(values, seed=7, resamples=50)
    for block in (1, 60, 50 * 20 - 1):
        monkeypatch.setattr(intervals, "BLOCK_DRAWS", block)
        assert mean_interval(values, seed=7, resamples=50) == whole


def test_mean_interval_draws_no_more_than_a_block_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "BLOCK_DRAWS", 100)
    sizes = []

    class Recorder(np.random.Generator):
        def integers(self, high: int, size: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
            sizes.append(size)
            return super().integers(high, size=size)

    mean_interval(np.arange(30.0), seed=Recorder(np.random.PCG64(1)), resamples=7)
    assert sizes == [(3, 30), (3, 30), (1, 30)]


def test_mean_interval_widens_with_confidence() -> None:
    values = np.arange(20.0)
    narrow, wide = mean_interval(values, seed=7, confidence=0.5), mean_interval(values, seed=7, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_difference_is_of_the_first_over_the_second() -> None:
    a, b = np.array([3.0, 5.0, 4.0]), np.array([1.0, 2.0, 6.0])
    interval = paired_difference(a, b, seed=4)
    assert interval.estimate == pytest.approx((2 + 3 - 2) / 3, abs=TOLERANCE)
    assert interval == mean_interval(np.array([2.0, 3.0, -2.0]), seed=4)


def test_paired_difference_has_no_width_when_all_users_gain_the_same() -> None:
    # Unpaired resampling would give the spread of the users themselves.
    b = np.arange(10.0)
    assert as_list(paired_difference(b + 0.5, b, seed=4)) == [0.5, 0.5, 0.5]


def test_paired_difference_of_pooled_folds_is_narrower_than_of_one() -> None:
    rng = np.random.default_rng(5)
    folds = [(rng.normal(1.0, 1.0, 200), rng.normal(0.0, 1.0, 200)) for _ in range(4)]
    pooled = paired_difference(np.concatenate([a for a, _ in folds]), np.concatenate([b for _, b in folds]), seed=6)
    one = paired_difference(*folds[0], seed=6)
    assert pooled.estimate == pytest.approx(sum(a.mean() - b.mean() for a, b in folds) / 4, abs=TOLERANCE)
    # Four times the users halve the width; 0.4 to 0.6 leaves room for the folds' own spread.
    assert 0.4 < (pooled.high - pooled.low) / (one.high - one.low) < 0.6


def test_ratio_of_means_divides_means_and_not_values() -> None:
    interval = ratio_of_means(np.array([1.0, 9.0]), np.array([1.0, 3.0]), seed=4)
    assert interval.estimate == pytest.approx((1 + 9) / (1 + 3), abs=TOLERANCE)
    # The resamples are {1, 1}, {1, 9} and {9, 9}: ratios 1/1, 10/4 and 9/3, the outer ones a quarter each.
    assert (interval.low, interval.high) == (1 / 1, 9 / 3)


def test_ratio_of_means_draws_both_values_of_a_user_together() -> None:
    b = np.arange(1.0, 11.0)
    np.testing.assert_allclose(as_list(ratio_of_means(2 * b, b, seed=4)), [2.0, 2.0, 2.0], atol=TOLERANCE)


@pytest.mark.parametrize("b", [[0.0, 0.0], [0.0, 1.0], [-1.0, 3.0]])
def test_ratio_of_means_refuses_a_denominator_that_may_be_zero(b: list[float]) -> None:
    with pytest.raises(KernelError, match="ratio_of_means b: expected a mean away from 0"):
        ratio_of_means(np.array([1.0, 2.0]), np.array(b), seed=4)


@pytest.mark.parametrize(
    ("values", "resamples", "confidence", "message"),
    [
        ([], 10, 0.9, "expected one value per user"),
        ([[1.0]], 10, 0.9, "expected one value per user"),
        ([1.0, np.nan], 10, 0.9, "expected finite values, got 1 others"),
        ([1.0], 0, 0.9, "resamples: expected an int >= 1, got 0"),
        ([1.0], 10, 1.0, "confidence: expected between 0 and 1, got 1.0"),
        ([1.0], 10, 0.0, "confidence: expected between 0 and 1, got 0.0"),
    ],
)
def test_mean_interval_refuses_what_has_no_meaning(
    values: list[float], resamples: int, confidence: float, message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        mean_interval(np.array(values), 1, resamples, confidence)


def test_pairs_of_different_users_are_refused() -> None:
    for compare in (paired_difference, ratio_of_means):
        with pytest.raises(KernelError, match="expected values of the same users, got 1 and 2"):
            compare(np.array([1.0]), np.array([1.0, 2.0]), seed=1)
