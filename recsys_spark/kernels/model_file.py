"""A model as one file: its tensors, and a card that says what they are.

Owns: the form of the file, safetensors with the card as JSON in its header; reading it runs no code, whatever is in it.
Whether a file is the one that was stored is for its hash to say: a flipped bit may well give another valid tensor.
"""

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from recsys_spark.errors import DamagedError, KernelError

FORMAT = 1

_CARD = "card"
_METADATA = "__metadata__"  # of the safetensors header, where no tensor may have this name
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}
_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


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
