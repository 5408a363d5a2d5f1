"""Item-item cosine, top 100, of 9 million interactions: one thread against `implicit`, and through Spark on two cores.

    uv run --group bench python tests/benchmarks/bench_item_cf.py [--rounds 3] [--users 138000] [--items 27000]
                                                                          [--draws 15600000]

Both sides get the same matrix in memory and make the 100 nearest items of each of 27,000 (`implicit` counts an item
among its own, so it is asked for 101); rounds are paired and the ratio is the median of theirs.  The lists are compared
item by item.  Spark starts from the stored interactions table and ends with the stored lists.
The last line is JSON: ours_s, implicit_s, ratio, same_share (of the entries), spark_s, shuffled_bytes.
Exit status 1 if lists differ, or above MOST_RATIO.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread on both sides

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from implicit.nearest_neighbours import CosineRecommender
from pyspark.sql import SparkSession
from scipy.sparse import csr_matrix

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.item_cf import step_item_cf
from recsys_spark.item_cf.kernels.similarity import Similarity, entry_values, item_parts, nearest_items, sums_of_parts
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.spark_tables import read_run, stage_run
from recsys_spark.warehouse.tables import TABLES
from tests.benchmarks.planted import N_DRAWS, N_ITEMS, N_USERS, Planted, planted_interactions
from tests.benchmarks.report import finish, size_options

K = 100
MOST_RATIO, LEAST_SAME = 0.8, 0.9999
COSINE = Similarity("cosine", alpha=1.0, beta=0.0, gamma=0.0, shrinkage=0.0, min_co_occurrence=1, num_neighbors=K)
RUN_ID = "20250301-001-0123abcd"
# The same for Spark: plain cosine, every pair counts, every item may be listed.
SETTINGS = (
    "item_cf.similarity=cosine",
    "item_cf.shrinkage=0.0",
    "item_cf.min_co_occurrence=1",
    f"item_cf.num_neighbors={K}",
    "item_cf.max_items_per_user=100000",
    "candidates.available_within_days=0",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Generates the log, times both sides in turn, then Spark, and prints all of it."""
    asked = size_options(__doc__, rounds=3, users=N_USERS, items=N_ITEMS, draws=N_DRAWS).parse_args(argv)
    planted = planted_interactions(asked.users, asked.items, asked.draws)
    print(f"{len(planted.users):,} interactions, {planted.n_users:,} users x {planted.n_items:,} items")
    weights = _matrix(planted)
    _ours(_head(weights, 10))  # compiles
    pairs = []
    for number in range(asked.rounds):
        ours_s, lists = _timed(_ours, weights)
        theirs_s, peer = _timed(_theirs, weights)
        pairs.append((ours_s, theirs_s))
        print(f"round {number + 1}: ours {ours_s:.2f} s, implicit {theirs_s:.2f} s")
    same_share = _same_share(lists, peer, weights)
    spark_s, shuffled_bytes, equal = _through_spark(planted, lists)
    print(
        f"Spark local[2], table to table: {spark_s:.1f} s, {shuffled_bytes / 1e6:.0f} MB shuffled, bits equal: {equal}"
    )
    ratio = median(ours_s / theirs_s for ours_s, theirs_s in pairs)
    figures = {"ours_s": median(pair[0] for pair in pairs), "implicit_s": median(pair[1] for pair in pairs)}
    figures |= {"ratio": ratio, "same_share": same_share, "spark_s": spark_s, "shuffled_bytes": shuffled_bytes}
    rounded = {name: round(value, 4) for name, value in figures.items()}
    finish(rounded, asked, right=same_share > LEAST_SAME and equal, within_bars=ratio <= MOST_RATIO)


def _matrix(planted: Planted) -> Csr:
    indptr = np.concatenate([[0], np.cumsum(np.bincount(planted.users, minlength=planted.n_users))])
    return Csr(indptr, planted.items, planted.weights, planted.n_items)


def _head(weights: Csr, n_users: int) -> Csr:
    end = weights.indptr[n_users]
    return Csr(weights.indptr[: n_users + 1], weights.indices[:end], weights.values[:end], weights.n_cols)


def _timed(side: Callable[[Csr], Any], weights: Csr) -> tuple[float, Any]:
    started = time.perf_counter()
    result = side(weights)
    return time.perf_counter() - started, result


def _ours(weights: Csr) -> Ranked:
    sums = sums_of_parts(item_parts(weights), weights.n_rows)
    return nearest_items(entry_values(weights, COSINE), range(weights.n_cols), None, sums, COSINE)


def _theirs(weights: Csr) -> csr_matrix:
    model = CosineRecommender(K=K + 1, num_threads=1)
    shape = (weights.n_rows, weights.n_cols)
    model.fit(csr_matrix((weights.values, weights.indices, weights.indptr), shape=shape), show_progress=False)
    return model.similarity


def _same_share(lists: Ranked, peer: csr_matrix, weights: Csr) -> float:
    """Share of the peer's entries that stand in ours with the same score, or tie with the last of a list; 0 if a list
    is shorter than the peer's without the item itself.
    """
    if (np.diff(lists.indptr) < np.diff(peer.indptr) - 1).any():
        return 0.0
    rows = np.repeat(np.arange(weights.n_cols), np.diff(lists.indptr))
    theirs = np.asarray(peer[rows, lists.indices]).ravel()
    last = np.array(
        [peer.data[a:b].min(initial=np.inf) for a, b in zip(peer.indptr[:-1], peer.indptr[1:], strict=True)]
    )
    # Float32 scores: 1e-5 is some 80 of their steps.
    same = np.isclose(theirs, lists.scores, rtol=1e-5) | np.isclose(lists.scores, last[rows], rtol=1e-5)
    return float(same.mean())


def _through_spark(planted: Planted, lists: Ranked) -> tuple[float, int, bool]:
    """Seconds from stored interactions to stored lists, bytes shuffled meanwhile, whether the lists are `lists`."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    config = load_config(sets=(f"storage.root={folder / 'warehouse'}", *SETTINGS))
    tables = [TABLES[name] for name in ("interactions", "item_index", "item_neighbors")]
    create_tables(config.root, tables)
    spark = open_session("bench item_cf", folder)
    _write_inputs(planted, folder / "inputs")
    for table in tables[:2]:
        stage_run(spark.read.parquet(str(folder / "inputs" / table.name)), config.root, table, RUN_ID)
    shuffled = _shuffled_bytes(spark)
    started = time.perf_counter()
    inputs = {table.name: read_run(spark, config.root, table, RUN_ID) for table in tables[:2]}
    context = Context(config, date(2025, 3, 1), RUN_ID, 1, spark)
    stage_run(step_item_cf.run(inputs, context)["item_neighbors"], config.root, tables[2], RUN_ID)
    seconds = time.perf_counter() - started
    shuffled = _shuffled_bytes(spark) - shuffled
    stored = read_run(spark, config.root, tables[2], RUN_ID).select("item_idx", "neighbors").toArrow()
    spark.stop()
    entries = stored.sort_by("item_idx")["neighbors"].combine_chunks().flatten()
    pairs = ((entries.field("item_idx"), lists.indices), (entries.field("score"), lists.scores))
    return seconds, shuffled, all(np.array_equal(column.to_numpy(), ours) for column, ours in pairs)


def _write_inputs(planted: Planted, folder: Path) -> None:
    """The tables `interactions` and `item_index` as Parquet, one file per million pairs."""
    n = len(planted.users)
    newest = datetime(2025, 2, 28, tzinfo=UTC).timestamp()
    times = np.full(n, newest * 1e6, np.int64)
    interactions = pa.table(
        {
            "user_idx": planted.users,
            "item_idx": planted.items,
            "weight": planted.weights,
            "last_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "n_events": np.ones(n, np.int32),
            "excluded_until": pa.nulls(n, pa.timestamp("us", tz="UTC")),
        }
    )
    ids = [f"item-{item:05d}" for item in range(planted.n_items)]
    item_index = pa.table({"item_idx": np.arange(planted.n_items, dtype=np.int32), "item_id": ids})
    for name, table in (("interactions", interactions), ("item_index", item_index)):
        (folder / name).mkdir(parents=True)
        for number, start in enumerate(range(0, table.num_rows, 1_000_000)):
            pq.write_table(table.slice(start, 1_000_000), folder / name / f"{number}.parquet")


def _shuffled_bytes(spark: SparkSession) -> int:
    """Bytes that the session has written for shuffles so far, compressed as they travel."""
    executors = spark._jsc.sc().statusStore().executorList(False)  # type: ignore[attr-defined]
    return sum(executors.apply(number).totalShuffleWrite() for number in range(executors.length()))


if __name__ == "__main__":
    main()
