"""What a training is told and what it says come back as they were marked."""

from pathlib import Path

import pytest

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.two_tower.training_job import NOT_KNOWN, State, read_job, read_state, shape_of
from recsys_spark.warehouse.scratch import Scratch
from tests.two_groups import SHAPE, settings, stage


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


def test_read_job_gives_the_job_that_was_staged(scratch: Scratch) -> None:
    job = stage(scratch, start="earlier", loss="bpr", normalize=False)
    assert read_job(scratch) == job
    assert (job.settings.loss, job.start, job.data) == ("bpr", "earlier", {"events": 3})


@pytest.mark.parametrize("damaged", [None, b"", b"[]", b'{"seed": '])
def test_read_job_refuses_a_folder_without_one(scratch: Scratch, damaged: bytes | None) -> None:
    if damaged is not None:
        scratch.write_bytes("job.json", damaged)
    with pytest.raises(KernelError, match="expected a staged training, got none; run the step two_tower"):
        read_job(scratch)


def test_read_job_refuses_inputs_that_are_none(scratch: Scratch) -> None:
    scratch.mark("job", stage(scratch).as_json() | {"item_inputs": {}})
    with pytest.raises(DamagedError, match="tower inputs"):
        read_job(scratch)


def test_shape_of_settings_is_that_of_the_job(scratch: Scratch) -> None:
    assert shape_of(settings()) == stage(scratch).shape == SHAPE
    assert shape_of(settings(normalize=False, dim=4)).dim == 4
    assert not shape_of(settings(normalize=False)).normalize


@pytest.mark.parametrize(
    ("recalls", "best"),
    [
        ([0.2], 1),
        ([0.2, 0.3, 0.1], 2),
        ([0.2, 0.3, 0.3], 2),  # as good is not better
        ([0.0, 0.0], 1),
        ([0.3, 0.2, 0.1, 0.4], 4),
        ([NOT_KNOWN, NOT_KNOWN, NOT_KNOWN], 3),
    ],
)
def test_state_knows_its_best_epoch(recalls: list[float], best: int) -> None:
    state = State()
    for at, recall in enumerate(recalls):
        state.add(1.0 / (at + 1), recall, recall / 2)
    assert state.best == best
    assert state.epochs[-1] == {"loss": 1.0 / len(recalls), "recall": recalls[-1], "ndcg": recalls[-1] / 2}


@pytest.mark.parametrize(
    ("recalls", "ended"),
    [
        ([], False),
        ([0.3, 0.2], False),
        ([0.3, 0.2, 0.2], True),  # two in a row brought no better one
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.3, 0.2, 0.4, 0.1], False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),
        ([NOT_KNOWN] * 4, False),
        ([NOT_KNOWN] * 5, True),
    ],
)
def test_state_has_ended_after_all_epochs_or_when_patience_does(recalls: list[float], ended: bool) -> None:
    state = State()
    for recall in recalls:
        state.add(1.0, recall, recall)
    assert state.has_ended(settings(epochs=5, patience=2)) == ended


def test_read_state_gives_what_was_marked_last(scratch: Scratch) -> None:
    state = State()
    for recall in (0.25, 0.125):
        state.add(1.5, recall, 0.5)
        state.mark(scratch, {"last-0001": "abc"})
    assert read_state(scratch) == (state, {"last-0001": "abc"})


def test_read_state_of_a_training_that_has_not_begun_is_empty(scratch: Scratch) -> None:
    assert read_state(scratch) == (State([], 0), {})
