"""Training of the towers against a plain torch loop: examples a second, one core each.

    uv run --group bench python tests/benchmarks/bench_train.py [--users 20000] [--items 8000] [--rounds 3] [--processes
    1 2]

Planted histories (planted.py) with a category and a title of two words per item.  Ours: `Training` over staged Parquet
shards of 4 MiB, with random and hard items, checkpoints and all (no validation).  The loop: the same towers as torch
modules with everything in memory as tensors, histories as a padded matrix, the same number of random items, in-batch
softmax with logQ, no hard items, no files.  Rounds are paired, medians of examples a second over whole epochs.
Two processes: ours as one program and as two under gloo, on the same shards, the start of the programs not counted.
The last line is JSON: ours_per_s, loop_per_s, ratio, one_process_per_s, two_processes_per_s.
Exit status 1 below LEAST_RATIO.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

from recsys_spark.config.load import load_config
from recsys_spark.two_tower.kernels.batches import Shard
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.training_job import Job, read_job
from recsys_spark.two_tower.training_process import Training, World
from recsys_spark.two_tower.training_shards import write_items, write_users
from recsys_spark.warehouse.scratch import Scratch
from tests.benchmarks.planted import planted_interactions
from tests.benchmarks.report import finish, size_options
from tests.sparse import csr_of_pairs
from tests.staged import no_items

N_SHARDS, EPOCHS = 4, 2
LEAST_RATIO = 0.9
PROCESSES = {1: "one_process_per_s", 2: "two_processes_per_s"}
SETTINGS = load_config().two_tower.model_copy(
    update={"epochs": EPOCHS, "patience": EPOCHS, "validation_share": 0.0, "device": "cpu", "threads": 1}
)


def main(argv: Sequence[str] | None = None) -> None:
    """Stages the planted log, times both sides in turn, then one process against two."""
    parser = size_options(__doc__, users=20_000, items=8_000, rounds=3)
    parser.add_argument("--processes", type=int, nargs="+", choices=tuple(PROCESSES), default=tuple(PROCESSES))
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    shards = stage(Scratch(folder / "staged"), asked.users, asked.items)
    n_examples = sum(len(shard.items) for shard in shards)
    print(f"{asked.users:,} users x {asked.items:,} items, {n_examples:,} examples an epoch")
    pairs = []
    for number in range(asked.rounds):
        ours_s = ours(Scratch(copied(folder, number)))
        loop_s = Loop(shards, asked.items).run()
        pairs.append((EPOCHS * n_examples / ours_s, EPOCHS * n_examples / loop_s))
        print(f"round {number}: ours {pairs[-1][0]:,.0f}, loop {pairs[-1][1]:,.0f} examples/s", flush=True)
    found = {"ours_per_s": median(one for one, _ in pairs), "loop_per_s": median(one for _, one in pairs)}
    found["ratio"] = median(one / other for one, other in pairs)
    for name, n in ((PROCESSES[n], n) for n in asked.processes):
        found[name] = EPOCHS * n_examples / processes(copied(folder, 100 + n), n)
        print(f"{name}: {found[name]:,.0f} examples/s", flush=True)
    finish({name: round(value, 3) for name, value in found.items()}, asked, within_bars=found["ratio"] >= LEAST_RATIO)


def stage(scratch: Scratch, n_users: int, n_items: int) -> list[Shard]:
    """The planted log as the step stages it."""
    planted = planted_interactions(n_users, n_items, 15 * n_users)
    matrix = csr_of_pairs(planted.users, planted.items, planted.weights, n_users, n_items)
    users = TowerInputs((Field("segment", "category"),), SETTINGS.n_buckets)
    fields = (Field("title", "words"), Field("category", "category"), Field("known_id", "id"))
    items = TowerInputs(fields, SETTINGS.n_buckets, 1 << (8 * n_items - 1).bit_length())
    idx = np.arange(n_items)
    table = pa.table(
        {
            "title": [f"w{one % 997} w{one % 313}" for one in idx],
            "category": [f"c{one % 50}" for one in idx],
            "known_id": [f"i{one}" for one in idx],
        }
    )
    write_items(scratch, 0, items.encode(table))
    bounds, shards = np.linspace(0, n_users, N_SHARDS + 1).astype(int), []
    for number, (first, end) in enumerate(pairwise(bounds)):
        part = slice(matrix.indptr[first], matrix.indptr[end])
        indptr = matrix.indptr[first : end + 1] - matrix.indptr[first]
        lengths = np.diff(indptr)
        times = -(np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)).astype(np.int64)
        encoded = users.encode(pa.table({"segment": [f"s{user % 20}" for user in range(first, end)]}))
        weights, ids = np.ones(int(indptr[-1]), np.float32), np.arange(first, end, dtype=np.int32)
        shard = Shard(ids, indptr, matrix.indices[part], times, weights, no_items(end - first), encoded)
        write_users(scratch, number, shard)
        shards.append(shard)
    job = Job(SETTINGS, 1, n_items, N_SHARDS, 1, 1, users, items, {}, "")
    scratch.mark("job", job.as_json())
    return shards


def copied(folder: Path, number: int) -> Path:
    """The staged files for one training, which leaves its own beside them."""
    to = folder / str(number)
    to.mkdir()
    for file in (folder / "staged").iterdir():
        (to / file.name).symlink_to(file)
    return to


def ours(scratch: Scratch) -> float:
    """Seconds of a training."""
    started = time.perf_counter()
    Training(read_job(scratch), scratch, World(0, 1, torch.device("cpu"))).run()
    return time.perf_counter() - started


def processes(folder: Path, n: int) -> float:
    """Seconds from the first word of progress to the end of a training of n programs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(n):
        world = {"RANK": rank, "WORLD_SIZE": n, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in world.items()}
        program = [sys.executable, "-m", "recsys_spark.two_tower.training_process", str(folder)]
        started.append(subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL))
    while not (folder / "progress.json").exists() and started[0].poll() is None:
        time.sleep(0.01)
    begun = time.perf_counter()
    for process in started:
        process.wait()
    return time.perf_counter() - begun


class Loop:
    """What anybody would write: tensors in memory, a module, an optimizer."""

    def __init__(self, shards: list[Shard], n_items: int) -> None:
        generator = np.random.default_rng(1)
        d, self.n_items = SETTINGS.dim, n_items
        lengths = np.concatenate([np.diff(shard.indptr) for shard in shards])
        items = np.concatenate([shard.items for shard in shards]).astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        self.user = torch.as_tensor(np.repeat(np.arange(len(lengths)), lengths))
        self.wanted = torch.as_tensor(items)
        place = np.arange(len(items)) - np.repeat(starts, lengths)
        left = np.repeat(lengths, lengths) - place - 1
        columns = np.arange(SETTINGS.history_items)
        padded = np.minimum(np.arange(len(items))[:, None] + 1 + columns, len(items) - 1)
        self.history = torch.as_tensor(items[padded])
        weights = np.where(columns < left[:, None], 0.5 ** (columns / SETTINGS.half_life_items), 0.0)
        self.weights = torch.as_tensor(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)).float()
        self.segment = torch.as_tensor(np.arange(len(lengths)) % 20)
        idx = np.arange(n_items)
        self.words = torch.as_tensor(np.stack([idx % 997, 997 + idx % 313, 1310 + idx % 50], axis=1))
        self.log_q = torch.as_tensor(np.log(np.bincount(items, minlength=n_items) / len(items) + 1e-9)).float()
        self.tables = nn.ModuleList(
            [nn.Embedding(1 << (8 * n_items - 1).bit_length(), d), nn.Embedding(SETTINGS.n_buckets, d),
             nn.Embedding(SETTINGS.n_buckets, d)]
        )  # fmt: skip
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(d, SETTINGS.hidden), nn.ReLU(),
                                                   nn.Linear(SETTINGS.hidden, d)) for _ in range(2)])  # fmt: skip
        self.generator = generator

    def run(self) -> float:
        """Seconds of all epochs."""
        one, n = SETTINGS, len(self.wanted)
        n_random = one.negatives
        optimizer = torch.optim.Adam([*self.tables.parameters(), *self.layers.parameters()], lr=one.learning_rate)
        started = time.perf_counter()
        for _ in range(EPOCHS):
            order = torch.as_tensor(self.generator.permutation(n))
            for first in range(0, n, one.batch_size):
                rows = order[first : first + one.batch_size]
                random = torch.randint(self.n_items, (len(rows), n_random))
                users, positive, negative = self._embedded(rows, random)
                in_batch = users @ positive.T / one.temperature - self.log_q[self.wanted[rows]]
                same = self.wanted[rows][:, None] == self.wanted[rows][None]
                in_batch = in_batch.masked_fill(same, -1e30)
                others = torch.einsum("bd,brd->br", users, negative) / one.temperature
                wanted = (users * positive).sum(dim=1) / one.temperature
                loss = (torch.logsumexp(torch.cat([wanted[:, None], in_batch, others], 1), 1) - wanted).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return time.perf_counter() - started

    def _embedded(self, rows: torch.Tensor, random: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        history, wanted = self.history[rows], self.wanted[rows]
        items, places = torch.unique(torch.cat([wanted, random.ravel(), history.ravel()]), return_inverse=True)
        x = self.tables[0](items) + self.tables[1](self.words[items]).sum(dim=1)
        vectors = F.normalize(x + self.layers[0](x), dim=1)
        positive, negative, past = places.split([len(wanted), random.numel(), history.numel()])
        pooled = (vectors[past].view(*history.shape, -1) * self.weights[rows][:, :, None]).sum(dim=1)
        y = pooled + self.tables[2](self.segment[self.user[rows]])
        users = F.normalize(y + self.layers[1](y), dim=1)
        return users, vectors[positive], vectors[negative].view(*random.shape, -1)


if __name__ == "__main__":
    main()
