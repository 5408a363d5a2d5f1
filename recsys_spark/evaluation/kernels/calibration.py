"""What the places of a list promise, and whether it is kept: a place promises the rate that it had on earlier dates.

Owns: the log loss and the calibration error of these promises.  A list that ranks has no probabilities; the share of
users who engaged with the item at its place, on dates before, is one that a service could use, and dates after show how
good it is.

Letters: r place of the list; tallies are of the users who had an item at r, and of those who engaged with it.
"""

from collections.abc import Sequence

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.bootstrap import Tally


def place_rates(earlier: Sequence[Sequence[Tally]]) -> np.ndarray:
    """The rate of every place over all earlier dates, float64 (n_places,), above 0 and below 1.

    earlier: of every date one tally per place, of the same places.  Half a user is added to both outcomes, so that what
    never happened can happen (Krichevsky, Trofimov 1981).  Raises KernelError if there is no date, or other places.
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
    """Negative log-likelihood in nats of what users did, a mean over the items that were listed.

    rates: as `place_rates`.  kept: one tally per place.
    """
    n, engaged = _stacked(outcomes)
    losses = -(engaged * np.log(rates)[:, None] + (n - engaged) * np.log1p(-rates)[:, None])
    return Tally(n.sum(axis=0), losses.sum(axis=0))


def calibration_error(rates: np.ndarray, outcomes: Sequence[Tally]) -> Tally:
    """Expected calibration error, each place a bin: mean over listed items of |promised - kept rate|, 0 to 1.

    As measured only: chance adds to an absolute value, so that resamples lie above it.
    Source: Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    n, engaged = (values[:, :1] for values in _stacked(outcomes))
    return Tally(n.sum(axis=0), np.abs(n * rates[:, None] - engaged).sum(axis=0))


def _stacked(outcomes: Sequence[Tally]) -> tuple[np.ndarray, np.ndarray]:
    """Users and engagements, (n_places, 1 + resamples)."""
    return np.array([place.n for place in outcomes]), np.array([place.total for place in outcomes])
