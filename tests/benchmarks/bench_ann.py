"""The index: built by Spark beside one FAISS process, what it finds, users/s of retrieval, milliseconds of a query.

    uv run --group bench python tests/benchmarks/bench_ann.py [--items 1000000] [--dim 64] [--shards 8] [--users 100000]
    [--rounds 3]
                                                [--autofaiss PYTHON] [--memory]

Items clustered as real embeddings are (tests/clustered.py), written as the step `embed` writes them; users near them.

build      Spark on local[2] trains, fills and stores the shards from the table; the peer is one FAISS process with two
           threads that reads the same Parquet files with pyarrow and does the same training and adds into one index,
           and writes it.  Both sides begin warm (a session with its workers, a process with its imports), and take
           turns; the median of the rounds counts.  build_ratio = ours / FAISS.
recall     What the step itself measures, at every nprobe, after the re-rank; and recall@10 without it, of the shards
           merged and of the peer's one index, at every nprobe.
retrieval  All users' best 200 by the step's own search, and by the exact blocked search with all items in each worker
           (of a part of the users; its time is proportional to them); and what part of the exact lists is found.
query      One query for 500 items through the reader, on one thread, with merge and exact re-rank: p50 and p99.
autofaiss  With --autofaiss, the Python of an environment that has it (2.18 works with faiss-cpu 1.8.0 and pyarrow below
           20, not with ours): its build over the same vectors, and recall@10.
memory     With --memory instead: the peak of a worker that fills one shard with all items, beside what it needs.

The last line is JSON.  Exit status 1 if passed, which it says last, is false.
"""

import argparse
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from recsys_spark.ann.kernels.index_choice import IndexChoice, ladder
from recsys_spark.ann.shard_files import open_shard
from recsys_spark.config.load import load_config
from recsys_spark.serving.index import AnnIndex
from tests.benchmarks.report import finish, size_options
from tests.clustered import clustered, clustered_queries

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RATIO_BAR, RECALL_BAR, LOSS_BAR, P99_BAR_MS = 1.3, 0.95, 0.01, 10.0
N_FILES = 8
EXACT_USERS = 4_000
N_QUERIES = 1_000
RECALL_QUERIES = 500
K_QUERY, K_LISTS = 500, 200
LEAST_ITEMS_A_RESULT = 20  # a query asks a small catalogue for fewer items: its lists hold no more
SEED = 7
AUTOFAISS = """
import sys, time, numpy as np
from autofaiss import build_index
vectors = np.load(sys.argv[1], mmap_mode="r")
queries = np.load(sys.argv[2])
started = time.perf_counter()
index, infos = build_index(np.array(vectors), save_on_disk=False, metric_type="ip", nb_cores=2,
                           max_index_memory_usage=sys.argv[3], current_memory_available="8GB", verbose=40)
seconds = time.perf_counter() - started
_, found = index.search(queries, 10)
np.save(sys.argv[4], found)
print(seconds)
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the items, then measures what was asked for."""
    parser = size_options(__doc__, items=1_000_000, dim=64, shards=8, users=100_000, rounds=3)
    parser.add_argument("--autofaiss", type=Path)
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="recsys-bench-") as name:
        folder = Path(name)
        vectors = clustered(asked.items, asked.dim, SEED)
        write_items(folder / "items", vectors)
        found = memory(folder, vectors) if asked.memory else measure(folder, vectors, asked)
    finish(found, asked, within_bars=bool(found["passed"]))


def write_items(folder: Path, vectors: np.ndarray) -> None:
    """Rows as `indexed_items` gives them, in N_FILES files."""
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(vectors)), N_FILES)):
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * vectors.shape[1])
        columns = {
            "item_id": [f"item-{idx:08d}" for idx in rows],
            "item_idx": rows.astype(np.int32),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(vectors[rows].ravel())),
            "part": pa.nulls(len(rows), pa.string()),
        }
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=50_000)


def measure(folder: Path, vectors: np.ndarray, asked: argparse.Namespace) -> dict[str, Any]:
    """Every part but memory."""
    from recsys_spark.spark.session import open_session

    faiss = Faiss()
    spark = open_session("bench ann", folder, {"spark.driver.memory": "4g"})
    items = spark.read.parquet(str(folder / "items"))
    queries = clustered_queries(vectors, max(asked.users, RECALL_QUERIES), SEED + 1)
    settings = load_config().ann.model_copy(update={"items_per_shard": -(-asked.items // asked.shards)})
    build(spark, items.limit(20_000), settings, folder / "warm")  # both sides have loaded all they need
    faiss.run(folder / "items", settings, asked.dim, 20_000, folder / "warm.faiss")
    seconds: dict[str, list[float]] = {"ours": [], "faiss": []}
    for number in range(asked.rounds):
        started = perf_counter()
        rows, parts = build(spark, items, settings, folder / "ours")
        seconds["ours"].append(perf_counter() - started)
        seconds["faiss"].append(faiss.run(folder / "items", settings, asked.dim, asked.items, folder / "one.faiss"))
        print(f"round {number}: " + ", ".join(f"{name} {one[-1]:.1f} s" for name, one in seconds.items()), flush=True)
    for reason in parts[0].choice.reasons:
        print(f"  {reason}")
    found: dict[str, Any] = {name: round(median(one), 2) for name, one in seconds.items()}
    found["build_ratio"] = round(median(a / b for a, b in zip(*seconds.values(), strict=True)), 3)
    found["bytes_per_vector"] = round(sum(row["n_bytes"] for row in rows) / asked.items, 1)
    found["raw_bytes_per_vector"] = 4 * asked.dim
    found |= recall(spark, rows, parts, queries[:RECALL_QUERIES], folder, vectors, faiss, settings)
    for row in rows:
        row |= {"nprobe": found["nprobe"], "rerank": settings.rerank, "part": None, "n_shards": asked.shards}
    found |= query(rows, queries, folder / "ours", asked.items)
    if asked.autofaiss:
        found |= autofaiss(asked.autofaiss, folder, vectors, queries[:RECALL_QUERIES], found["bytes_per_vector"])
    found |= retrieval(spark, rows, queries[: asked.users], vectors, folder / "ours")
    faiss.stop()
    spark.stop()
    found["passed"] = (
        found["build_ratio"] <= RATIO_BAR
        and found["recall_at_100"] >= RECALL_BAR
        and found["shards_lose"] <= LOSS_BAR
        and found["query_p99_ms"] <= P99_BAR_MS
    )
    return found


def build(spark: "SparkSession", items: "DataFrame", settings: Any, root: Path) -> tuple[list[dict[str, Any]], Any]:
    """The manifest and the parts, as the step makes them."""
    from recsys_spark.ann.index_build import fill_shards, fit_parts, train_parts

    d = len(items.select("vector").first()[0])
    parts = fit_parts(items, d, settings)
    started = perf_counter()
    trained = train_parts(items, parts, None, SEED, 2)
    middle = perf_counter()
    rows = fill_shards(items, parts, trained, None, root)
    print(f"trained in {middle - started:.1f} s, filled in {perf_counter() - middle:.1f} s", flush=True)
    return rows, parts


class Faiss:
    """One process that trains, adds and writes with two threads, and searches on one."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.end, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_faiss, args=(theirs,))
        self.process.start()

    def run(self, items: Path, settings: Any, d: int, n: int, to: Path) -> float:
        """Seconds from the Parquet files to the written index."""
        self.end.send(("build", items, settings, d, n, to))
        return float(self.end.recv())

    def search(self, index: Path, queries: np.ndarray, k: int, nprobe: int) -> np.ndarray:
        """Ids, (n, k)."""
        self.end.send(("search", index, queries, k, nprobe))
        return np.asarray(self.end.recv())

    def stop(self) -> None:
        """Ends the process."""
        self.end.send(None)
        self.process.join()


def _faiss(end: Connection) -> None:
    import faiss

    from recsys_spark.ann.kernels.faiss_index import load_index, map_index, search, set_threads, train_index
    from recsys_spark.ann.kernels.index_choice import choose_index

    while (asked := end.recv()) is not None:
        what, *rest = asked
        if what == "search":
            path, queries, k, nprobe = rest
            set_threads(1)
            end.send(search(map_index(path), queries, k, nprobe)[1])
            continue
        items, settings, d, n, to = rest
        started = perf_counter()
        choice: IndexChoice = choose_index(n, d, settings.memory_bytes, settings.factory)
        draw = np.random.default_rng(SEED).random(n) < min(1.0, choice.n_train / n)
        index, sample = None, np.concatenate([block[draw[ids]] for ids, block in _blocks(items, n)])
        data = train_index(sample, choice, SEED, 2)
        index = load_index(data, 1 << 32)
        set_threads(2)
        for ids, block in _blocks(items, n):
            index.add_with_ids(block, ids)
        faiss.write_index(index, str(to))
        end.send(perf_counter() - started)


def _blocks(items: Path, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and vectors of the first n items, row group by row group."""
    for file in sorted(items.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(50_000, columns=["item_idx", "vector"]):
            ids = batch["item_idx"].to_numpy().astype(np.int64)
            kept = ids < n
            yield ids[kept], batch["vector"].flatten().to_numpy().reshape(len(ids), -1)[kept]


def exact_best(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Places of the k best by all products, (n, k), in no order."""
    best = [np.argpartition(-(vectors @ query), k - 1)[:k] for query in queries]
    return np.stack(best)


def share_found(found: np.ndarray, exact: np.ndarray) -> float:
    """Recall."""
    hits = [len(np.intersect1d(one, other)) for one, other in zip(found, exact, strict=True)]
    return float(np.mean(hits) / exact.shape[1])


def recall(
    spark: "SparkSession",
    rows: list[dict[str, Any]],
    parts: Any,
    queries: np.ndarray,
    folder: Path,
    vectors: np.ndarray,
    faiss: Faiss,
    settings: Any,
) -> dict[str, Any]:
    """What the step measures and records, and the shards beside one index without the re-rank."""
    from recsys_spark.ann.kernels.faiss_index import search
    from recsys_spark.ann.recall import measure_recall, recall_table, serving_nprobe

    started = perf_counter()
    measured = measure_recall(spark, rows, parts, queries, settings.rerank, folder / "ours")
    seconds = perf_counter() - started
    print(f"recall of {len(queries)} users measured in {seconds:.1f} s\n{recall_table(measured, 0)}")
    nprobe = serving_nprobe(measured, 0, settings.min_recall) or max(ladder(parts[0].choice.nlist))
    exact = exact_best(vectors, queries, 10)
    shards = [open_shard(folder / "ours", row) for row in rows]
    losses = []
    for one in ladder(parts[0].choice.nlist):
        answers = [search(shard.index, queries, 10, one) for shard in shards]
        scores, ids = (np.concatenate(found, axis=1) for found in zip(*answers, strict=True))
        merged = np.take_along_axis(ids, np.argsort(-scores, axis=1)[:, :10], axis=1)
        sharded = share_found(merged, exact)
        whole = share_found(faiss.search(folder / "one.faiss", queries, 10, one), exact)
        losses.append(whole - sharded)
        print(f"nprobe {one}: recall@10 without re-rank: shards {sharded:.4f}, one index {whole:.4f}", flush=True)
    return {
        "nprobe": nprobe,
        "recall_at_100": next(one.recall for one in measured if (one.nprobe, one.k) == (nprobe, 100)),
        "recall_at_10": next(one.recall for one in measured if (one.nprobe, one.k) == (nprobe, 10)),
        "shards_lose": round(max(losses), 4),
    }


def query(rows: list[dict[str, Any]], queries: np.ndarray, root: Path, n_items: int) -> dict[str, Any]:
    """Milliseconds of one query for K_QUERY items, or fewer of a small catalogue, through the reader's index."""
    k = min(K_QUERY, n_items // LEAST_ITEMS_A_RESULT)
    index = AnnIndex([open_shard(root, row) for row in rows], pa.array([f"item-{n:08d}" for n in range(n_items)]), 1)
    for one in queries[:50]:
        index.search(one, k)
    milliseconds = []
    with threadpool_limits(1):
        for one in queries[50 : 50 + N_QUERIES]:
            started = perf_counter()
            found = index.search(one, k)
            milliseconds.append(1000 * (perf_counter() - started))
    assert len(found) == k
    p50, p99 = np.percentile(milliseconds, [50, 99])
    print(f"one query for {k} items: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
    return {"query_p50_ms": round(p50, 2), "query_p99_ms": round(p99, 2)}


def retrieval(
    spark: "SparkSession", rows: list[dict[str, Any]], users: np.ndarray, vectors: np.ndarray, root: Path
) -> dict[str, Any]:
    """Users/s of both searches through Spark, and what part of the exact lists the index finds."""
    from recsys_spark.ann.exact_search import search_users
    from recsys_spark.ann.index_search import search_shards
    from recsys_spark.numeric.top_k import search_items
    from recsys_spark.warehouse.spark_check import spark_schema
    from recsys_spark.warehouse.tables import ANN_SHARDS

    folder = root.parent / "users"
    folder.mkdir()
    offsets = pa.array(np.arange(len(users) + 1, dtype=np.int32) * users.shape[1])
    columns = {
        "user_idx": np.arange(len(users), dtype=np.int32),
        "vector": pa.ListArray.from_arrays(offsets, pa.array(users.ravel())),
    }
    pq.write_table(pa.table(columns), folder / "users.parquet", row_group_size=10_000)
    frame = spark.read.parquet(str(folder))
    hidden = frame.select("user_idx", (frame["user_idx"] % len(vectors)).alias("item_idx"))  # one item each
    schema = spark_schema(ANN_SHARDS, without=("run_id",))
    known = {"factory": "", "recall_at_100": 1.0, "model_version": ""}
    shards = spark.createDataFrame([tuple((row | known)[name] for name in schema.names) for row in rows], schema)
    lists, seconds = {}, {}
    items = search_items(vectors, None)
    few = min(EXACT_USERS, len(users))
    asked = {
        "index": search_shards(frame, hidden, len(users), shards, root, "two_tower", K_LISTS),
        "exact": search_users(frame.where(f"user_idx < {few}"), hidden, few, items, "two_tower", K_LISTS),
    }
    for name, found in asked.items():
        started = perf_counter()
        found.write.parquet(str(root.parent / name))
        seconds[name] = perf_counter() - started
        some = spark.read.parquet(str(root.parent / name)).where("user_idx < 500").select("user_idx", "items.item_idx")
        lists[name] = {row[0]: set(row[1]) for row in some.collect()}
    hits = [len(lists["index"][user] & best) / len(best) for user, best in lists["exact"].items()]
    speed = {"index": len(users) / seconds["index"], "exact": few / seconds["exact"]}
    print(f"retrieval of {K_LISTS}: {speed['index']:,.0f} users/s by the index (recall {np.mean(hits):.4f}), "
          f"{speed['exact']:,.0f} exactly (recall 1)", flush=True)  # fmt: skip
    return {
        "index_users_per_s": round(speed["index"]),
        "exact_users_per_s": round(speed["exact"]),
        f"retrieval_recall_at_{K_LISTS}": round(float(np.mean(hits)), 4),
    }


def autofaiss(python: Path, folder: Path, vectors: np.ndarray, queries: np.ndarray, n_bytes: float) -> dict[str, Any]:
    """Seconds and recall@10 of autofaiss' own choice for as many bytes."""
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    most = f"{max(1, round(n_bytes * len(vectors) / 1e6))}MB"
    command = [str(python), "-c", AUTOFAISS, *(str(folder / name) for name in ("vectors.npy", "queries.npy"))]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [*command, most, str(folder / "found.npy")], capture_output=True, text=True, check=True, env=environment
    )
    seconds = float(done.stdout.split()[-1])
    found = share_found(np.load(folder / "found.npy"), exact_best(vectors, queries, 10))
    print(f"autofaiss: {seconds:.1f} s, recall@10 {found:.4f} of an index of at most {most}", flush=True)
    return {"autofaiss": round(seconds, 1), "autofaiss_recall_at_10": round(found, 4)}


def memory(folder: Path, vectors: np.ndarray) -> dict[str, Any]:
    """Peak of a worker that fills one shard with all items, in MB, in a session of its own."""
    from recsys_spark.spark.session import open_session

    spark = open_session("bench ann", folder, {"spark.driver.memory": "4g"})
    items = spark.read.parquet(str(folder / "items"))
    settings = load_config().ann.model_copy(update={"items_per_shard": len(vectors)})
    build(spark, items.limit(20_000), settings, folder / "warm")

    def resident(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        lines = Path("/proc/self/status").read_text().splitlines()
        kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")
        yield pa.RecordBatch.from_pydict({"kb": [kb]})

    def most_mb() -> float:
        found = spark.range(0, 64, 1, 8).mapInArrow(resident, "kb long").collect()
        return max(row["kb"] for row in found) / 1024

    from recsys_spark.ann.index_build import fill_shards, fit_parts, train_parts

    parts = fit_parts(items, vectors.shape[1], settings)
    trained = train_parts(items, parts, None, SEED, 2)
    most_mb()
    before = most_mb()
    (row,) = fill_shards(items, parts, trained, None, folder / "ours")
    after = most_mb()
    spark.stop()
    index_mb, raw_mb = row["n_bytes"] / 1e6, row["vectors_n_bytes"] / 1e6
    print(f"a shard of {len(vectors):,}: worker {before:.0f} MB before, {after:.0f} MB at most; the index has "
          f"{index_mb:.0f} MB, the vectors {raw_mb:.0f} MB")  # fmt: skip
    # Lists grow by doubling, and blocks of vectors pass by; the vectors themselves are never held.
    bound = 2 * index_mb + 128
    return {
        "before_mb": round(before), "peak_mb": round(after), "index_mb": round(index_mb), "vectors_mb": round(raw_mb),
        "bound_mb": round(bound), "passed": after - before <= bound,
    }  # fmt: skip


if __name__ == "__main__":
    main()
