import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.evaluation.kernels.calibration import calibration_error, outcome_loss, place_rates
from recsys_spark.numeric.bootstrap import Tally

N_PLACES = 3

# Of every place whether each of some users engaged with what stood there.
outcomes = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=N_PLACES, max_size=N_PLACES)


def tallies(date: list[list[bool]]) -> list[Tally]:
    return [Tally(np.array([len(place), 2.0 * len(place)]), np.array([sum(place), 2.0 * sum(place)])) for place in date]


@settings(max_examples=100, deadline=None)
@given(st.lists(outcomes, min_size=1, max_size=3), outcomes)
def test_promises_match_a_plain_loop(earlier: list[list[list[bool]]], now: list[list[bool]]) -> None:
    rates = place_rates([tallies(date) for date in earlier])
    seen = [[one for date in earlier for one in date[place]] for place in range(N_PLACES)]
    expected = [(sum(place) + 0.5) / (len(place) + 1) for place in seen]
    assert rates == pytest.approx(expected)
    losses = [-math.log(rate if one else 1 - rate) for rate, place in zip(expected, now, strict=True) for one in place]
    loss = outcome_loss(rates, tallies(now))
    assert loss.means == pytest.approx([sum(losses) / len(losses)] * 2)
    gaps = [abs(rate - sum(place) / len(place)) * len(place) for rate, place in zip(expected, now, strict=True)]
    assert calibration_error(rates, tallies(now)).means == pytest.approx([sum(gaps) / len(losses)])


def test_a_promise_that_is_kept_has_no_error() -> None:
    kept = [Tally(np.array([10.0]), np.array([engaged])) for engaged in (4.0, 2.0)]
    assert calibration_error(np.array([0.4, 0.2]), kept).means.tolist() == [0.0]


def test_promised_refuses_dates_of_other_places() -> None:
    one = Tally(np.ones(1), np.ones(1))
    for earlier in ([], [[one], [one, one]]):
        with pytest.raises(KernelError, match="promises: expected the same places on one date or more"):
            place_rates(earlier)
