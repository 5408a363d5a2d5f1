"""Synthetic log of the benchmarks: long-tailed activity of users and popularity of items, planted groups of taste.

Owns: the generator, for the benchmarks that need millions of interactions; the shape is that of a large film log
(138k users x 27k items, 9 to 10 million pairs, 66 a user on average), and every number is drawn from one seed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_USERS, N_ITEMS, N_DRAWS = 138_000, 27_000, 15_600_000

_N_GROUPS = 60
_OWN_GROUP_SHARE = 0.65  # of a user's draws come from the group that the user belongs to, the others from all items
_MIN_ITEMS = 12  # draws of the least active user
_ACTIVITY_SIGMA = 1.3  # of the lognormal number of draws per user
_POPULARITY_SHIFT, _POPULARITY_POWER = 60.0, 1.25  # of the Zipf-Mandelbrot law of item popularity


@dataclass(frozen=True)
class Planted:
    """Distinct pairs, sorted by user, then item.  users, items: int32 (n,); weights: float32 (n,), 1 to 5."""

    n_users: int
    n_items: int
    users: np.ndarray
    items: np.ndarray
    weights: np.ndarray


def write_pairs(folder: Path, users: np.ndarray, items: np.ndarray, weights: np.ndarray) -> None:
    """The pairs as Parquet, one file for a million: user_idx, item_idx (int32), weight."""
    folder.mkdir()
    columns = {"user_idx": users.astype(np.int32), "item_idx": items.astype(np.int32), "weight": weights}
    for number, start in enumerate(range(0, len(users), 1_000_000)):
        part = {name: column[start : start + 1_000_000] for name, column in columns.items()}
        pq.write_table(pa.table(part), folder / f"{number:03d}.parquet")


def planted_interactions(
    n_users: int = N_USERS, n_items: int = N_ITEMS, n_draws: int = N_DRAWS, seed: int = 20250131
) -> Planted:
    """About 0.6 * `n_draws` distinct pairs; the same for the same arguments on every machine."""
    rng = np.random.default_rng(seed)
    activity = (
        rng.lognormal(0.0, _ACTIVITY_SIGMA, n_users) * (n_draws / n_users - _MIN_ITEMS) / np.exp(_ACTIVITY_SIGMA**2 / 2)
    )
    n_of_user = (_MIN_ITEMS + activity).astype(np.int64)  # (n_users,)
    users = np.repeat(np.arange(n_users, dtype=np.int64), n_of_user)  # (n_draws,)
    group_of_item = rng.integers(0, _N_GROUPS, n_items)
    popularity = (rng.permutation(n_items) + _POPULARITY_SHIFT) ** -_POPULARITY_POWER
    # Items sorted by group: a group is a slice of the cumulated popularity, and a draw is one binary search.
    by_group = np.argsort(group_of_item, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(popularity[by_group])])
    starts = np.searchsorted(group_of_item[by_group], np.arange(_N_GROUPS + 1))
    group = rng.integers(0, _N_GROUPS, n_users)[users]
    is_own = rng.random(len(users)) < _OWN_GROUP_SHARE
    low = np.where(is_own, cumulated[starts[group]], 0.0)
    high = np.where(is_own, cumulated[starts[group + 1]], cumulated[-1])
    drawn = np.searchsorted(cumulated, low + rng.random(len(users)) * (high - low), side="right") - 1
    items = by_group[np.minimum(drawn, n_items - 1)]
    pairs = np.unique(users * n_items + items)
    weights = rng.integers(1, 6, len(pairs)).astype(np.float32)
    return Planted(n_users, n_items, (pairs // n_items).astype(np.int32), (pairs % n_items).astype(np.int32), weights)
