"""A training is started, watched, taken up after a kill and ended, in one process and in two of TorchDistributor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.two_tower.kernels.model_file import unpack
from recsys_spark.two_tower.training_job import read_job, read_state
from recsys_spark.two_tower.training_launch import is_staged, train
from recsys_spark.two_tower.training_process import Training, World
from recsys_spark.warehouse.scratch import Scratch
from tests.two_groups import stage

# Sums of floats over two processes are in another order than over one.
SAME = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _trained_here(scratch: Scratch) -> dict[str, np.ndarray]:
    """The best weights of the training that is staged, in this process and undisturbed."""
    Training(read_job(scratch), scratch, World(0, 1, torch.device("cpu"))).run()
    (best,) = scratch.folder.glob("best-*")
    return unpack(best.read_bytes())[0]


def _trained(scratch: Scratch) -> tuple[dict[str, np.ndarray], int]:
    """The weights that `train` gives, and how many epochs it says that there were."""
    state, data = train(scratch, lambda _: None)
    return unpack(data)[0], len(state.epochs)


def test_train_in_two_processes_of_torch_distributor_gives_what_one_gives(spark: SparkSession, tmp_path: Path) -> None:
    alone, together = Scratch(tmp_path / "one"), Scratch(tmp_path / "two")
    stage(alone, epochs=2, loss="softmax")  # every process wants the other's negatives
    stage(together, epochs=2, processes=2, loss="softmax")
    one = _trained_here(alone)
    two, n_epochs = _trained(together)
    assert n_epochs == 2
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], **SAME, err_msg=name)


def test_train_goes_on_after_a_kill_and_gives_what_an_undisturbed_training_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, whole = Scratch(tmp_path / "killed"), Scratch(tmp_path / "whole")
    stage(scratch, epochs=3, threads=1)
    monkeypatch.setenv("RECSYS_FAILPOINT", "two_tower.after_epoch:2")
    with pytest.raises(KernelError, match="expected the training to end"):
        train(scratch, lambda _: None)
    assert len(read_state(scratch)[0].epochs) == 2
    monkeypatch.delenv("RECSYS_FAILPOINT")
    stage(whole, epochs=3, threads=1)
    (resumed, n_epochs), expected = _trained(scratch), _trained_here(whole)
    assert n_epochs == 3
    assert list(resumed) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(resumed[name], expected[name], err_msg=name)


def test_train_raises_what_the_process_says(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    stage(scratch, learning_rate=1e30)
    with pytest.raises(KernelError, match=r"expected a finite .*lower \[two_tower\] learning_rate"):
        train(scratch, lambda _: None)


def test_is_staged_knows_the_training_by_its_settings_seed_and_data(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    assert not is_staged({"seed": 5}, scratch)
    job = stage(scratch)
    same = {"settings": job.settings.model_dump(), "seed": job.seed, "data": job.data}
    assert is_staged(same, scratch)
    assert not is_staged(same | {"seed": 6}, scratch)
    assert not is_staged(same | {"data": {}}, scratch)
