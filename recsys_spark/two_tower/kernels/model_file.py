"""A trained two-tower model as one safetensors file: the weights of both towers, and a card that says what they are.

Owns: what the card of a model says, and that card and weights belong together.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from operator import itemgetter
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.two_tower.kernels.inputs import TowerInputs
from recsys_spark.two_tower.kernels.towers import Shape, Tower, weight_shapes

FORMAT = 1

_CARD = "card"
_METADATA = "__metadata__"  # of the safetensors header, where no tensor may have this name
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}
_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


SUFFIX = ".safetensors"


def pack(tensors: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> bytes:
    """The file; the same tensors and card give the same bytes, in whatever order they come.

    tensors: float32, int32 or int64, finite.  card: what JSON can hold; its key `format` is this file's own.
    Raises KernelError with all that cannot be stored.
    """
    faults = [f"{name} of {array.dtype}" for name, array in tensors.items() if array.dtype not in _DTYPES.values()]
    faults += [f"{name} not finite" for name in _not_finite(tensors)]
    faults += [f"a tensor called {_METADATA}"] if _METADATA in tensors else []
    faults += ["a card with its own format"] if "format" in card else []
    if faults:
        raise KernelError(
            f"model file: expected finite tensors of float32, int32 or int64 and a card, got {', '.join(faults)}; "
            "convert the tensors, train with a lower learning rate if they are not finite, or rename the key"
        )
    try:
        text = json.dumps({**card, "format": FORMAT}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise KernelError(f"model file: expected a card that JSON can hold, got {err}; convert its values") from err
    # safetensors stores the memory behind an array: rows that are not in C order would come back as others.
    in_order = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(in_order, {_CARD: text})


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by ascending name, and the card as it was packed.

    Raises DamagedError for what is not such a file, is cut, has another format, or holds a tensor that is not finite.
    """
    try:
        in_any_order: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as err:
        raise DamagedError(f"model file: expected safetensors, got {len(data)} bytes: {err}; {_RERUN}") from err
    stored = sorted(in_any_order, key=itemgetter(0))
    card = _card_of(data)
    if alien := [f"{name} of {spec['dtype']}" for name, spec in stored if spec["dtype"] not in _DTYPES]:
        raise DamagedError(f"model file: expected tensors of {', '.join(_DTYPES)}, got {', '.join(alien)}; {_RERUN}")
    tensors = {
        name: np.frombuffer(spec["data"], _DTYPES[spec["dtype"]]).reshape(spec["shape"]) for name, spec in stored
    }
    if broken := _not_finite(tensors):
        raise DamagedError(f"model file: expected finite tensors, got NaN or Inf in {', '.join(broken)}; {_RERUN}")
    return tensors, card


def _card_of(data: bytes) -> dict[str, Any]:
    """The card in the header of a valid safetensors file, checked and without its format."""
    n_header = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + n_header]).get(_METADATA) or {}
    if _CARD not in metadata:
        raise DamagedError(f"model file: expected a card in its header, got none; {_RERUN}")
    try:
        card = json.loads(metadata[_CARD])
    except (ValueError, RecursionError) as err:
        raise DamagedError(f"model file: expected a card in JSON, got {err}; {_RERUN}") from err
    found = card.pop("format", None) if isinstance(card, dict) else None
    if found != FORMAT:
        raise DamagedError(
            f"model file: expected a card of format {FORMAT}, got {found}; read it with the version of recsys-spark "
            f"that wrote it, or {_RERUN}"
        )
    return card  # type: ignore[no-any-return]


def _not_finite(tensors: Mapping[str, np.ndarray]) -> list[str]:
    floats = {name: array for name, array in tensors.items() if array.dtype == np.float32}
    return sorted(name for name, array in floats.items() if not np.isfinite(array).all())


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
