"""Items are drawn as often as their distribution says, and expected as often as they are drawn."""

from typing import Any

import numpy as np
import pytest

from recsys_spark.two_tower.kernels.batches import draw, expected_log_counts, proposal

SHARE = np.array([0.5, 0.0, 0.25, 0.125, 0.125])


def test_proposal_is_the_same_for_all_or_damped_popularity() -> None:
    assert proposal(SHARE, np.ones(5, bool), "uniform").tolist() == [1 / 5] * 5
    powers = [0.5**0.75, 0, 0.25**0.75, 0.125**0.75, 0.125**0.75]
    np.testing.assert_allclose(proposal(SHARE, SHARE > 0, "popularity"), np.array(powers) / sum(powers), rtol=1e-14)


def test_proposal_never_gives_what_nobody_had() -> None:
    assert proposal(SHARE, SHARE > 0, "uniform").tolist() == [1 / 4, 0, 1 / 4, 1 / 4, 1 / 4]
    assert proposal(SHARE, np.array([True] * 4 + [False]), "uniform").tolist() == [1 / 4] * 4 + [0]


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_proposal_sums_to_1(kind: Any) -> None:
    share = np.random.default_rng(1).dirichlet(np.full(1000, 0.1))
    assert proposal(share, share > 0, kind).sum() == pytest.approx(1, abs=1e-12)


def test_draw_follows_the_probabilities() -> None:
    probabilities = proposal(np.arange(1.0, 11.0) / 55, np.ones(10, bool), "popularity")
    n = 100_000
    drawn = draw(np.random.default_rng(11), probabilities, (n // 10, 10))
    assert (drawn.shape, drawn.dtype) == ((n // 10, 10), np.int32)
    counts = np.bincount(drawn.ravel(), minlength=10)
    chi_square = ((counts - n * probabilities) ** 2 / (n * probabilities)).sum()
    assert chi_square < 27.9  # of 9 degrees of freedom 99.9 %


class _Always:
    """A generator that draws one number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.number)


@pytest.mark.parametrize("scale", [1.0, 0.3, 1 - 2**-53])
def test_draw_never_gives_an_item_of_probability_0(scale: float) -> None:
    probabilities = np.array([0, 0.25, 0, 0.25, 0.5, 0]) * scale
    first, last = (draw(_Always(number), probabilities, (2,)) for number in (0.0, np.nextafter(1, 0)))  # type: ignore[arg-type]
    assert (first.tolist(), last.tolist()) == ([1, 1], [4, 4])
    drawn = np.bincount(draw(np.random.default_rng(1), probabilities, (1000,)), minlength=6)
    assert (drawn > 0).tolist() == [False, True, False, True, True, False]


def test_expected_log_counts_are_those_of_both_samplers_together() -> None:
    found = expected_log_counts(SHARE, 7, proposal(SHARE, np.ones(5, bool), "uniform"), 10)
    expected = np.log([7 * share + 10 / 5 for share in SHARE])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_expected_log_counts_are_finite_for_an_item_that_nobody_draws() -> None:
    found = expected_log_counts(SHARE, 7, SHARE, 3)
    assert found[1] == np.float32(np.log(np.finfo(np.float32).tiny))
    assert found[0] == pytest.approx(np.log(10 * 0.5), rel=1e-6)
