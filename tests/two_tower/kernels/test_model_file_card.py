"""A model file gives back what was packed, and nothing that it holds is ever run."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.two_tower.kernels.model_file import pack, unpack

CARD = {"dim": 4, "features": ["country", "größe"], "metrics": {"recall": 0.25}, "warm_start": None}


def _tensors() -> dict[str, np.ndarray]:
    return {
        "item.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "vocabulary": np.array([1 << 40, -1], np.int64),
        "buckets": np.empty((0, 2), np.int32),
        "temperature": np.array(0.05, np.float32),
    }


def _file(card: str | None, **tensors: np.ndarray) -> bytes:
    """A safetensors file that `pack` would not write."""
    return save(tensors, None if card is None else {"card": card})


def _with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _write_canary(path: str) -> None:
    Path(path).write_text("the payload ran")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _write_canary, (str(self.path),)


def test_unpack_gives_what_was_packed() -> None:
    tensors, card = unpack(pack(_tensors(), CARD))
    assert card == CARD
    assert list(tensors) == sorted(_tensors())
    for name, expected in _tensors().items():
        assert (tensors[name].dtype, tensors[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(tensors[name], expected)


def test_unpack_gives_a_file_without_tensors() -> None:
    assert unpack(pack({}, {})) == ({}, {})


def test_pack_gives_the_same_bytes_in_whatever_order() -> None:
    tensors = {f"layer{i}": np.full(i, i, (np.float32, np.int32, np.int64)[i % 3]) for i in range(30)}
    card = {f"key{i}": i for i in range(30)}
    backwards = dict(reversed(tensors.items())), dict(reversed(card.items()))
    assert pack(*backwards) == pack(tensors, card)


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=np.float32).reshape(2, 3).T, np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2]],
    ids=["transposed", "every-second-column"],
)
def test_pack_stores_the_values_of_an_array_that_is_not_in_c_order(array: np.ndarray) -> None:
    tensors, _ = unpack(pack({"a": array}, {}))
    np.testing.assert_array_equal(tensors["a"], array)


def test_pack_names_everything_that_it_refuses() -> None:
    tensors = {
        "wide": np.zeros(1),
        "other_end": np.zeros(1, ">f4"),
        "object": np.array([object()]),
        "nan": np.array([np.nan], np.float32),
        "inf": np.array([[-np.inf]], np.float32),
        "good": np.zeros(1, np.float32),
        "__metadata__": np.zeros(1, np.float32),
    }
    with pytest.raises(KernelError) as refused:
        pack(tensors, {"format": 1})
    assert (
        "got wide of float64, other_end of >f4, object of object, inf not finite, nan not finite, "
        "a tensor called __metadata__, a card with its own format; "
    ) in str(refused.value)


@pytest.mark.parametrize("value", [np.float32(1), {1, 2}, float("nan"), b"x"], ids=repr)
def test_pack_refuses_a_card_that_json_cannot_hold(value: object) -> None:
    with pytest.raises(KernelError, match="expected a card that JSON can hold"):
        pack({}, {"metric": value})


def _zipped(pickled: bytes) -> bytes:
    """As torch stores a model."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
    return file.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_unpack_refuses_a_pickle_and_does_not_run_it(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    pickled = pickle.dumps(Payload(canary), protocol)
    for data in (pickled, _zipped(pickled), _with_header(pickled), _file(pickled.decode("latin-1"))):
        with pytest.raises(DamagedError, match="model file: expected"):
            unpack(data)
    assert not canary.exists()
    pickle.loads(pickled)
    assert canary.exists()  # so it would have run


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected safetensors, got 0 bytes"),
        (b"PAR1" * 10, "expected safetensors, got 40 bytes"),
        (_with_header(b"{not json}"), "expected safetensors, got 18 bytes: .*invalid JSON in header"),
        (_with_header(b"[]"), "expected safetensors.*invalid JSON in header"),
        (_with_header(b'{"__metadata__":{"card":1}}'), "expected safetensors.*invalid JSON in header"),
        (_with_header(b"{}"), "expected a card in its header, got none"),
        (_file(None, a=np.zeros(1, np.float32)), "expected a card in its header, got none"),
        (save({}, {"other": "{}"}), "expected a card in its header, got none"),
        (_file("not json"), "expected a card in JSON, got Expecting value"),
        (_file("[" * 100_000), "expected a card in JSON, got maximum recursion"),
        (_file("[1]"), "expected a card of format 1, got None"),
        (_file("{}"), "expected a card of format 1, got None"),
        (_file('{"format":2}'), "expected a card of format 1, got 2; read it with the version"),
        (_file('{"format":1}', a=np.zeros(1), b=np.zeros(1, np.int8)), "F32, I32, I64, got a of F64, b of I8; "),
        (_file('{"format":1}', a=np.array([1, np.nan], np.float32)), "expected finite tensors, got NaN or Inf in a"),
        (_file('{"format":1}', a=np.array([np.inf], np.float32)), "expected finite tensors, got NaN or Inf in a"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_unpack_refuses_what_is_no_model_file(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message) as refused:
        unpack(data)
    assert "run the date again" in str(refused.value)


def test_unpack_refuses_a_type_that_numpy_lacks() -> None:
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}, "__metadata__": {"card": '{"format":1}'}}
    with pytest.raises(DamagedError, match="got a of BF16"):
        unpack(_with_header(json.dumps(header).encode(), bytes(4)))


def test_unpack_refuses_every_cut() -> None:
    data = pack(_tensors(), CARD)
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            unpack(data[:length])


def test_unpack_of_a_flipped_bit_is_refused_or_a_model_but_no_crash() -> None:
    data = pack(_tensors(), CARD)
    refused = 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            unpack(bytes(flipped))
        except DamagedError:
            refused += 1
    # What is left is for the hash to find.
    assert 0 < refused < len(data) * 8


def test_model_file_needs_neither_torch_nor_spark() -> None:
    code = (
        "import sys, recsys_spark.two_tower.kernels.model_file; sys.exit(bool({'torch', 'pyspark'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
