"""The program that trains: without its owner, and on what it cannot train; test_training_launch kills and pairs it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from recsys_spark.two_tower.training_process import OWNER, Training, main
from recsys_spark.warehouse.scratch import Scratch
from tests.two_groups import stage

TIMEOUT_S = 120


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", OWNER):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """What is started in it is killed at the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


def _start(processes: ExitStack, scratch: Scratch, **environment: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_spark.two_tower.training_process", str(scratch.folder)],
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    processes.enter_context(process)
    processes.callback(process.kill)
    return process


def test_process_ends_when_its_owner_is_gone(scratch: Scratch, processes: ExitStack) -> None:
    stage(scratch, epochs=1_000_000, patience=1_000_000)
    owner = processes.enter_context(subprocess.Popen(["sleep", "600"]))
    processes.callback(owner.kill)
    process = _start(processes, scratch, **{OWNER: owner.pid})
    deadline = time.monotonic() + TIMEOUT_S
    while not (scratch.marker("state") or process.poll() is not None or time.monotonic() > deadline):
        time.sleep(0.05)
    assert process.poll() is None, "it trains"
    owner.kill()
    owner.wait()
    assert process.wait(timeout=30) == 1
    assert scratch.marker("done") is None
    assert scratch.marker("failed") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e30}, "two_tower: expected a finite loss, got nan in epoch 1"),
        pytest.param(
            {"device": "cuda"},
            "two_tower.device: expected a GPU that torch sees, got none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=["loss-is-nan", "no-gpu"],
)
def test_main_ends_with_3_and_says_why_it_cannot_train(
    scratch: Scratch, changes: dict[str, object], message: str
) -> None:
    stage(scratch, **changes)
    with pytest.raises(SystemExit) as ended:
        main(str(scratch.folder))
    assert ended.value.code == 3
    assert (scratch.marker("failed") or {})["error"].startswith(message)
    assert scratch.marker("done") is None


def test_main_ends_with_3_without_a_job(scratch: Scratch) -> None:
    with pytest.raises(SystemExit) as ended:
        main(str(scratch.folder))
    assert ended.value.code == 3
    assert "expected a staged training, got none" in (scratch.marker("failed") or {})["error"]


def test_main_lets_the_first_process_alone_say_why(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        main(str(scratch.folder))
    assert ended.value.code == 3
    assert not scratch.folder.exists()


def test_main_lets_a_crash_through(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(scratch)

    def crash(training: Training) -> None:
        raise MemoryError

    monkeypatch.setattr(Training, "run", crash)
    with pytest.raises(MemoryError):
        main(str(scratch.folder))
    assert scratch.marker("failed") is None


def test_the_layers_below_training_need_neither_spark_nor_more_torch_than_they_say() -> None:
    code = """
import json, sys
from importlib import import_module
found = {}
for name in ("kernels.towers", "kernels.model_file", "training_shards", "training_job", "training_process"):
    import_module(f"recsys_spark.two_tower.{name}")
    found[name] = sorted({"torch", "pyspark", "py4j", "faiss"} & set(sys.modules))
print(json.dumps(found))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    without = {
        "kernels.towers",
        "kernels.model_file",
        "training_shards",
        "training_job",
    }
    found = json.loads(told.stdout)
    assert {name for name, modules in found.items() if modules == []} == without
    assert {name for name, modules in found.items() if modules == ["torch"]} == set(found) - without
