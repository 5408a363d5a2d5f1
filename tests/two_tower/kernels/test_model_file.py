"""A model file gives back both towers, and says which part of it does not fit."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from recsys_spark.errors import DamagedError
from recsys_spark.two_tower.kernels.model_file import load_model, pack, pack_model, unpack
from recsys_spark.two_tower.kernels.towers import Tower, weight_shapes
from tests.two_groups import ITEMS, SHAPE, USERS

CARD = {"seed": 5, "metrics": [{"loss": 2.5, "recall": 0.25}], "data": {"events": 3}}


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    found = {"log_scale": np.array(2.0, np.float32)}
    for name, inputs in (("user", USERS), ("item", ITEMS)):
        shapes = weight_shapes(inputs, SHAPE, has_history=name == "user")
        found |= {f"{name}.{part}": rng.normal(size=size).astype(np.float32) for part, size in shapes.items()}
    return found


def _packed(weights: dict[str, np.ndarray] | None = None) -> bytes:
    return pack_model(_weights() if weights is None else weights, USERS, ITEMS, SHAPE, CARD)


def test_load_model_gives_what_was_packed() -> None:
    model, weights = load_model(_packed()), _weights()
    assert (model.user_inputs, model.item_inputs, model.shape) == (USERS, ITEMS, SHAPE)
    assert {name: model.card[name] for name in CARD} == CARD
    for name, tower in (("user", model.user), ("item", model.item)):
        for field in fields(Tower):
            np.testing.assert_array_equal(getattr(tower, field.name), weights[f"{name}.{field.name}"])


def test_pack_model_keeps_the_other_weights() -> None:
    assert unpack(_packed())[0]["log_scale"] == 2.0


def test_version_changes_with_the_weights_and_only_with_the_content() -> None:
    weights = _weights()
    other = weights | {"item.bias": weights["item.bias"] + 1}
    versions = [load_model(_packed(one)).version for one in (weights, dict(reversed(weights.items())), other)]
    assert versions[0] == versions[1] != versions[2]
    assert len(bytes.fromhex(versions[0])) == 256 / 8


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("user.history", np.zeros((0, 8)), r"model user.history: expected the shape \(8, 8\).*, got \(0, 8\)"),
        ("item.history", np.zeros((8, 8)), r"model item.history: expected the shape \(0, 8\).*, got \(8, 8\)"),
        ("item.ids", np.zeros((255, 8)), r"model item.ids: expected the shape \(256, 8\).*, got \(255, 8\)"),
        ("user.dense", np.zeros((2, 8)), r"model user.dense: expected the shape \(0, 8\).*, got \(2, 8\)"),
        ("item.bias", np.zeros((8, 1)), r"model item.bias: expected the shape \(8,\).*, got \(8, 1\)"),
        ("user.out", None, r"model user.out: expected the shape \(8, 8\).*, got none"),
        ("item.into", None, r"model item.into: expected the shape \(8, 8\).*, got none"),
    ],
)
def test_load_model_refuses_weights_that_its_card_does_not_declare(
    name: str, array: np.ndarray | None, message: str
) -> None:
    weights = {part: values for part, values in _weights().items() if part != name}
    if array is not None:
        weights[name] = array.astype(np.float32)
    with pytest.raises(DamagedError, match=message):
        load_model(_packed(weights))


def test_load_model_refuses_a_card_of_other_features() -> None:
    without_id = replace(ITEMS, fields=ITEMS.fields[:2], n_ids=0)
    with pytest.raises(DamagedError, match=r"model item\.ids"):
        load_model(pack_model(_weights(), USERS, without_id, SHAPE, CARD))


def _card(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (unpack(_packed())[1] | changes).items() if value is not None}


SHAPE_CARD = {"dim": 8, "hidden": 8, "normalize": True, "history_items": 3, "half_life_items": 2.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": None}, "model card: expected shape.*'shape'"),
        ({"user_inputs": None}, "model card: .*'user_inputs'"),
        ({"item_inputs": None}, "model card: .*'item_inputs'"),
        ({"shape": [8, 8]}, "model card: expected shape"),
        ({"shape": {"dim": 8}}, "model card: expected shape.*hidden"),
        ({"shape": SHAPE_CARD | {"depth": 2}}, "model card: expected shape.*depth"),
        ({"shape": SHAPE_CARD | {"dim": 9}}, "model user.bias: expected the shape"),
        ({"shape": SHAPE_CARD | {"dim": "8"}}, "model user.bias: expected the shape"),
        ({"item_inputs": {"fields": []}}, "tower inputs: expected what the card"),
        ({"item_inputs": []}, "tower inputs: expected what the card"),
        ({"user_inputs": {"fields": [{"name": "x", "kind": "sound"}], "n_buckets": 0, "n_ids": 0}}, "tower inputs"),
    ],
)
def test_load_model_refuses_a_damaged_card(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        load_model(pack(_weights(), _card(**changes)))


def test_load_model_refuses_what_is_no_model_file() -> None:
    for data in (b"", _packed()[:-1], b"\x80\x04K\x01."):
        with pytest.raises(DamagedError, match="model file"):
            load_model(data)
