"""The program that trains a two-tower model, alone or as one process of many; torch lives here and nowhere else.

    python -m recsys_spark.adapters.tower_process FOLDER

Owns: how a process finds its device and the others, and how it ends.  Started by `adapters.two_tower`, itself or by
`TorchDistributor`.  FOLDER is the scratch of the step; at the end it has the marker `done`, or `failed` with the cause.
"""

import logging
import os
import sys
import threading
import time

import torch
import torch.distributed as dist

from recsys_spark.adapters.tower_epochs import Training, World
from recsys_spark.adapters.tower_job import OWNER, read_job
from recsys_spark.config.models import TwoTower
from recsys_spark.errors import KernelError, RecsysError
from recsys_spark.warehouse.location import locate
from recsys_spark.warehouse.scratch import Scratch

_LOOK_S = 2.0


def main(folder: str) -> None:
    """Trains the job in `folder`; exit status 3, and the marker `failed`, if it cannot be trained."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    _end_with(int(os.environ.get(OWNER, "0")))
    scratch = Scratch(locate(folder))
    first = os.environ.get("RANK", "0") == "0"
    try:
        job = read_job(scratch)
        torch.set_num_threads(job.settings.threads)
        world = _join(job.settings)
        state = Training(job, scratch, world).run()
        if first:
            scratch.mark("done", {"best": state.best, "epochs": state.epochs})
    except RecsysError as err:
        if first:
            scratch.mark("failed", {"error": str(err)})
        sys.exit(3)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(settings: TwoTower) -> World:
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise KernelError('two_tower.device: expected a GPU that torch sees, got none; set it to "auto" or "cpu"')
    on_gpu = has_gpu and settings.device != "cpu"
    if size > 1:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    number = int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
    return World(rank, size, torch.device(f"cuda:{number}" if on_gpu else "cpu"))


def _end_with(owner: int) -> None:
    """Ends this process when `owner` is gone: a killed step must not leave one that writes on."""

    def watch() -> None:
        while True:
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                os._exit(1)
            except PermissionError:
                pass
            time.sleep(_LOOK_S)

    if owner:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
