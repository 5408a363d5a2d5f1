"""Rows/s of embedding by Spark on local[2], beside two plain torch processes on the same files.

    uv run --group bench python tests/benchmarks/bench_embed.py [--items 1000000] [--rounds 3]
    uv run --group bench python tests/benchmarks/bench_embed.py --memory [--items 1000000]

Items with a title, two categories, six numbers and an id, in Parquet files; a model of the default size with random
weights.  The peers read the files with pyarrow and give the same batches to `two_tower.kernels.torch_towers` in
inference_mode, on one thread each.  Both sides begin warm, with the model loaded, drop the vectors once they have them,
and take turns; the best of the rounds counts.  That both give the same vectors is checked first.  The last line is
JSON: ours_rows_per_s, torch_rows_per_s, ratio.  With --memory instead: of a Spark worker at one and at four million
items loaded_mb, with interpreter and model, and peak_mb, the most after that; growth_mb of the peak, and work_mb, the
greater of the differences.  Exit status 1 outside the bars.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # one thread a process on both sides

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.spark.session import open_session
from recsys_spark.two_tower.embedding import broadcast_model, embed_items
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import load_model
from recsys_spark.two_tower.kernels.towers import Shape
from tests.benchmarks.report import finish, size_options
from tests.tower_fits import USERS, make_model

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BAR = 0.8
MEMORY_TIMES = 4
MOST_GROWTH_MB = 64  # of a worker, for three times as many items more
MOST_WORK_MB = 256  # of a worker, besides interpreter and model
N_FILES = 8
PROCESSES = 2
TORCH_ROWS = 20_000  # as Spark hands them over here; smaller ones are slower: a word is hashed once a batch
NUMBERS = tuple(f"number_{n}" for n in range(6))
ITEMS = TowerInputs(
    (
        Field("title", "words"),
        Field("category", "category"),
        Field("brand", "category"),
        *(Field(name, "number", mean=1.0) for name in NUMBERS),
        Field("item_id", "id"),
    ),
    n_buckets=32_768,
    n_ids=1 << 20,
)
SHAPE = Shape(dim=64, hidden=128, normalize=True, history_items=20, half_life_items=5.0)


def write(folder: Path, n_rows: int) -> None:
    """The items, in N_FILES files."""
    folder.mkdir()
    words = np.array([f"word{n:x}" for n in range(20_000)])
    for number, rows in enumerate(np.array_split(np.arange(n_rows), N_FILES)):
        rng = np.random.default_rng(number)
        # Some words are in many titles.
        drawn = words[(len(words) * rng.random((len(rows), 6)) ** 3).astype(int)]
        columns: dict[str, Any] = {
            "item_idx": rows.astype(np.int32),
            "item_id": [f"item-{n:08d}" for n in rows],
            "title": [" ".join(title) for title in drawn],
            "category": [f"category {n}" for n in rng.integers(0, 300, len(rows))],
            "brand": [f"brand {n}" for n in rng.integers(0, 5000, len(rows))],
        }
        columns |= {name: rng.gamma(2.0, size=len(rows)) for name in NUMBERS}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=50_000)


class Torch:
    """PROCESSES processes that have loaded the model and wait for files."""

    def __init__(self, model_file: Path) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork of a process with a JVM's threads would not do
        pipes = [spawn.Pipe() for _ in range(PROCESSES)]
        self.ends = [ours for ours, _ in pipes]
        self.processes = [spawn.Process(target=_work, args=(theirs, model_file)) for _, theirs in pipes]
        for process in self.processes:
            process.start()

    def run(self, files: list[Path]) -> tuple[float, np.ndarray]:
        """Seconds for all files, and the first vectors of the first of them."""
        started = perf_counter()
        for number, end in enumerate(self.ends):
            end.send(files[number::PROCESSES])
        found = [end.recv() for end in self.ends]
        return perf_counter() - started, found[0]

    def stop(self) -> None:
        """Ends the processes."""
        for end, process in zip(self.ends, self.processes, strict=True):
            end.send(None)
            process.join()


def _work(end: Connection, model_file: Path) -> None:
    """One process: embeds the files that it is sent, and answers with the first of the vectors."""
    import torch

    from recsys_spark.two_tower.kernels.model_file import unpack
    from recsys_spark.two_tower.kernels.torch_towers import TwoTower, as_rows

    torch.set_num_threads(1)
    model = TwoTower(USERS, ITEMS, SHAPE, 0.1, False, 0)
    weights = unpack(model_file.read_bytes())[0]
    model.load(model.arrays() | weights)
    device = torch.device("cpu")
    while (files := end.recv()) is not None:
        first = np.empty((0, SHAPE.dim), np.float32)
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(TORCH_ROWS):
                with torch.inference_mode():
                    vectors = model.item(as_rows(ITEMS.encode(batch), device), None, None)
                    vectors.norm(dim=1)
                if not len(first):
                    first = vectors.numpy()
        end.send(first)


def ours(frame: "DataFrame") -> float:
    """Seconds for all rows of the frame."""
    started = perf_counter()
    frame.write.format("noop").mode("overwrite").save()
    return perf_counter() - started


def check(spark: "SparkSession", embedded: "DataFrame", expected: np.ndarray) -> None:
    """Both sides give the same vectors for the first items."""
    rows = embedded.where(f"item_idx < {len(expected)}").orderBy("item_idx").toArrow()
    found = np.array(rows["vector"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def compare(folder: Path, asked: argparse.Namespace) -> None:
    """Writes, checks, measures both in turns, prints."""
    write(folder / "items", asked.items)
    data = make_model(None, USERS, ITEMS, SHAPE)
    (folder / "model").write_bytes(data)
    torch, spark = Torch(folder / "model"), open_session("bench embed", folder)
    files = sorted((folder / "items").glob("*.parquet"))
    sent = broadcast_model(spark, data, sha256(data).hexdigest())
    embedded = embed_items(spark.read.parquet(str(folder / "items")), sent)
    check(spark, embedded, torch.run(files[:PROCESSES])[1])
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(asked.rounds):
        seconds["torch"].append(torch.run(files)[0])
        seconds["ours"].append(ours(embedded))
        print(" ".join(f"{name} {found[-1]:.1f} s" for name, found in seconds.items()))
    torch.stop()
    spark.stop()
    speed = {f"{name}_rows_per_s": round(asked.items / min(found)) for name, found in seconds.items()}
    ratio = round(speed["ours_rows_per_s"] / speed["torch_rows_per_s"], 3)
    finish({"rows": asked.items, "ratio": ratio, **speed, "seconds": seconds}, asked, within_bars=ratio >= BAR)


def memory(folder: Path, asked: argparse.Namespace) -> None:
    """Every size in a session of its own; prints the peaks."""
    data = make_model(None, USERS, ITEMS, SHAPE)
    load_model(data)
    (folder / "model").write_bytes(data)
    peaks: dict[int, dict[str, int]] = {}
    few, many = asked.items, MEMORY_TIMES * asked.items
    for n_rows in (few, many):
        write(folder / f"items-{n_rows}", n_rows)
        command = [sys.executable, __file__, "--worker", str(folder), "--items", str(n_rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, after = (float(one) for one in done.stdout.split()[-2:])
        peaks[n_rows] = {"loaded_mb": round(before), "peak_mb": round(after)}
        print(f"{n_rows:,} rows: {before:.0f} MB with the model loaded, {after:.0f} MB at most")
    growth = peaks[many]["peak_mb"] - peaks[few]["peak_mb"]
    work = max(one["peak_mb"] - one["loaded_mb"] for one in peaks.values())
    within = growth <= MOST_GROWTH_MB and work <= MOST_WORK_MB
    finish({"by_rows": peaks, "growth_mb": growth, "work_mb": work}, asked, within_bars=within)


def worker(folder: Path, n_rows: int) -> None:
    """Embeds the items; prints what a worker has resident with the model loaded, and at most after that, in MB."""
    spark = open_session("bench embed", folder)
    data = (folder / "model").read_bytes()
    sent = broadcast_model(spark, data, sha256(data).hexdigest())

    def most_kb(forget: bool) -> int:
        """The greatest peak of a worker; forget: the peak of loading the model, twice its size, does not count."""

        def peak(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            list(batches)
            assert sent.value.model
            if forget:
                Path("/proc/self/clear_refs").write_text("5")
            lines = Path("/proc/self/status").read_text().splitlines()
            kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
            yield pa.RecordBatch.from_pydict({"kb": [kb]})

        return max(row["kb"] for row in spark.range(0, 64, 1, 8).mapInArrow(peak, "kb long").collect())

    before = most_kb(forget=True)
    ours(embed_items(spark.read.parquet(str(folder / f"items-{n_rows}")), sent))
    after = most_kb(forget=False)
    spark.stop()
    print(before / 1024, after / 1024)


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, or measures memory."""
    parser = size_options(__doc__, items=1_000_000, rounds=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.worker:
        worker(asked.worker, asked.items)
        return
    with tempfile.TemporaryDirectory(prefix="recsys-bench-") as folder:
        (memory if asked.memory else compare)(Path(folder), asked)


if __name__ == "__main__":
    main()
