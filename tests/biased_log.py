"""Synthetic log of exposures with known relevance, position bias and exposure rates of items."""

from dataclasses import dataclass

import numpy as np

from recsys_spark.signals.kernels.propensity import ExposureCounts, PositionCounts


@dataclass(frozen=True)
class BiasedLog:
    """One entry a showing: user_idx, item_idx, position from 1, engaged; and the truth behind them.

    relevance: (n_items,), chance of an engagement once examined.  examination: (n_positions,), of being examined.
    """

    user_idx: np.ndarray
    item_idx: np.ndarray
    position: np.ndarray
    engaged: np.ndarray
    relevance: np.ndarray
    examination: np.ndarray


def biased_log(n_users: int, n_items: int, n_positions: int, eta: float, seed: int) -> BiasedLog:
    """Lists of a policy that has favourites of its own, one for each user.

    The policy shows the items of the highest favour + Gumbel noise, in that order; favour says nothing of relevance.
    Position k is examined with chance 1 / k**eta and an examined item is engaged with by its relevance.
    """
    rng = np.random.default_rng(seed)
    relevance = rng.uniform(0.05, 0.6, n_items)
    favour = rng.permutation(np.linspace(-3.0, 3.0, n_items))
    lists = np.argsort(-(favour + rng.gumbel(size=(n_users, n_items))), axis=1)[:, :n_positions]
    examination = 1.0 / np.arange(1, n_positions + 1) ** eta
    engaged = rng.random(lists.shape) < examination * relevance[lists]
    return BiasedLog(
        user_idx=np.repeat(np.arange(n_users), n_positions),
        item_idx=lists.ravel(),
        position=np.tile(np.arange(1, n_positions + 1), n_users),
        engaged=engaged.ravel(),
        relevance=relevance,
        examination=examination,
    )


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rho of two arrays without ties, -1 to 1."""
    return float(np.corrcoef(np.argsort(np.argsort(left)), np.argsort(np.argsort(right)))[0, 1])


def count_showings(item_idx: np.ndarray, position: np.ndarray, engaged: np.ndarray) -> PositionCounts:
    """Showings and engagements by (item, position) of a log with one entry a showing."""
    pairs, place = np.unique(np.stack([item_idx, position]), axis=1, return_inverse=True)
    place = place.ravel()
    n_engaged = np.bincount(place[engaged != 0], minlength=pairs.shape[1])
    return PositionCounts(*pairs.astype(np.int64), np.bincount(place, minlength=pairs.shape[1]), n_engaged)


def count_exposures(user_idx: np.ndarray, item_idx: np.ndarray, logged: np.ndarray, n_items: int) -> ExposureCounts:
    """Counts by item of a log with one entry a showing; logged: NaN where no propensity was."""
    known = ~np.isnan(logged)
    of_users = np.unique(np.stack([item_idx, user_idx]), axis=1)[0]
    return ExposureCounts(
        n_users_exposed=len(np.unique(user_idx)),
        n_users=np.bincount(of_users, minlength=n_items),
        n_rows=np.bincount(item_idx, minlength=n_items),
        n_logged=np.bincount(item_idx[known], minlength=n_items),
        inverse_logged=np.bincount(item_idx[known], weights=1 / logged[known], minlength=n_items),
    )
