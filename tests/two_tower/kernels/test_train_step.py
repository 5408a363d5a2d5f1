"""Steps of training: the gradient that is promised, the same from one process and from many, and a world learnt."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_spark.numeric.top_k import search_items
from recsys_spark.two_tower.kernels.batches import (
    NONE,
    Batch,
    Draws,
    Shard,
    after_split,
    batches_of,
    expected_log_counts,
    known_from,
    proposal,
    take,
)
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.two_tower.kernels.torch_towers import Pooled, TwoTower, as_rows
from recsys_spark.two_tower.kernels.towers import Tower, embed, pool_history
from recsys_spark.two_tower.kernels.train_step import EncodedItems, Learning, Trainer
from recsys_spark.two_tower.kernels.validation import hard_items, validated_metrics, validated_rows
from tests.two_groups import ITEMS, N_ITEMS, N_NEW, PER_USER, SHAPE, SPLIT, USERS, catalogue, shard_of, users

CPU = torch.device("cpu")
UNIFORM = proposal(np.ones(N_ITEMS), np.ones(N_ITEMS, bool), "uniform")
LOG_Q = expected_log_counts(UNIFORM, 63, UNIFORM, 5)
# What a user of a group has not had: a list of that length finds all that is new if it holds this group alone.
K = N_ITEMS // 2 - (PER_USER - N_NEW)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _trainer(
    sum_: Callable[[Tensor], None] | None = None,
    expected: np.ndarray = LOG_Q,
    engaged: np.ndarray | None = None,
    **changes: Any,
) -> Trainer:
    learning = {
        "loss": "softmax",
        "log_q": True,
        "learning_rate": 0.02,
        "id_dropout": 0.0,
        "margin": 0.5,
        "n_steps": 80,
    }
    engaged = np.empty(0, np.int64) if engaged is None else engaged
    model = TwoTower(USERS, ITEMS, SHAPE, 0.2, True, 3)
    return Trainer(
        model, EncodedItems(catalogue(), expected, engaged), SHAPE, Learning(**learning | changes), CPU, sum_
    )


def _batches(
    shard: Shard, size: int = 64, n_hard: int = 0, hard: np.ndarray | None = None, seed: int = 1
) -> list[Batch]:
    rng = np.random.default_rng(seed)
    known = shard.indptr[:-1]
    return list(batches_of(shard, known, hard, Draws(UNIFORM, 5, n_hard), SHAPE.history_items, size, rng))


def _without_segments(shard: Shard) -> Shard:
    n = len(shard.users)
    indptr = np.zeros(n + 1, np.int64)
    nothing = shard.encoded._replace(indptr=indptr, buckets=np.empty(0, "i4"), weights=np.empty(0, "f4"))
    return shard._replace(encoded=nothing)


def _recall(trainer: Trainer, shard: Shard, validated: np.ndarray) -> float:
    vectors = trainer.embed_items()
    rows = validated_rows(shard, validated, SPLIT)
    embedded = trainer.embed_users(shard, rows, after_split(shard, rows, SPLIT), vectors)
    return float(validated_metrics(shard, rows, SPLIT, embedded, search_items(vectors, None), K)[0].mean())


def _fit(trainer: Trainer, n_hard: int = 0) -> tuple[list[float], float, float]:
    """Loss by epoch, recall before and after, of 40 users whose newest items are not learnt from."""
    shard = users(120)
    validated = np.arange(120) % 3 == 0
    known = known_from(shard, validated, SPLIT)
    before, losses, rng = _recall(trainer, shard, validated), [], np.random.default_rng(4)
    for _ in range(8):
        vectors = trainer.embed_items()
        everybody = trainer.embed_users(shard, np.arange(120), shard.indptr[:-1], vectors)
        hard = hard_items(shard, everybody, search_items(vectors, None), 5) if n_hard else None
        batches = batches_of(shard, known, hard, Draws(UNIFORM, 5, n_hard), SHAPE.history_items, 64, rng)
        losses.append(float(np.mean([trainer.step(shard, batch, rng).item() for batch in batches])))
    return losses, before, _recall(trainer, shard, validated)


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr", "triplet"])
def test_trainer_learns_which_group_likes_what(loss: str) -> None:
    losses, before, after = _fit(_trainer(loss=loss))
    # What a user had says their group from the beginning: the softmax begins at 3.19 and 16 epochs leave 2.92, too.
    assert losses[-1] < (0.92 if loss == "softmax" else 0.9) * losses[0]
    assert before < 0.8  # of lists in any order it is 16 / 36
    assert after > 0.95


def test_trainer_learns_with_hard_items() -> None:
    losses, _, after = _fit(_trainer(), n_hard=2)
    assert losses[-1] < 0.95 * losses[0]  # less than above: items that cannot be told from wanted ones stay so
    assert after > 0.95


def test_trainer_learns_from_features_when_all_ids_are_dropped() -> None:
    trainer = _trainer(id_dropout=1.0)
    ids = trainer.model.arrays()["item.ids"]
    _, before, after = _fit(trainer)
    assert before < 0.8
    assert after >= 0.9  # a seventh of the items has no category
    np.testing.assert_array_equal(trainer.model.arrays()["item.ids"], ids)


def _one_entry_each(n: int) -> Shard:
    """Users of two segments without a history, each with one item, some items much more often than others."""
    share = 1 / np.arange(1.0, N_ITEMS + 1)
    liked = np.random.default_rng(8).choice(N_ITEMS, n, p=share / share.sum())
    made = shard_of([[(int(item), 1, 1.0 + item % 3)] for item in liked])
    return made._replace(encoded=take(users(120).encoded, np.arange(n) % 120))


def _full_softmax(trainer: Trainer, shard: Shard) -> dict[str, Tensor]:
    """Gradients of the weighted mean of -log softmax over the whole catalogue."""
    n, model = len(shard.users), trainer.model
    none = Pooled(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.zeros(n, dtype=torch.int64))
    who, vectors, scale = model(as_rows(shard.encoded, CPU), as_rows(catalogue(), CPU), None, none)
    wanted, weights = torch.as_tensor(shard.items.astype(np.int64)), torch.as_tensor(shard.weights)
    lost = torch.nn.functional.cross_entropy(who @ vectors.T * scale, wanted, reduction="none")
    ((weights * lost).sum() / weights.sum()).backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def _far_from_full(log_q: bool, turn: float = 1.0) -> float:
    """How far the gradient of a step over a large batch is from that of the full softmax, of whose length."""
    n, n_random = 800, 300
    shard = _one_entry_each(n)
    share = np.bincount(shard.items, minlength=N_ITEMS) / n
    probabilities = proposal(share, share > 0, "popularity")
    trainer = _trainer(None, turn * expected_log_counts(share, n - 1, probabilities, n_random), log_q=log_q)
    full = _full_softmax(trainer, shard)
    draws = Draws(probabilities, n_random, 0)
    (batch,) = batches_of(shard, shard.indptr[:-1], None, draws, 3, n, np.random.default_rng(1))
    trainer.step(shard, batch, np.random.default_rng(1))
    found = {name: one.grad for name, one in trainer.model.named_parameters() if name in full and one.grad is not None}
    apart = sum(float((found[name] - full[name]).square().sum()) for name in full)
    return float(np.sqrt(apart / sum(float(grad.square().sum()) for grad in full.values())))


def test_step_has_the_gradient_of_the_full_softmax_with_log_q_alone() -> None:
    right, without, turned = _far_from_full(True), _far_from_full(False), _far_from_full(True, -1.0)
    assert right < 0.03
    assert without > 10 * right
    assert turned > 10 * right


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_step_learns_nothing_from_samples_that_are_the_wanted_item(loss: str) -> None:
    shard = users(2)
    batch = Batch(*(values[:1] for values in _batches(shard, n_hard=2, hard=np.full((2, 3), NONE, np.int32))[0]))
    hits = batch._replace(random=np.repeat(batch.positive[:, None], 5, axis=1))
    trainer = _trainer(loss=loss)
    assert trainer.step(shard, hits, np.random.default_rng(1)).item() == 0
    assert all((one.grad == 0).all() for one in trainer.optimizer.param_groups[0]["params"])
    assert trainer.step(shard, batch, np.random.default_rng(1)).item() > 0


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr", "triplet"])
def test_step_takes_absent_hard_items_for_none(loss: str) -> None:
    shard = users(20)
    absent = _batches(shard, n_hard=3, hard=np.full((20, 4), NONE, np.int32))[0]
    none = absent._replace(hard=absent.hard[:, :0])
    one, other = (_trainer(loss=loss).step(shard, batch, np.random.default_rng(1)) for batch in (absent, none))
    assert one.item() == pytest.approx(other.item(), rel=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr", "triplet"])
def test_step_pushes_hard_items_away(loss: str) -> None:
    """Beside what it does without them: the hard item of user 0, of their own group, loses."""
    shard, hard = users(2), np.array([[0], [N_ITEMS - 1]], np.int32)
    shard = shard._replace(items=np.where(shard.items == 0, 19, shard.items).astype(np.int32))
    found = []
    for n_hard in (0, 4):
        trainer = _trainer(loss=loss)
        batch = _batches(shard, n_hard=n_hard, hard=hard)[0]
        for _ in range(5):
            trainer.step(shard, batch, np.random.default_rng(1))
        vectors = trainer.embed_items()
        found.append(trainer.embed_users(shard, np.arange(1), shard.indptr[:1], vectors)[0] @ vectors[0])
    assert found[1] < found[0] - 0.01


def test_step_of_triplet_learns_nothing_without_an_item_before() -> None:
    shard = _one_entry_each(10)
    trainer = _trainer(loss="triplet")
    assert trainer.step(shard, _batches(shard)[0], np.random.default_rng(1)).item() == 0


def test_step_drops_about_the_share_of_ids_that_is_asked_for() -> None:
    trainer, shard = _trainer(id_dropout=0.3), users(60)
    kept: list[Tensor] = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[2]))
    rng = np.random.default_rng(2)
    for batch in _batches(shard):
        trainer.step(shard, batch, rng)
    flags = torch.cat(kept)
    assert set(flags.tolist()) == {0.0, 1.0}
    # Five deviations of as many flags.
    assert abs(float(flags.mean()) - 0.7) < 5 * (0.3 * 0.7 / len(flags)) ** 0.5


def test_step_lowers_the_rate_linearly_to_a_fiftieth() -> None:
    trainer, shard, rates = _trainer(learning_rate=0.5, n_steps=4), users(4), []
    for _ in range(6):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.step(shard, _batches(shard)[0], np.random.default_rng(1))
    np.testing.assert_allclose(rates, [0.5, 0.5 * 3 / 4, 0.5 * 2 / 4, 0.5 / 4, 0.5 * 0.02, 0.5 * 0.02])


class _Together:
    """Threads in the place of processes, each with its trainer; what one of them sums is summed over all."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.slots = size, Barrier(size, timeout=60), [torch.empty(0)] * size

    def summing(self, rank: int) -> Callable[[Tensor], None]:
        def add(values: Tensor) -> None:
            self.slots[rank] = values.clone()
            self.barrier.wait()
            values.copy_(torch.stack(self.slots).sum(dim=0))
            self.barrier.wait()

        return add

    def run(self, work: list[tuple[Shard, Batch]], **changes: Any) -> list[tuple[Trainer, float]]:
        """Every trainer after these steps, and its part of the losses."""

        def of(rank: int) -> tuple[Trainer, float]:
            trainer, rng = _trainer(self.summing(rank), **changes), np.random.default_rng(9)
            return trainer, sum(trainer.step(*one, rng, rank, self.size).item() for one in work)

        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(of, range(self.size)))


def _alone(work: list[tuple[Shard, Batch]], **changes: Any) -> tuple[Trainer, float]:
    trainer, rng = _trainer(**changes), np.random.default_rng(9)
    return trainer, sum(trainer.step(*one, rng).item() for one in work)


def _gradients(trainer: Trainer) -> dict[str, Tensor]:
    return {name: one.grad for name, one in trainer.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr", "triplet"])
@pytest.mark.parametrize("n_examples", [64, 33, 1], ids=["even", "odd", "one-without-any"])
def test_steps_of_two_processes_are_those_of_one(loss: str, n_examples: int) -> None:
    shard = users(60)
    hard = np.random.default_rng(1).integers(NONE, N_ITEMS, (60, 4)).astype(np.int32)
    batch = Batch(*(values[:n_examples] for values in _batches(shard, n_hard=3, hard=hard)[0]))
    alone, lost = _alone([(shard, batch)], loss=loss, id_dropout=0.3)
    together = _Together(2).run([(shard, batch)], loss=loss, id_dropout=0.3)
    assert sum(part for _, part in together) == pytest.approx(lost, rel=1e-6)
    for trainer, _ in together:
        found, expected = _gradients(trainer), _gradients(alone)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_steps_of_two_processes_are_those_of_one_when_features_come_late() -> None:
    """Adam counts a step of a weight from its first gradient on: processes must agree on which that is."""
    shard = users(60)
    batches = _batches(shard)[:4]
    work = [(_without_segments(shard) if at < 2 else shard, batch) for at, batch in enumerate(batches)]
    alone, _ = _alone(work)
    for trainer, _ in _Together(2).run(work):
        for name, weights in alone.model.arrays().items():
            # Where gradients cancel what is left of them is rounding, of which Adam makes a step.
            np.testing.assert_allclose(trainer.model.arrays()[name], weights, atol=1e-4, err_msg=name)


def test_load_takes_up_the_training_where_it_was_left() -> None:
    shard = users(60)
    batches = _batches(shard)
    # A weight without a gradient moves on too, by what Adam remembers.
    work = [(shard, one) for one in batches[:3]] + [(_without_segments(shard), one) for one in batches[3:]]
    whole, halves = _trainer(id_dropout=0.3), [_trainer(id_dropout=0.3), _trainer(id_dropout=0.3)]
    rng = np.random.default_rng(9)
    for one in work:
        whole.step(*one, rng)
    rng = np.random.default_rng(9)
    for one in work[:3]:
        halves[0].step(*one, rng)
    halves[1].load(halves[0].arrays())
    for one in work[3:]:
        halves[1].step(*one, rng)
    found, expected = halves[1].arrays(), whole.arrays()
    assert found.keys() == expected.keys()
    assert expected["steps"].tolist() == [len(work)]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert halves[1].optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]


def _tower(trainer: Trainer, name: str) -> Tower:
    arrays = trainer.model.arrays()
    return Tower(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(Tower)})


def test_embed_users_and_items_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_spark.two_tower.kernels.train_step._EVAL_ROWS", 7)
    trainer, shard = _trainer(), users(20)
    vectors = trainer.embed_items()
    np.testing.assert_allclose(vectors, embed(_tower(trainer, "item"), catalogue(), None, True), atol=1e-5)
    rows = np.arange(20)[::-1]
    starts = after_split(shard, rows, SPLIT)
    starts[0] = shard.indptr[rows[0] + 1]  # without a history
    history = [shard.items[start : shard.indptr[row + 1]][:3] for row, start in zip(rows, starts, strict=True)]
    lengths = np.array([len(one) for one in history])
    pooled = pool_history(vectors, np.concatenate(history), lengths, SHAPE.half_life_items)
    expected = embed(_tower(trainer, "user"), take(shard.encoded, rows), pooled, True)
    np.testing.assert_allclose(trainer.embed_users(shard, rows, starts, vectors), expected, atol=1e-5)


def test_embed_users_of_none_has_the_shape() -> None:
    none = np.empty(0, np.int64)
    assert _trainer().embed_users(users(3), none, none, np.zeros((N_ITEMS, 8), "f4")).shape == (0, 8)


def test_step_of_items_without_features_or_ids_is_finite() -> None:
    shard = users(4)
    bare = Encoded(np.zeros((4, 0), "f4"), np.zeros(5, np.int64), *(np.empty(0, t) for t in ("i4", "f4", "i4")))
    trainer = _trainer()
    assert np.isfinite(trainer.step(shard._replace(encoded=bare), _batches(shard)[0], np.random.default_rng(1)).item())


def test_step_drops_engaged_numbers_with_the_id() -> None:
    # Always dropped, the weights of the price, dense columns 0 and 1, see its flag alone; never dropped, both.
    shard = users(60)
    (batch, *_) = _batches(shard)
    moved = {}
    for dropout in (0.0, 1.0):
        trainer = _trainer(engaged=np.array([0]), id_dropout=dropout, learning_rate=0.1)
        before = trainer.model.arrays()
        trainer.step(shard, batch, np.random.default_rng(1))
        after = trainer.model.arrays()
        moved[dropout] = {name: np.abs(after[name] - before[name]).max(axis=-1) for name in ("item.dense", "item.ids")}
    assert (moved[0.0]["item.dense"] > 0).tolist() == [True, True]
    assert moved[0.0]["item.ids"].any()
    assert (moved[1.0]["item.dense"] > 0).tolist() == [False, True]
    assert not moved[1.0]["item.ids"].any()
