"""Planted data that towers can learn: users of two groups, each engaging with the items of its own.

A user's group shows in their segment and in what they had before, an item's in its category and in who had it.
"""

import numpy as np
import pyarrow as pa

from recsys_spark.config.load import load_config
from recsys_spark.config.models import TwoTower as Settings
from recsys_spark.two_tower.kernels.batches import NONE, Shard
from recsys_spark.two_tower.kernels.inputs import Encoded, Field, TowerInputs
from recsys_spark.two_tower.kernels.towers import Shape
from recsys_spark.two_tower.training_job import Job
from recsys_spark.two_tower.training_shards import write_items, write_users
from recsys_spark.warehouse.scratch import Scratch

N_ITEMS = 40  # the first half of them of group 0
PER_USER = 6
N_NEW = 2  # of them, after SPLIT
SPLIT = 1_000_000

USERS = TowerInputs((Field("segment", "category"),), n_buckets=16)
ITEMS = TowerInputs((Field("category", "category"), Field("price", "number"), Field("item_id", "id")), 16, 256)
SHAPE = Shape(dim=8, hidden=8, normalize=True, history_items=3, half_life_items=2.0)

Entry = tuple[int, int, float]  # item, time, weight


def shard_of(histories: list[list[Entry]], encoded: Encoded | None = None, shown: np.ndarray | None = None) -> Shard:
    """Users 0, 1, ... with these entries in any order; without features unless they are given."""
    n = len(histories)
    ordered = [sorted(entries, key=lambda entry: (-entry[1], entry[0])) for entries in histories]
    flat = [entry for entries in ordered for entry in entries]
    nothing = Encoded(
        np.zeros((n, 0), np.float32), np.zeros(n + 1, np.int64), *(np.empty(0, t) for t in (np.int32, "f4", np.int32))
    )
    return Shard(
        np.arange(n, dtype=np.int32),
        np.cumsum([0, *map(len, histories)], dtype=np.int64),
        np.array([item for item, _, _ in flat], np.int32),
        np.array([time for _, time, _ in flat], np.int64),
        np.array([weight for _, _, weight in flat], np.float32),
        np.full((n, 0), NONE, np.int32) if shown is None else shown,
        nothing if encoded is None else encoded,
    )


def catalogue() -> Encoded:
    """All items; every seventh has no category, every fifth no price."""
    idx = range(N_ITEMS)
    return ITEMS.encode(
        pa.table(
            {
                "category": pa.array([None if i % 7 == 3 else f"group{group_of(i)}" for i in idx], pa.string()),
                "price": pa.array([None if i % 5 == 2 else float(i % 4) for i in idx], pa.float64()),
                "item_id": [f"item{i}" for i in idx],
            }
        )
    )


def group_of(item: int) -> int:
    """The group of users that likes an item."""
    return int(item >= N_ITEMS // 2)


def users(n: int, seed: int = 7, first: int = 0) -> Shard:
    """Users `first`, `first` + 1, ..., of both groups by turns, every fifth without a segment; weights of 1 and 2."""
    rng = np.random.default_rng([seed, first])
    histories = []
    for user in range(n):
        liked = rng.choice(N_ITEMS // 2, PER_USER, replace=False) + user % 2 * N_ITEMS // 2
        times = rng.choice(SPLIT, PER_USER, replace=False) + SPLIT * (np.arange(PER_USER) >= PER_USER - N_NEW)
        histories.append([(int(i), int(t), 1.0 + i % 2) for i, t in zip(liked, times, strict=True)])
    segments = pa.array([None if user % 5 == 4 else f"group{user % 2}" for user in range(n)], pa.string())
    made = shard_of(histories, USERS.encode(pa.table({"segment": segments})))
    return made._replace(users=made.users + np.int32(first))


def settings(**changes: object) -> Settings:
    """Defaults, but small: 4 epochs of at least 8 steps."""
    small = {
        "dim": SHAPE.dim,
        "hidden": SHAPE.hidden,
        "history_items": SHAPE.history_items,
        "half_life_items": SHAPE.half_life_items,
        "epochs": 4,
        "patience": 4,
        "validation_share": 0.4,
        "batch_size": 64,
        "learning_rate": 0.02,
        "device": "cpu",
    }
    return Settings.model_validate(load_config().two_tower.model_dump() | small | changes)


def stage(scratch: Scratch, start: str = "", **changes: object) -> Job:
    """Stages a training on 120 users in two shards and on all items in two."""
    for number in range(2):
        write_users(scratch, number, users(60, first=60 * number))
    items, half = catalogue(), N_ITEMS // 2
    for number, rows in enumerate((slice(0, half), slice(half, N_ITEMS))):
        begin, end = items.indptr[rows.start], items.indptr[rows.stop]
        indptr = items.indptr[rows.start : rows.stop + 1] - begin
        buckets, weights = items.buckets[begin:end], items.weights[begin:end]
        write_items(scratch, number, Encoded(items.dense[rows], indptr, buckets, weights, items.ids[rows]))
    job = Job(settings(**changes), 5, N_ITEMS, 2, 2, SPLIT, USERS, ITEMS, {"events": 3}, start)
    scratch.mark("job", job.as_json())
    return job
