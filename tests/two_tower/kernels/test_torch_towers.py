"""The torch module: how it begins, what it drops, and that its weights travel as plain arrays.

That its embeddings are those of numpy stands in `test_towers`.
"""

import numpy as np
import pytest
import torch

from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.torch_towers import EncodedTensors, Pooled, TwoTower, as_rows
from recsys_spark.two_tower.kernels.towers import Shape
from tests.two_groups import ITEMS, SHAPE, USERS, catalogue, users

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _model(seed: int = 0, items: TowerInputs = ITEMS, temperature: float = 0.1, learn: bool = False) -> TwoTower:
    return TwoTower(USERS, items, SHAPE, temperature, learn, seed)


def _rows(n: int = 5) -> tuple[EncodedTensors, EncodedTensors, Pooled]:
    """Users with one item of history each, and all items."""
    begin = torch.arange(n)
    return as_rows(users(n).encoded, CPU), as_rows(catalogue(), CPU), Pooled(begin + 3, torch.ones(n), begin)


@pytest.mark.parametrize("seed", [3, 2**63 + 5, 2**64 - 1])
def test_two_tower_begins_with_the_same_weights_for_a_seed(seed: int) -> None:
    first, again, other = (_model(one).arrays() for one in (seed, seed, seed - 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["item.ids"], other["item.ids"])


def test_two_tower_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    _model()
    assert torch.rand(1) == expected


def test_two_tower_begins_with_a_user_as_bias_features_and_the_mean_of_their_items() -> None:
    shape = Shape(dim=8, hidden=8, normalize=False, history_items=3, half_life_items=2.0)
    model = TwoTower(USERS, ITEMS, shape, 0.1, False, 0)
    who, items, pooled = _rows()
    without = model(who, items, None, pooled._replace(weights=torch.zeros(5)))[0]
    found, vectors, _ = model(who, items, None, pooled)
    # One rounding of float32.
    torch.testing.assert_close(found - without, vectors[3:8], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_scale_begins_at_one_over_the_temperature(temperature: float) -> None:
    *_, scale = _model(temperature=temperature)(*_rows()[:2], None, _rows()[2])
    assert float(scale) == pytest.approx(1 / temperature, rel=1e-6)


@pytest.mark.parametrize("learn", [True, False])
def test_scale_is_learnt_if_asked_for(learn: bool) -> None:
    model = _model(learn=learn)
    who, items, pooled = _rows()
    found, vectors, scale = model(who, items, None, pooled)
    ((found * vectors[:5]).sum() * scale).backward()
    assert (model.log_scale.grad is not None) == learn


def test_keep_decides_whose_id_counts() -> None:
    model, items = _model(), as_rows(catalogue(), CPU)
    whole = model.item(items, None, None).detach()
    bare = model.item(items._replace(ids=torch.empty(0, dtype=torch.int64)), None, None).detach()
    keep = torch.zeros(len(whole))
    keep[::2] = 1.0
    found = model.item(items, keep, None).detach()
    assert torch.equal(found[::2], whole[::2])
    assert torch.equal(found[1::2], bare[1::2])
    assert not torch.isclose(whole, bare).all(dim=1).any()


def test_item_tower_learns_from_the_histories_of_users() -> None:
    model = _model()
    who, items, pooled = _rows(1)
    found, _, _ = model(who, items, None, pooled)
    found[:, 0].sum().backward()
    assert model.item.ids.grad is not None
    row = catalogue().ids[3]  # the one item of that history
    assert model.item.ids.grad[row].abs().sum() > 0
    assert model.item.ids.grad.abs().sum() == model.item.ids.grad[row].abs().sum()


def test_load_takes_what_arrays_gave() -> None:
    one, other = _model(1, temperature=0.2), _model(2)
    other.load(one.arrays())
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)


def test_arrays_are_copies() -> None:
    model = _model()
    model.arrays()["item.bias"][:] = 7.0
    arrays = model.arrays()
    assert not (arrays["item.bias"] == 7.0).any()
    model.load(arrays)
    arrays["item.bias"][:] = 7.0
    assert not (model.arrays()["item.bias"] == 7.0).any()


def test_load_refuses_the_weights_of_another_model() -> None:
    model = _model()
    arrays = model.arrays()
    with pytest.raises(RuntimeError, match=r"item\.bias"):
        model.load({name: array for name, array in arrays.items() if name != "item.bias"})
    with pytest.raises(RuntimeError, match=r"item\.bias"):
        model.load(arrays | {"item.bias": np.zeros(9, np.float32)})


def test_start_from_takes_what_still_fits_and_names_the_rest() -> None:
    fields = (Field("category", "category"), Field("item_id", "id"))
    earlier, model = _model(1, TowerInputs(fields, 16, 512)), _model(2)
    began = model.arrays()
    others = {name: array for name, array in earlier.arrays().items() if name != "user.bias"} | {"dropped": np.ones(1)}
    # It had no price, which is two dense columns, and another table of ids.
    assert model.start_from(others) == ["item.dense", "item.ids", "log_scale", "user.bias"]
    for name, array in model.arrays().items():
        source = began if name in ("item.dense", "item.ids", "log_scale", "user.bias") else others
        np.testing.assert_array_equal(array, source[name])


@pytest.mark.parametrize(("learn", "temperature"), [(True, 0.5), (False, 0.2)])
def test_start_from_leaves_a_temperature_that_is_not_learnt_as_it_is_set(learn: bool, temperature: float) -> None:
    model = _model(temperature=0.2, learn=learn)
    model.start_from(_model(temperature=0.5).arrays())
    assert float(model.log_scale.detach().exp()) == pytest.approx(1 / temperature, rel=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no GPU: its parity with the CPU is not tested here"
)
def test_two_tower_on_a_gpu_gives_embeddings_and_gradients_of_the_cpu() -> None:
    found = {}
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        model = _model().to(device)
        begin = torch.arange(5, device=device)
        pooled = Pooled(begin + 3, torch.ones(5, device=device), begin)
        who, items, scale = model(as_rows(users(5).encoded, device), as_rows(catalogue(), device), None, pooled)
        torch.logsumexp(who @ items.T * scale, 1).sum().backward()
        gradients = {one: value.grad.cpu() for one, value in model.named_parameters() if value.grad is not None}
        found[name] = {"users": who.detach().cpu(), "items": items.detach().cpu(), **gradients}
    assert found["cpu"].keys() == found["cuda"].keys()
    for name, expected in found["cpu"].items():
        # Sums of float32 in another order.
        torch.testing.assert_close(found["cuda"][name], expected, rtol=1e-4, atol=1e-5, msg=name)
