"""Untrained two-tower models: random weights in the file format that training stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import pack_model
from recsys_spark.two_tower.kernels.towers import Shape, weight_shapes

SHAPE = Shape(dim=4, hidden=3, normalize=True, history_items=3, half_life_items=2.0)
USERS = TowerInputs((Field("segment", "category"), Field("n_events", "number", mean=1.0, deviation=0.5)), 32)
ITEMS = TowerInputs(
    (Field("title", "words"), Field("price", "number", mean=1.0), Field("item_id", "id")), n_buckets=64, n_ids=16
)
# The settings that ask for SHAPE, USERS and ITEMS.
SETTINGS = (
    f"two_tower.dim={SHAPE.dim}",
    f"two_tower.hidden={SHAPE.hidden}",
    f"two_tower.history_items={SHAPE.history_items}",
    f"two_tower.half_life_items={SHAPE.half_life_items}",
    'two_tower.user_features=["segment", "n_events"]',
    'two_tower.item_features=["title", "price"]',
    "two_tower.item_history=[]",
)


def make_weights(
    users: TowerInputs = USERS, items: TowerInputs = ITEMS, shape: Shape = SHAPE, seed: int = 1
) -> dict[str, np.ndarray]:
    """Weights of both towers by name, none of them zero, so that each of them shows."""
    rng = np.random.default_rng(seed)
    return {
        f"{tower}.{name}": rng.normal(scale=0.4, size=size).astype(np.float32)
        for tower, inputs in (("user", users), ("item", items))
        for name, size in weight_shapes(inputs, shape, has_history=tower == "user").items()
    }


def make_model(
    weights: Mapping[str, np.ndarray] | None = None,
    users: TowerInputs = USERS,
    items: TowerInputs = ITEMS,
    shape: Shape = SHAPE,
    **card: Any,
) -> bytes:
    """The file of a model; `card` is what the training would tell of itself."""
    return pack_model(make_weights(users, items, shape) if weights is None else weights, users, items, shape, card)
