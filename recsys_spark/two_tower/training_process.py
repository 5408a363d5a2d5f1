"""Training program of the two-tower model, epoch by epoch, alone or as one process of several; torch stays in it.

    python -m recsys_spark.two_tower.training_process FOLDER

Owns: how a process finds its device and the others, how it ends, and when it stops.  Started by
`two_tower.training_launch`, itself or by `TorchDistributor`.  After each epoch there is a checkpoint, so that a kill
costs one at most.  FOLDER is the scratch of the step; at the end it has the marker `done`, or `failed` with the cause.
"""

import logging
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from recsys_spark.config.models import TwoTower as Settings
from recsys_spark.errors import DamagedError, KernelError, RecsysError
from recsys_spark.failpoint import failpoint
from recsys_spark.numeric.top_k import Items, search_items
from recsys_spark.two_tower.kernels.batches import (
    Draws,
    Shard,
    after_split,
    batches_of,
    examples_of,
    expected_log_counts,
    held_out,
    known_from,
    proposal,
)
from recsys_spark.two_tower.kernels.model_file import pack, unpack
from recsys_spark.two_tower.kernels.torch_towers import TwoTower
from recsys_spark.two_tower.kernels.train_step import EncodedItems, Learning, Trainer
from recsys_spark.two_tower.kernels.validation import hard_items, validated_metrics, validated_rows
from recsys_spark.two_tower.training_job import NOT_KNOWN, OWNER, Job, State, read_job, read_state
from recsys_spark.two_tower.training_shards import read_items, read_users
from recsys_spark.warehouse.location import locate
from recsys_spark.warehouse.scratch import Scratch

_log = logging.getLogger(__name__)

K = 20  # of the recall that is validated
_HARD_ITEMS = 20  # hard negatives kept for each user, from which a step draws
_MAX_VALIDATED = 2_000
_MIN_VALIDATED = 20  # users; with fewer a recall says nothing, and all epochs are trained
_PROGRESS_S = 1.0


_LOOK_S = 2.0


@dataclass
class World:
    """This process among those that train together, and where it computes."""

    rank: int
    size: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> None:
        """Sums `values` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)


class Training:
    """A training of the job that is staged in `scratch`."""

    def __init__(self, job: Job, scratch: Scratch, world: World) -> None:
        self.job, self.scratch, self.world = job, scratch, world
        self.clock = time.monotonic()
        n_users = sum(len(read_users(scratch, number).users) for number in range(job.n_shards))
        self.share_held_out = min(job.settings.validation_share, _MAX_VALIDATED / max(1, n_users))
        counts, self.had, self.n_steps = np.zeros(job.n_items, np.int64), np.zeros(job.n_items, bool), 0
        for number in range(job.n_shards):
            shard = read_users(scratch, number)
            items = shard.items[examples_of(shard, self._known(shard))]
            counts += np.bincount(items, minlength=job.n_items)
            self.had[shard.items] = True
            self.n_steps += math.ceil(len(items) / job.settings.batch_size)
        self.n_examples = int(counts.sum())
        if not self.n_examples:
            raise KernelError(
                "two_tower: expected engagements to learn from, got none; raise [two_tower] training_days, or take "
                "two_tower out of [sources] enabled"
            )
        # Shares are not weighted: a batch takes every example once, whatever its weight in the loss.
        self.draws, self.trainer = self._prepared(counts / self.n_examples)

    def _prepared(self, share: np.ndarray) -> tuple[Draws, Trainer]:
        """The samplers, and the model with its optimizer as they begin; share: of each item in the examples."""
        job, one = self.job, self.job.settings
        draws = Draws(proposal(share, self.had, one.random_negatives), one.negatives - one.n_hard, one.n_hard)
        log_q = expected_log_counts(share, one.batch_size - 1, draws.probabilities, draws.n_random)
        learning = Learning(
            one.loss, one.log_q, one.learning_rate, one.id_dropout, one.margin, self.n_steps * one.epochs
        )
        model = TwoTower(job.user_inputs, job.item_inputs, job.shape, one.temperature, one.learn_temperature, job.seed)
        if job.start:
            model.start_from(unpack(self.scratch.read_bytes(job.start) or b"")[0])
        catalogue = EncodedItems(read_items(self.scratch, job.n_item_shards), log_q, job.item_inputs.engaged_columns)
        return draws, Trainer(model, catalogue, job.shape, learning, self.world.device, self.world.sum)

    def run(self) -> State:
        """Trains what is left to be trained; the best model is then `best` in the scratch."""
        state = self._resumed()
        while not state.has_ended(self.job.settings):
            number = len(state.epochs) + 1
            loss = self._epoch(number)
            if not math.isfinite(loss):
                raise KernelError(
                    f"two_tower: expected a finite loss, got {loss} in epoch {number}; lower [two_tower] learning_rate"
                )
            recall, ndcg = self._validated()
            state.add(loss, recall, ndcg)
            _log.info("phase=epoch number=%d loss=%.4f recall=%.4f ndcg=%.4f", number, loss, recall, ndcg)
            if self.world.rank == 0:
                self._store(state)
            failpoint("two_tower.after_epoch")
        return state

    def _epoch(self, number: int) -> float:
        """One pass over all examples; the mean loss."""
        one, world = self.job.settings, self.world
        rng = np.random.default_rng([self.job.seed, number])
        searched = self._searched() if one.n_hard else None
        total, done, started = torch.zeros(1, device=world.device), 0, time.monotonic()
        for at in rng.permutation(self.job.n_shards):
            shard = read_users(self.scratch, int(at))
            hard = self._hard(shard, searched, number)
            known = self._known(shard)
            for batch in batches_of(shard, known, hard, self.draws, one.history_items, one.batch_size, rng):
                total += self.trainer.step(shard, batch, rng, world.rank, world.size) * len(batch.rows)
                done += len(batch.rows)
                self._tell(number, done, total, started)
        world.sum(total)
        return float(total) / self.n_examples

    def _searched(self) -> tuple[np.ndarray, Items]:
        """Embeddings of all items, and the items among which hard negatives are sought: those that somebody had."""
        vectors = self.trainer.embed_items()
        return vectors, search_items(vectors, np.flatnonzero(self.had))

    def _hard(self, shard: Shard, searched: tuple[np.ndarray, Items] | None, number: int) -> np.ndarray | None:
        """Hard negatives of each user; in the first epoch of a cold start only items that were shown."""
        if searched is None:
            return None
        if number == 1 and not self.job.start:
            return shard.shown
        vectors, items = searched
        users = self.trainer.embed_users(shard, np.arange(len(shard.users)), shard.indptr[:-1], vectors)
        return hard_items(shard, users, items, _HARD_ITEMS)

    def _validated(self) -> tuple[float, float]:
        """Mean recall and ndcg of validated users' lists, NOT_KNOWN if there are too few of them."""
        vectors = self.trainer.embed_items()
        items, found = search_items(vectors, None), []
        for number in range(self.job.n_shards):
            shard = read_users(self.scratch, number)
            rows = validated_rows(shard, self._held_out(shard), self.job.split_time)
            starts = after_split(shard, rows, self.job.split_time)
            users = self.trainer.embed_users(shard, rows, starts, vectors)
            found.append(np.stack(validated_metrics(shard, rows, self.job.split_time, users, items, K)))
        figures = np.concatenate(found, axis=1)  # (2, n_validated)
        if figures.shape[1] < _MIN_VALIDATED:
            return NOT_KNOWN, NOT_KNOWN
        recall, ndcg = figures.mean(axis=1).tolist()
        return recall, ndcg

    def _held_out(self, shard: Shard) -> np.ndarray:
        return held_out(shard.users, self.share_held_out, self.job.seed)

    def _known(self, shard: Shard) -> np.ndarray:
        return known_from(shard, self._held_out(shard), self.job.split_time)

    def _store(self, state: State) -> None:
        """Checkpoint: the model with its optimizer, and the best model so far; then the marker that counts."""
        last = f"last-{len(state.epochs):04d}"
        files = {last: self._write(last, self.trainer.arrays())}
        best = f"best-{state.best:04d}"
        if state.best == len(state.epochs):
            files[best] = self._write(best, self.trainer.model.arrays())
        else:
            files[best] = read_state(self.scratch)[1][best]
        state.mark(self.scratch, files)
        self.scratch.keep_only(("last-", "best-"), files)

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> str:
        data = pack(arrays, {})
        self.scratch.write_bytes(name, data)
        return sha256(data).hexdigest()

    def _read(self, name: str, digest: str) -> dict[str, np.ndarray]:
        data = self.scratch.read_bytes(name) or b""
        if sha256(data).hexdigest() != digest:
            raise DamagedError(f"{name}: expected sha256 {digest}, got {sha256(data).hexdigest()}")
        return unpack(data)[0]

    def _resumed(self) -> State:
        """The state of an earlier attempt, the model as it left it; a new one if there is none, or it is damaged."""
        state, files = read_state(self.scratch)
        if not state.epochs:
            return state
        try:
            stored = {name: self._read(name, digest) for name, digest in files.items()}
            for name, arrays in stored.items():
                if name.startswith("last-"):
                    self.trainer.load(arrays)
        except DamagedError as err:
            _log.warning("phase=resume epochs=%d damaged=%s", len(state.epochs), err)
            return State()
        _log.info("phase=resume epochs=%d", len(state.epochs))
        return state

    def _tell(self, number: int, done: int, total: torch.Tensor, started: float) -> None:
        """Says how far the training is, at most once a second."""
        now = time.monotonic()
        if self.world.rank or now - self.clock < _PROGRESS_S:
            return
        self.clock = now
        told: dict[str, Any] = {"epoch": number, "epochs": self.job.settings.epochs, "done": done}
        speed = done / (now - started)
        self.scratch.mark(
            "progress", told | {"of": self.n_examples, "loss": float(total) * self.world.size / done, "per_s": speed}
        )


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


def _join(settings: Settings) -> World:
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
