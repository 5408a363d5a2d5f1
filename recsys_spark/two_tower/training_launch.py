"""Launcher of the two-tower training: a process of its own, or several, started and watched.

Owns: how the training is started, how its progress is reported, and how it ends.

The driver never imports torch: one process is started directly, several by Spark's `TorchDistributor`, on this machine.
What they find is in the scratch of the step (see `two_tower.training_process`), so a kill costs an epoch at most.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.two_tower.training_job import OWNER, Job, State, read_job, read_state
from recsys_spark.warehouse.location import as_text
from recsys_spark.warehouse.scratch import Scratch
from recsys_spark.warehouse.whole_file import own_folder

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
_LOG_TAIL = 20  # lines

Tell = Callable[[dict[str, float]], None]


def is_staged(job_data: dict[str, Any], scratch: Scratch) -> bool:
    """Whether an earlier attempt has staged a training of this data, with these settings and this seed."""
    marker = scratch.marker("job")
    return marker is not None and all(marker.get(name) == value for name, value in job_data.items())


def train(scratch: Scratch, tell: Tell) -> tuple[State, bytes]:
    """Trains the job that is staged in `scratch`, or what is left of it; its epochs, and the file of the best weights.

    tell: is given the progress every second.  Raises KernelError with the cause if it cannot be trained.
    """
    job = read_job(scratch)
    for name in ("done", "failed", "progress"):
        scratch.remove_marker(name)
    # What the process prints, for after a failure.  The file grows, so it is one of this machine, not of a store.
    place = scratch.folder
    log = place / "train.log" if isinstance(place, Path) else own_folder() / f"train-{os.getpid()}.log"
    n_resumed = len(read_state(scratch)[0].epochs)
    _log.info("phase=train processes=%d n_epochs_done=%d", job.settings.processes, n_resumed)
    with ThreadPoolExecutor(1) as one:
        running = one.submit(_run_one if job.settings.processes == 1 else _run_many, job, scratch, log)
        while not running.done():
            time.sleep(_LOOK_S)
            _tell(scratch, tell)
    failed, done = scratch.marker("failed"), scratch.marker("done")
    if failed is not None:
        raise KernelError(failed["error"])
    running.result()
    if done is None:
        raise KernelError(f"two_tower: expected the training to end, got {_tail(log)!r}; all it said is in {log}")
    return _result(scratch)


def _run_one(job: Job, scratch: Scratch, log: Path) -> None:
    environment = os.environ | {OWNER: str(os.getpid()), "OMP_NUM_THREADS": str(job.settings.threads)}
    with log.open("ab") as output:
        subprocess.run(  # noqa: S603 - this very interpreter
            [sys.executable, "-m", "recsys_spark.two_tower.training_process", as_text(scratch.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            check=False,
        )


def _run_many(job: Job, scratch: Scratch, log: Path) -> None:
    from pyspark.ml.torch.distributor import TorchDistributor

    os.environ[OWNER] = str(os.getpid())
    try:
        TorchDistributor(job.settings.processes, local_mode=True, use_gpu=False).run(_join, as_text(scratch.folder))
    except RuntimeError as err:
        log.write_text(str(err), encoding="utf-8")
    finally:
        del os.environ[OWNER]


def _join(folder: str) -> None:
    """What each process of several runs."""
    from recsys_spark.two_tower.training_process import main

    main(folder)


def _result(scratch: Scratch) -> tuple[State, bytes]:
    state, files = read_state(scratch)
    name = next(name for name in files if name.startswith("best-"))
    data = scratch.read_bytes(name)
    if data is None:
        raise DamagedError(f"{scratch.folder / name}: expected the best weights, got none; run the date again")
    return state, data


def _tell(scratch: Scratch, tell: Tell) -> None:
    told = scratch.marker("progress")
    if told is not None:
        tell({name: float(value) for name, value in told.items()})


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_LOG_TAIL:])
