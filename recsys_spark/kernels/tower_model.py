"""A trained two-tower model as one file: the weights of both towers, and all that is needed to use them.

Owns: what the card of a model says, and that card and weights belong together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from recsys_spark.errors import DamagedError
from recsys_spark.kernels.model_file import pack, unpack
from recsys_spark.kernels.tower_inputs import TowerInputs
from recsys_spark.kernels.towers import Shape, Tower, weight_shapes

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class TowerModel:
    """Both towers with what they take.

    version: the SHA-256 of the file.  card: how the model was trained, with `metrics` by epoch, `seed` and `data`.
    """

    user: Tower
    item: Tower
    user_inputs: TowerInputs
    item_inputs: TowerInputs
    shape: Shape
    version: str
    card: Mapping[str, Any]


def pack_model(
    weights: Mapping[str, np.ndarray],
    user_inputs: TowerInputs,
    item_inputs: TowerInputs,
    shape: Shape,
    card: Mapping[str, Any],
) -> bytes:
    """The file of a model.  weights: `user.NAME` and `item.NAME` of `towers.weight_shapes`, others are kept."""
    form = {"user_inputs": user_inputs.as_json(), "item_inputs": item_inputs.as_json(), "shape": asdict(shape)}
    return pack(weights, {**card, **form})


def load_model(data: bytes) -> TowerModel:
    """The model in a file whose hash was checked.

    Raises DamagedError if it is no model file, or if its weights are not those that its card declares.
    """
    tensors, card = unpack(data)
    try:
        shape = Shape(**card["shape"])
        inputs = {name: TowerInputs.from_json(card[f"{name}_inputs"]) for name in ("user", "item")}
    except (KeyError, TypeError) as err:
        raise DamagedError(
            f"model card: expected shape, user_inputs and item_inputs, got a card without a whole {err}; run the date "
            "again"
        ) from err
    towers = {name: _tower(name, tensors, inputs[name], shape) for name in inputs}
    return TowerModel(
        towers["user"], towers["item"], inputs["user"], inputs["item"], shape, sha256(data).hexdigest(), card
    )


def _tower(name: str, tensors: Mapping[str, np.ndarray], inputs: TowerInputs, shape: Shape) -> Tower:
    expected = weight_shapes(inputs, shape, has_history=name == "user")
    found = {part: tensors[f"{name}.{part}"].shape for part in expected if f"{name}.{part}" in tensors}
    if found != expected:
        wrong = sorted(part for part in expected if found.get(part) != expected[part])[0]
        raise DamagedError(
            f"model {name}.{wrong}: expected the shape {expected[wrong]} that its features ask for, got "
            f"{found.get(wrong, 'none')}; run the date again"
        )
    return Tower(**{part: tensors[f"{name}.{part}"] for part in expected})
