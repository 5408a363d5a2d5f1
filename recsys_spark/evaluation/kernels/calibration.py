"""Calibration of lists by place: the engagement rate of every place on earlier dates, held against later outcomes.

Owns: the rates of places, and their log loss and calibration error.  A ranked list has no probabilities; the share of
users who engaged with the item at a place, on earlier dates, is one that a service could use, and later dates show how
good it is.

A tally counts, for one place, the users who had an item there (n) and those of them who engaged with it (total).
"""

from collections.abc import Sequence

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.bootstrap import Tally


def place_rates(earlier: Sequence[Sequence[Tally]]) -> np.ndarray:
    """The engagement rate of every place over all earlier dates, float64 (n_places,), above 0 and below 1.

    earlier: of every date one tally per place, of the same places.  Half a user is added to both outcomes, so that no
    rate is 0 or 1 (Krichevsky, Trofimov 1981).  Raises KernelError if there is no date, or if dates differ in places.
    """
    if not earlier or len({len(places) for places in earlier}) > 1:
        raise KernelError(
            f"promises: expected the same places on one date or more, got {[len(places) for places in earlier]}; judge "
            "an earlier date with lists of the same length"
        )
    n = np.sum([[place.n[0] for place in places] for places in earlier], axis=0)
    engaged = np.sum([[place.total[0] for place in places] for places in earlier], axis=0)
    rates: np.ndarray = (engaged + 0.5) / (n + 1)
    return rates


def outcome_loss(rates: np.ndarray, outcomes: Sequence[Tally]) -> Tally:
    """Log loss of the rates: negative log-likelihood of the outcomes in nats, a mean over the listed items.

    rates: as `place_rates` gives them.  outcomes: one tally per place.
    """
    n, engaged = _stacked(outcomes)
    losses = -(engaged * np.log(rates)[:, None] + (n - engaged) * np.log1p(-rates)[:, None])
    return Tally(n.sum(axis=0), losses.sum(axis=0))


def calibration_error(rates: np.ndarray, outcomes: Sequence[Tally]) -> Tally:
    """Expected calibration error, each place a bin: mean over listed items of |predicted - observed rate|, 0 to 1.

    Without resamples: chance adds to an absolute value, so that resamples lie above the measured value.
    Source: Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    n, engaged = (values[:, :1] for values in _stacked(outcomes))
    return Tally(n.sum(axis=0), np.abs(n * rates[:, None] - engaged).sum(axis=0))


def _stacked(outcomes: Sequence[Tally]) -> tuple[np.ndarray, np.ndarray]:
    """Users and engagements, (n_places, 1 + resamples)."""
    return np.array([place.n for place in outcomes]), np.array([place.total for place in outcomes])
