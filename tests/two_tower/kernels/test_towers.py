"""What numpy computes of the towers is what torch learns, and a loop in Python gives the same."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.two_tower.kernels.inputs import Encoded, Field, TowerInputs
from recsys_spark.two_tower.kernels.torch_towers import Pooled, TwoTower, as_rows
from recsys_spark.two_tower.kernels.towers import (
    Shape,
    Tower,
    bag_sums,
    embed,
    history_weights,
    pool_history,
    weight_shapes,
)

CPU = torch.device("cpu")
BOTH = TowerInputs((Field("brand", "category"), Field("price", "number")), n_buckets=11)
WITH_ID = TowerInputs((*BOTH.fields, Field("item_id", "id")), n_buckets=11, n_ids=7)
DENSE = TowerInputs((Field("price", "number"),), n_buckets=0)
HASHED = TowerInputs((Field("brand", "category"),), n_buckets=11)
NOTHING = TowerInputs((), n_buckets=0)
ONLY_ID = TowerInputs((Field("item_id", "id"),), n_buckets=0, n_ids=7)
INPUTS = {"both": BOTH, "with-id": WITH_ID, "dense": DENSE, "hashed": HASHED, "nothing": NOTHING, "only-id": ONLY_ID}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _encoded(rng: np.random.Generator, inputs: TowerInputs, n: int, filled: bool = True) -> Encoded:
    """Rows with bags of 0 to 3 values, or with empty ones."""
    lengths = rng.integers(0, 4, n) * (inputs.n_buckets > 0) * filled
    total = int(lengths.sum())
    return Encoded(
        rng.normal(size=(n, inputs.width)).astype(np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rng.integers(0, max(1, inputs.n_buckets), total).astype(np.int32),
        rng.normal(size=total).astype(np.float32),
        rng.integers(-1, inputs.n_ids, n).astype(np.int32) if inputs.n_ids else np.empty(0, np.int32),
    )


def _tower(arrays: dict[str, np.ndarray], name: str) -> Tower:
    return Tower(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(Tower)})


def _model(rng: np.random.Generator, users: TowerInputs, items: TowerInputs, shape: Shape) -> TwoTower:
    """No weight of it is zero, so that each of them shows."""
    model = TwoTower(users, items, shape, 0.1, False, 0)
    model.load({name: rng.normal(scale=0.4, size=array.shape).astype("f4") for name, array in model.arrays().items()})
    return model


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("filled", [True, False], ids=["bags", "empty-bags"])
@pytest.mark.parametrize("item_inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("user_inputs", [BOTH, NOTHING], ids=["user-features", "no-user-features"])
def test_embed_equals_torch(user_inputs: TowerInputs, item_inputs: TowerInputs, filled: bool, normalize: bool) -> None:
    rng = np.random.default_rng(1)
    shape = Shape(dim=6, hidden=5, normalize=normalize, history_items=4, half_life_items=2.0)
    model = _model(rng, user_inputs, item_inputs, shape)
    users, items = _encoded(rng, user_inputs, 9, filled), _encoded(rng, item_inputs, 12, filled)
    lengths = np.array([0, 3, 1, 0, 4, 2, 0, 1, 0])
    history = rng.integers(0, 12, lengths.sum())
    weights = torch.as_tensor(history_weights(lengths, 2.0))
    pooled = Pooled(torch.as_tensor(history), weights, torch.as_tensor(np.cumsum(lengths) - lengths))
    with torch.no_grad():
        by_torch = [
            part.numpy() for part in model(as_rows(users, CPU), as_rows(items, CPU), keep=None, histories=pooled)
        ]
    arrays = model.arrays()
    item_vectors = embed(_tower(arrays, "item"), items, None, normalize)
    user_vectors = embed(_tower(arrays, "user"), users, pool_history(item_vectors, history, lengths, 2.0), normalize)
    np.testing.assert_allclose(user_vectors, by_torch[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(item_vectors, by_torch[1], rtol=1e-5, atol=1e-5)
    assert (user_vectors.dtype, item_vectors.dtype) == (np.float32, np.float32)


def test_embed_equals_torch_when_nobody_has_a_history() -> None:
    rng = np.random.default_rng(2)
    shape = Shape(dim=4, hidden=3, normalize=True, history_items=4, half_life_items=2.0)
    model, n = _model(rng, BOTH, WITH_ID, shape), 3
    users, items = _encoded(rng, BOTH, n), _encoded(rng, WITH_ID, 2)
    nothing, begin = torch.empty(0, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)
    with torch.no_grad():
        by_torch, _, _ = model(as_rows(users, CPU), as_rows(items, CPU), None, Pooled(nothing, torch.empty(0), begin))
    empty = pool_history(np.zeros((2, 4), np.float32), np.empty(0, np.int32), np.zeros(n, np.int64), 2.0)
    found = embed(_tower(model.arrays(), "user"), users, empty, True)
    np.testing.assert_allclose(found, by_torch.numpy(), rtol=1e-5, atol=1e-5)


def test_embed_of_one_row_is_the_formula() -> None:
    tower = Tower(
        dense=np.array([[1.0, 0.0]], np.float32),
        buckets=np.array([[0.0, 0.0], [10.0, 20.0]], np.float32),
        ids=np.array([[100.0, 200.0]], np.float32),
        history=np.array([[2.0, 0.0], [0.0, 3.0]], np.float32),
        bias=np.array([0.5, 0.25], np.float32),
        into=np.array([[1.0, -1.0], [0.0, 0.0]], np.float32),
        into_bias=np.array([1.0, 1.0], np.float32),
        out=np.array([[0.0, 1.0], [7.0, 7.0]], np.float32),
        out_bias=np.array([0.125, 0.0], np.float32),
    )
    row = Encoded(
        *(np.array(part, t) for part, t in (([[4]], "f4"), ([0, 1], "i8"), ([1], "i4"), ([0.5], "f4"), ([0], "i4")))
    )
    x0 = 0.5 + 4 * 1.0 + 0.5 * 10 + 100 + 2 * 3.0
    x1 = 0.25 + 0.5 * 20 + 200 + 3 * 5.0
    e = [x0 + 0.125, x1 + (x0 + 1.0)]  # the second hidden unit, 1 - x0, is below 0
    np.testing.assert_allclose(embed(tower, row, np.array([[3.0, 5.0]], np.float32), False), [e], rtol=1e-6)
    np.testing.assert_allclose(
        embed(tower, row, np.array([[3.0, 5.0]], np.float32), True), [np.array(e) / np.hypot(*e)], rtol=1e-6
    )


def _zero_tower(inputs: TowerInputs, shape: Shape) -> dict[str, np.ndarray]:
    return {name: np.zeros(size, np.float32) for name, size in weight_shapes(inputs, shape, False).items()}


SMALL = Shape(dim=2, hidden=3, normalize=True, history_items=1, half_life_items=1.0)


def test_embed_leaves_a_vector_of_zeros_one() -> None:
    rows = _encoded(np.random.default_rng(3), DENSE, 2)
    assert embed(Tower(**_zero_tower(DENSE, SMALL)), rows, None, True).tolist() == [[0.0, 0.0]] * 2


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_embed_refuses_what_is_not_finite(wrong: float) -> None:
    values = np.array([3, 3], np.int32), np.ones(2, np.float32)
    rows = Encoded(np.empty((3, 0), np.float32), np.array([0, 1, 1, 2]), *values, np.empty(0, np.int32))
    weights = _zero_tower(HASHED, SMALL)
    weights["buckets"][3] = wrong
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(KernelError, match="expected finite embeddings, got 2 others of 3"),
    ):
        embed(Tower(**weights), rows, None, True)


def test_weight_shapes_are_those_of_a_tower() -> None:
    shapes = weight_shapes(WITH_ID, SMALL, has_history=True)
    assert list(shapes) == [field.name for field in fields(Tower)]
    assert [shapes[name] for name in ("dense", "buckets", "ids", "history")] == [(2, 2), (11, 2), (7, 2), (2, 2)]
    assert weight_shapes(WITH_ID, SMALL, has_history=False)["history"] == (0, 2)


_lengths = st.lists(st.integers(0, 6), max_size=8).map(lambda values: np.array(values, np.int64))


@given(_lengths, st.sampled_from([1e-3, 0.5, 1.0, 5.0, 1e3, 1e9, 1e17, 1e300]))
def test_history_weights_halve_by_place_and_sum_to_1(lengths: np.ndarray, half_life_items: float) -> None:
    found = history_weights(lengths, half_life_items)
    raw = [[0.5 ** (place / half_life_items) for place in range(length)] for length in lengths]
    expected = [weight / sum(weights) for weights in raw for weight in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)  # float32 has nothing smaller
    parts = np.split(found, np.cumsum(lengths)[:-1]) if len(lengths) else []
    np.testing.assert_allclose([part.sum() for part in parts], np.minimum(lengths, 1), rtol=1e-6)


@given(_lengths, st.integers(0, 2**32 - 1))
def test_pool_history_matches_a_loop(lengths: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(5, 3)).astype(np.float32)
    items = rng.integers(0, 5, lengths.sum())
    expected, at = np.zeros((len(lengths), 3)), 0
    for row, length in enumerate(lengths):
        weights = [0.5 ** (place / 2.0) for place in range(length)]
        for weight in weights:
            expected[row] += weight / sum(weights) * vectors[items[at]]
            at += 1
    found = pool_history(vectors, items, lengths, 2.0)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_bag_sums_of_bags_that_are_empty_at_either_end() -> None:
    table = np.array([[1, 10], [2, 20], [4, 40]], np.float32)
    bags = Encoded(
        np.empty((5, 0), np.float32),
        np.array([0, 0, 2, 2, 3, 3]),
        np.array([2, 0, 1], np.int32),
        np.array([0.5, 3, -1], np.float32),
        np.empty(0, np.int32),
    )
    assert bag_sums(table, bags).tolist() == [[0, 0], [4 * 0.5 + 1 * 3, 40 * 0.5 + 10 * 3], [0, 0], [-2, -20], [0, 0]]
