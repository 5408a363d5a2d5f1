"""A training learns, can be killed after any epoch without a trace in its result, and keeps its best epoch."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.failpoint import FailpointReached
from recsys_spark.two_tower import training_process
from recsys_spark.two_tower.kernels.batches import Batch, Shard, examples_of, expected_log_counts, held_out, proposal
from recsys_spark.two_tower.kernels.model_file import pack, unpack
from recsys_spark.two_tower.kernels.train_step import Trainer
from recsys_spark.two_tower.training_job import NOT_KNOWN, State, read_job, read_state
from recsys_spark.two_tower.training_process import Training, World
from recsys_spark.two_tower.training_shards import read_users, write_users
from recsys_spark.warehouse.scratch import Scratch
from tests.two_groups import N_ITEMS, SPLIT, stage, users

ALONE = World(0, 1, torch.device("cpu"))
Arm = Callable[[str], None]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


def _training(scratch: Scratch) -> Training:
    return Training(read_job(scratch), scratch, ALONE)


def _staged(scratch: Scratch, **changes: Any) -> Training:
    stage(scratch, **changes)
    return _training(scratch)


def _contents(scratch: Scratch) -> dict[str, bytes]:
    """Markers and checkpoints as they lie there, without how far an epoch was, which slow ones alone tell."""
    paths = [path for path in scratch.folder.iterdir() if path.suffix != ".parquet" and path.name != "progress.json"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a training that nobody disturbs leaves."""
    torch.set_num_threads(1)
    scratch = Scratch(tmp_path_factory.mktemp("whole") / "scratch")
    _staged(scratch).run()
    return _contents(scratch)


def test_run_learns_which_group_likes_what(scratch: Scratch) -> None:
    state = _staged(scratch).run()
    assert len(state.epochs) == 4
    assert state.epochs[-1]["loss"] < state.epochs[0]["loss"]
    # Of 36 items that a user has not had a list of 20 in any order finds 20 / 36.
    assert state.epochs[state.best - 1]["recall"] > 0.95
    assert 0.3 < state.epochs[state.best - 1]["ndcg"] < state.epochs[state.best - 1]["recall"]


def test_run_leaves_the_last_and_the_best_epoch_with_their_hashes(whole: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    state, files = read_state(Scratch(tmp_path))
    assert set(whole) == {"job.json", "state.json", "last-0004", f"best-{state.best:04d}"}
    assert files == {name: sha256(whole[name]).hexdigest() for name in whole if not name.endswith(".json")}


@pytest.mark.parametrize("passage", [1, 2, 3, 4])
def test_run_that_was_killed_and_resumed_gives_the_bits_of_one_that_was_not(
    scratch: Scratch, whole: dict[str, bytes], failpoint: Arm, monkeypatch: pytest.MonkeyPatch, passage: int
) -> None:
    failpoint(f"two_tower.after_epoch:{passage}")
    with pytest.raises(FailpointReached):
        _staged(scratch).run()
    failpoint("none")
    trained, epoch = [], Training._epoch

    def counted(training: Training, number: int) -> float:
        trained.append(number)
        return epoch(training, number)

    monkeypatch.setattr(Training, "_epoch", counted)
    _training(scratch).run()
    assert trained == list(range(passage + 1, 5))
    assert _contents(scratch) == whole


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink], ids=["cut", "flipped-bit", "missing"])
@pytest.mark.parametrize("name", ["last-", "best-", "state.json"])
def test_run_begins_anew_from_a_damaged_checkpoint(
    scratch: Scratch, whole: dict[str, bytes], failpoint: Arm, name: str, damage: Callable[[Path], None]
) -> None:
    failpoint("two_tower.after_epoch:2")
    with pytest.raises(FailpointReached):
        _staged(scratch).run()
    failpoint("none")
    (path,) = scratch.folder.glob(f"{name}*")
    damage(path)
    _training(scratch).run()
    assert _contents(scratch) == whole


def _with_recalls(monkeypatch: pytest.MonkeyPatch, recalls: list[float]) -> list[dict[str, np.ndarray]]:
    """Lets validation say these; the weights after each epoch."""
    given, weights = iter(recalls), []

    def said(training: Training) -> tuple[float, float]:
        weights.append(training.trainer.model.arrays())
        return next(given), 0.0

    monkeypatch.setattr(Training, "_validated", said)
    return weights


def test_run_ends_early_and_keeps_the_best_epoch(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = _with_recalls(monkeypatch, [0.3, 0.5, 0.4, 0.5])
    state = _staged(scratch, epochs=6, patience=2).run()
    assert (len(state.epochs), state.best) == (4, 2)
    best, _ = unpack(scratch.read_bytes("best-0002") or b"")
    assert best.keys() == weights[1].keys()
    for name, array in best.items():
        np.testing.assert_array_equal(array, weights[1][name])
    assert sorted(path.name for path in scratch.folder.glob("*-0*[0-9]")) == ["best-0002", "last-0004"]


def test_run_that_has_ended_trains_no_more(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _staged(scratch, epochs=1).run()
    before = _contents(scratch)
    monkeypatch.delattr(Training, "_epoch")
    assert _training(scratch).run() == state
    assert _contents(scratch) == before


def test_run_trains_all_epochs_if_too_few_users_are_validated(scratch: Scratch) -> None:
    state = _staged(scratch, validation_share=0.1, patience=1).run()
    assert [epoch["recall"] for epoch in state.epochs] == [NOT_KNOWN] * 4
    assert [epoch["ndcg"] for epoch in state.epochs] == [NOT_KNOWN] * 4
    assert state.best == 4


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr", "triplet"])
def test_run_refuses_a_loss_that_is_not_finite(scratch: Scratch, loss: str) -> None:
    with pytest.raises(
        KernelError, match=r"expected a finite loss, got nan in epoch 1; lower \[two_tower\] learning_r"
    ):
        _staged(scratch, learning_rate=1e30, loss=loss, normalize=False).run()
    assert read_state(scratch) == (State(), {})


def test_training_refuses_a_log_without_engagements(scratch: Scratch) -> None:
    stage(scratch)
    for number in range(2):
        shard = users(60)
        write_users(scratch, number, shard._replace(weights=np.zeros_like(shard.weights)))
    with pytest.raises(KernelError, match="two_tower: expected engagements to learn from, got none"):
        _training(scratch)


def test_training_goes_on_when_a_shard_has_no_users(scratch: Scratch) -> None:
    stage(scratch, validation_share=0.5)
    write_users(scratch, 1, users(0))
    state = _training(scratch).run()
    assert state.epochs[-1]["recall"] > 0.9


def test_training_corrects_for_how_often_an_item_is_an_example(scratch: Scratch) -> None:
    """Batches are drawn by examples, whatever these weigh, and none is from a validated user's newest days."""
    training = _staged(scratch, random_negatives="popularity", negatives=10, hard_share=0.3)
    counts = np.zeros(N_ITEMS)
    for number in range(2):
        shard = read_users(scratch, number)
        hidden = np.repeat(held_out(shard.users, 0.4, 5), np.diff(shard.indptr)) & (shard.times >= SPLIT)
        np.add.at(counts, shard.items[~hidden], 1)
    share = counts / counts.sum()
    expected = expected_log_counts(share, 64 - 1, proposal(share, share > 0, "popularity"), 10 - 3)
    np.testing.assert_allclose(training.trainer.catalogue.log_q, expected, rtol=1e-6)
    np.testing.assert_allclose(training.draws.probabilities, proposal(share, share > 0, "popularity"), rtol=1e-12)
    assert (training.draws.n_random, training.draws.n_hard) == (7, 3)
    # Steps never mix shards, so each ends with a batch of its own.
    shards = [read_users(scratch, number) for number in range(2)]
    assert training.n_steps == sum(-(-len(examples_of(shard, training._known(shard))) // 64) for shard in shards)


def test_training_never_sets_what_nobody_had_against_what_was_wanted(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a new item would learn to be rejected before anybody had the choice."""
    training = _staged(scratch, negatives=10, hard_share=0.5)
    for number in range(2):
        shard = read_users(scratch, number)
        kept = np.where(shard.items == 7, 8, shard.items)  # nobody has item 7
        write_users(scratch, number, shard._replace(items=kept.astype(np.int32)))
    training, seen = _training(scratch), []
    step = Trainer.step

    def watched(trainer: Trainer, shard: Shard, batch: Batch, *rest: Any) -> torch.Tensor:
        seen.extend([*batch.random.ravel(), *batch.hard.ravel()])
        return step(trainer, shard, batch, *rest)

    monkeypatch.setattr(Trainer, "step", watched)
    training.run()
    assert set(range(N_ITEMS)) - set(seen) == {7}


def test_training_takes_the_examples_of_each_epoch_in_an_order_of_its_own(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, taken = _staged(scratch), []
    step = Trainer.step

    def watched(trainer: Trainer, shard: Shard, batch: Batch, *rest: Any) -> torch.Tensor:
        taken.extend(batch.positive.tolist())
        return step(trainer, shard, batch, *rest)

    monkeypatch.setattr(Trainer, "step", watched)
    for number in (2, 3):  # the first one draws no hard items
        training._epoch(number)
    first, second = taken[: training.n_examples], taken[training.n_examples :]
    assert first != second
    assert sorted(first) == sorted(second)


def test_training_validates_on_2000_users_at_most(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "_MAX_VALIDATED", 12)
    assert _staged(scratch).share_held_out == 12 / 120
    monkeypatch.setattr(training_process, "_MAX_VALIDATED", 2000)
    assert _training(scratch).share_held_out == 0.4


def test_training_starts_from_the_model_that_its_job_names(scratch: Scratch, tmp_path: Path) -> None:
    earlier = Scratch(tmp_path / "earlier")
    state = _staged(earlier).run()
    weights = earlier.read_bytes(f"best-{state.best:04d}") or b""
    scratch.write_bytes("start", weights)
    training = _staged(scratch, start="start")
    for name, array in unpack(weights)[0].items():
        np.testing.assert_array_equal(training.trainer.model.arrays()[name], array)
    assert training._validated()[0] > 0.95


def test_training_refuses_a_start_that_is_not_there(scratch: Scratch) -> None:
    with pytest.raises(DamagedError, match="expected safetensors, got 0 bytes"):
        _staged(scratch, start="start")


@pytest.mark.parametrize(("start", "n_found"), [("", 0), ("start", 20)])
def test_hard_items_of_the_first_epoch_are_found_by_an_earlier_model_alone(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch, start: str, n_found: int
) -> None:
    stage(scratch)
    scratch.write_bytes("start", pack(_training(scratch).trainer.model.arrays(), {}))
    training = _staged(scratch, start=start)
    seen: list[list[int]] = []
    batches_of = training_process.batches_of

    def watched(shard: Any, known: Any, hard: np.ndarray, *others: Any) -> Any:
        seen.append([*hard.shape])
        return batches_of(shard, known, hard, *others)

    monkeypatch.setattr(training_process, "batches_of", watched)
    for number in (1, 2):
        training._epoch(number)
    assert seen == [[60, n_found]] * 2 + [[60, 20]] * 2


def test_run_says_how_far_it_is(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "_PROGRESS_S", 0.0)
    training = _staged(scratch, epochs=2)
    state = training.run()
    told = scratch.marker("progress") or {}
    assert {name: told[name] for name in ("epoch", "epochs", "done", "of")} == {
        "epoch": 2,
        "epochs": 2,
        "done": training.n_examples,
        "of": training.n_examples,
    }
    assert told["loss"] == pytest.approx(state.epochs[1]["loss"], rel=1e-6)
    assert told["per_s"] > 0
