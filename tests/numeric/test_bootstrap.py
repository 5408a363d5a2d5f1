"""The Poisson bootstrap against the normal interval, against resampling one user after the other, and by properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.numeric.bootstrap import Interval, Tally, difference, draw, mean_interval, ratio, tally, user_keys

# A few hundred values of size 10 in float64.
TOLERANCE = 1e-12


def keys(n: int) -> np.ndarray:
    return user_keys([f"user-{number}" for number in range(n)])


def test_draws_are_poisson_of_mean_one_and_independent() -> None:
    draws = draw(keys(4000), seed=3)[:, 1:]  # (4000, 500)
    shares = [np.mean(draws == n) for n in range(6)]
    np.testing.assert_allclose(shares, [math.exp(-1) / math.factorial(n) for n in range(6)], atol=2e-3)
    # Of neighbouring resamples, and of neighbouring users.
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 3e-3
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 3e-3


def test_draws_depend_on_the_user_and_the_seed_alone() -> None:
    all_of_them = draw(keys(50), seed=1)
    np.testing.assert_array_equal(draw(keys(50)[17:20], seed=1), all_of_them[17:20])
    assert (draw(keys(50), seed=2) != all_of_them).any()
    np.testing.assert_array_equal(user_keys(["user-17"]), keys(50)[17:18])
    assert user_keys(["a"])[0] == 13950350942979735504, (
        "keys must not change: stored sums of different dates are paired"
    )


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(-5, 5) | st.none(), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_sums_match_counting_one_user_after_the_other(values: list[int | None], seed: int) -> None:
    draws = draw(keys(len(values)), seed, resamples=30)
    counted = tally(np.array([math.nan if value is None else value for value in values]), draws)
    for resample in range(31):
        drawn = [value for value, row in zip(values, draws, strict=True) for _ in range(int(row[resample]))]
        valued = [value for value in drawn if value is not None]
        assert counted.n[resample] == len(valued)
        assert counted.total[resample] == pytest.approx(sum(valued), abs=TOLERANCE)


def test_parts_add_up_to_the_whole() -> None:
    values, draws = np.arange(20.0), draw(keys(20), seed=4)
    whole, parts = tally(values, draws), [tally(values[at], draws[at]) for at in (slice(0, 7), slice(7, 20))]
    together = parts[0] + parts[1]
    np.testing.assert_allclose([together.n, together.total], [whole.n, whole.total], atol=TOLERANCE)


def test_interval_is_near_the_normal_one_for_many_users() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=2000)
    error = values.std() / np.sqrt(2000)
    interval = mean_interval([tally(values, draw(keys(2000), seed=2))])
    expected = [values.mean(), values.mean() - 1.96 * error, values.mean() + 1.96 * error]
    # Bounds of 500 resamples have a Monte Carlo error of 0.12 standard errors: three of these.
    np.testing.assert_allclose([interval.estimate, interval.low, interval.high], expected, atol=0.36 * error)


def test_a_user_of_several_dates_is_one_user() -> None:
    """Ten dates of the same users and values are no more certain than one."""
    one = tally(np.random.default_rng(5).normal(size=300), draw(keys(300), seed=6))
    pooled, alone = mean_interval([one] * 10), mean_interval([one])
    np.testing.assert_allclose([pooled.low, pooled.high], [alone.low, alone.high], atol=TOLERANCE)


def test_dates_weigh_the_same_however_many_users_they_have() -> None:
    few, many = tally(np.ones(2), draw(keys(2), 1)), tally(np.zeros(200), draw(keys(200), 1))
    assert mean_interval([few, many]).estimate == 0.5


def test_pairs_are_more_certain_than_their_sides() -> None:
    rng = np.random.default_rng(7)
    draws, base = draw(keys(500), seed=8), rng.normal(5.0, 2.0, size=500)
    a, b = [tally(base + 0.2, draws)], [tally(base, draws)]
    found = difference(a, b)
    np.testing.assert_allclose([found.estimate, found.low, found.high], 0.2, atol=1e-9)
    side = mean_interval(b)
    assert side.high - side.low > 0.3
    twice = ratio([tally(2 * base, draws)], b)
    np.testing.assert_allclose([twice.estimate, twice.low, twice.high], 2.0, atol=1e-9)


def test_equal_users_leave_no_doubt_and_nobody_leaves_all() -> None:
    assert mean_interval([tally(np.full(9, 0.25), draw(keys(9), 0))]) == Interval(0.25, 0.25, 0.25)
    nobody = mean_interval([tally(np.zeros(0), draw(keys(0), 0))])
    assert np.isnan([nobody.estimate, nobody.low, nobody.high]).all()
    assert math.isinf(ratio([tally(np.ones(3), draw(keys(3), 0))], [tally(np.zeros(3), draw(keys(3), 0))]).estimate)


def test_what_cannot_be_compared_is_refused() -> None:
    one = Tally(np.ones(3), np.ones(3))
    with pytest.raises(KernelError, match="at least one date"):
        mean_interval([])
    with pytest.raises(KernelError, match="the same dates and resamples"):
        difference([one], [one, one])
    with pytest.raises(KernelError, match="the same dates and resamples"):
        ratio([one], [Tally(np.ones(4), np.ones(4))])
