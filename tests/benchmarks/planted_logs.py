"""Twelve synthetic logs, dense to sparse, flat to steep, with a clock, an order or neither, with repeats or without.

Owns: their specifications and how they are made.

A user has a taste, two of the groups of items, and takes nine of ten items from these, each as popular as its rank
says: (rank + 10)^-steepness.  Where there is an order, three of ten events are what goes with the item before (a fixed
permutation within the group); where there are repeats, three of ten events are of an item that the user had.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 120


@dataclass(frozen=True)
class Spec:
    """clock: time, order or none.  steepness: 0 flat, 1 steep.  Pairs of users and items are about density x both."""

    n_users: int
    n_items: int
    density: float
    steepness: float
    clock: str
    repeats: bool = False


SPECS = {
    "planted_01": Spec(2_000, 1_000, 0.05, 0.0, "none"),
    "planted_02": Spec(2_000, 1_000, 0.05, 1.0, "time", repeats=True),
    "planted_03": Spec(5_000, 1_000, 0.01, 1.0, "order"),
    "planted_04": Spec(3_000, 3_000, 0.01, 0.5, "none"),
    "planted_05": Spec(10_000, 10_000, 0.002, 1.0, "time"),
    "planted_06": Spec(10_000, 10_000, 0.001, 0.5, "order"),
    "planted_07": Spec(20_000, 10_000, 0.001, 1.0, "none"),
    "planted_08": Spec(20_000, 10_000, 0.0007, 0.0, "time"),
    "planted_09": Spec(10_000, 30_000, 0.0005, 1.0, "order"),
    "planted_10": Spec(20_000, 30_000, 0.0004, 0.5, "time", repeats=True),
    "planted_11": Spec(15_000, 100_000, 0.00019, 1.0, "none"),
    "planted_12": Spec(20_000, 100_000, 0.0001, 0.5, "order"),
}
_N_GROUPS, _TASTES, _FAITH, _FOLLOWS, _REPEATS, _SEED = 40, 2, 0.9, 0.3, 0.3, 11


def planted_log(name: str, n_users: int | None = None) -> pd.DataFrame:
    """user_id, item_id, and event_time or position, in the order in which they happened."""
    spec = replace(SPECS[name], n_users=n_users or SPECS[name].n_users)
    rng = np.random.default_rng([_SEED, int(name[-2:])])
    n_events = rng.poisson(spec.density * spec.n_items, spec.n_users) + 3
    users = np.repeat(np.arange(spec.n_users), n_events)
    groups = rng.permutation(spec.n_items) % _N_GROUPS
    popularity = (rng.permutation(spec.n_items) + 10.0) ** -spec.steepness
    of_group = [np.flatnonzero(groups == group) for group in range(_N_GROUPS)]
    tastes = rng.integers(0, _N_GROUPS, (spec.n_users, _TASTES))
    wanted = tastes[users, rng.integers(0, _TASTES, len(users))]
    strays = rng.random(len(users)) > _FAITH
    wanted[strays] = rng.integers(0, _N_GROUPS, strays.sum())
    items = np.empty(len(users), np.int64)
    for group, members in enumerate(of_group):
        mine = np.flatnonzero(wanted == group)
        items[mine] = rng.choice(members, len(mine), p=popularity[members] / popularity[members].sum())
    if spec.clock != "none":
        after = np.empty(spec.n_items, np.int64)
        for members in of_group:
            after[members] = np.roll(rng.permutation(members), 1)[np.argsort(np.argsort(members))]
        follows = (rng.random(len(users)) < _FOLLOWS) & np.append(False, users[1:] == users[:-1])
        for at in np.flatnonzero(follows).tolist():
            items[at] = after[items[at - 1]]
    starts = np.repeat(np.cumsum(n_events) - n_events, n_events)
    places = np.arange(len(users)) - starts
    if spec.repeats:
        again = np.flatnonzero((rng.random(len(users)) < _REPEATS) & (places > 0))
        for at in again.tolist():
            items[at] = items[starts[at] + rng.integers(0, places[at])]
    found = pd.DataFrame(
        {"user_id": np.char.add("u", users.astype(str)), "item_id": np.char.add("i", items.astype(str))}
    )
    if spec.clock == "time":
        spread = np.sort(rng.random(len(users)) + users) - users  # ascending within each user
        found["event_time"] = pd.Timestamp(START) + pd.to_timedelta(np.round(spread * DAYS * 86_400), unit="s")
        return found
    if spec.clock == "order":
        found["position"] = places.astype(np.int32)
        return found.drop_duplicates(["user_id", "item_id"])
    return found.drop_duplicates(["user_id", "item_id"])
