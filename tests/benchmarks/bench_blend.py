"""The step blend at the size of MovieLens-20M's users: five lists of 200 each, from stored lists to stored candidates.

    uv run --group bench python tests/benchmarks/bench_blend.py [--users 138000] [--rounds 3]

138,000 users with 30 items behind them, 27,000 items, five lists of 200 for each user (138 million proposals), two
segments, local[2], the default settings.  Ours is the whole step: who is active, what may be shown, fusion without
what each user had, provenance, figures, and the sorted write to Delta; the median of the rounds.  The peer is the same
fusion in Spark SQL, as one writes it by hand: explode, an anti join, a window for the ranks, a sum by user and item, a
window for the best; on a tenth of the users, where both sides are timed in pairs, because it takes minutes for all.
The lists of both are compared.  The last line is JSON: ours_s (all users), ratio (peer / ours, a tenth of the users),
equal.  Exit status 1 above 60 s, or if the lists differ.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys_spark.blend import step_blend
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.features.declared import declared_tables
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.spark_tables import stage_run
from recsys_spark.warehouse.tables import RANKED_IDX, TABLES
from tests.benchmarks.report import finish, size_options

N_ITEMS, N_LISTS, LENGTH, N_HAD = 27_000, 5, 200, 30
MAX_SECONDS = 60.0
DAY = date(2025, 3, 1)
CUTOFF = datetime(2025, 3, 1, tzinfo=UTC)
CHUNK = 6_000


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the lists, times the step for all users, and both sides for a tenth."""
    arguments = size_options(__doc__, users=138_000, rounds=3).parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    write_inputs(folder / "all", arguments.users)
    write_inputs(folder / "tenth", arguments.users // 10)
    spark = open_session("bench blend", folder, {"spark.driver.memory": "6g"})
    config = load_config(sets=(f"storage.root={folder / 'warehouse'}", "candidates.available_within_days=0"))
    create_tables(folder / "warehouse", declared_tables().values())
    times = []
    for number in range(arguments.rounds):
        times.append(timed(lambda at=number: ours(spark, folder / "all", config, at)))
        print(
            f"round {number}: {arguments.users:,} users, {times[-1]:.1f} s, {arguments.users / times[-1]:,.0f} users/s"
        )
    ratios = []
    for number in range(arguments.rounds):
        ours_s = timed(lambda at=number: ours(spark, folder / "tenth", config, 100 + at))
        peer_s = timed(
            lambda: peer(spark, folder / "tenth", config).write.mode("overwrite").parquet(str(folder / "peer"))
        )
        print(f"round {number}: {arguments.users // 10:,} users, ours {ours_s:.1f} s, Spark SQL {peer_s:.1f} s")
        ratios.append(peer_s / ours_s)
    equal = are_equal(spark, folder, 100)
    spark.stop()
    ours_s = median(times)
    figures = {"ours_s": round(ours_s, 1), "ratio": round(median(ratios), 2), "equal": equal}
    finish(figures, arguments, right=equal, within_bars=ours_s <= MAX_SECONDS)


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write_inputs(folder: Path, n_users: int) -> None:
    """Lists, interactions, indices and features of a run as Parquet."""
    rng = np.random.default_rng(1)
    for name in ("source_candidates", "interactions"):
        (folder / name).mkdir(parents=True)
    for first in range(0, n_users, CHUNK):
        users = np.arange(first, min(first + CHUNK, n_users), dtype=np.int32)
        pq.write_table(lists_of(users, rng), folder / "source_candidates" / f"{first}.parquet")
        pq.write_table(interactions_of(users, rng), folder / "interactions" / f"{first}.parquet")
    user_ids = pa.array([f"user {number:07d}" for number in range(n_users)])
    segments = pa.array([("DE", "FR")[number % 2] for number in range(n_users)])
    tables = {
        "user_index": {"user_idx": pa.array(np.arange(n_users, dtype=np.int32)), "user_id": user_ids},
        "user_features": {"user_id": user_ids, "segment": segments},
        "item_index": {
            "item_idx": pa.array(np.arange(N_ITEMS, dtype=np.int32)),
            "item_id": pa.array([f"item {number:06d}" for number in range(N_ITEMS)]),
        },
    }
    for name, columns in tables.items():
        (folder / name).mkdir()
        pq.write_table(pa.table(columns), folder / name / "0.parquet")


def lists_of(users: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Five lists a user: squares of even draws, so that the lists of a user share items."""
    items = np.empty((len(users), N_LISTS, LENGTH), np.int32)
    for row in range(len(users)):
        for number in range(N_LISTS):
            draws = (rng.random(3 * LENGTH) ** 3 * N_ITEMS).astype(np.int32)
            _, first = np.unique(draws, return_index=True)
            distinct = draws[np.sort(first)][:LENGTH]
            rest = N_ITEMS - 1 - np.arange(LENGTH - len(distinct))  # too few in a handful of rows
            items[row, number] = np.concatenate([distinct, rest])
    n_rows = len(users) * N_LISTS
    ranks = np.tile(np.arange(1, LENGTH + 1, dtype=np.int32), n_rows)
    scores = (1 / ranks).astype(np.float32)
    kind = arrow_type(RANKED_IDX)
    entries = pa.StructArray.from_arrays(
        [pa.array(items.ravel()), pa.array(ranks), pa.array(scores)], fields=list(kind.value_type)
    )
    return pa.table(
        {
            "source": pa.array([f"list{number}" for number in range(N_LISTS)] * len(users)),
            "user_idx": pa.array(np.repeat(users, N_LISTS)),
            "segment": pa.nulls(n_rows, pa.string()),
            "items": pa.ListArray.from_arrays(
                pa.array(np.arange(0, n_rows * LENGTH + 1, LENGTH, dtype=np.int32)), entries
            ),
            "n_own": pa.nulls(n_rows, pa.int32()),
            "mean": pa.nulls(n_rows, pa.float64()),
            "deviation": pa.nulls(n_rows, pa.float64()),
        }
    )


def interactions_of(users: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """30 items of each user, each once, of which the lists hold many."""
    items = np.array([rng.choice(N_ITEMS // 9, N_HAD, replace=False) for _ in users], np.int32)
    n_rows = items.size
    times = np.full(n_rows, int((CUTOFF - timedelta(days=3)).timestamp()) * 1_000_000)
    return pa.table(
        {
            "user_idx": pa.array(np.repeat(users, N_HAD)),
            "item_idx": pa.array(items.ravel()),
            "weight": pa.array(np.ones(n_rows, np.float32)),
            "last_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "n_events": pa.array(np.ones(n_rows, np.int32)),
            "excluded_until": pa.nulls(n_rows, pa.timestamp("us", tz="UTC")),
        }
    )


def ours(spark: SparkSession, folder: Path, config: Config, number: int) -> None:
    """The step, and its candidates written as the runner writes them."""
    names = ("source_candidates", "interactions", "user_index", "user_features", "item_index")
    inputs = {name: spark.read.parquet(str(folder / name)) for name in names}
    empty = ("events", "items", "users", "exposures", "item_factors", "item_embeddings")
    inputs |= {name: spark.createDataFrame([], spark_schema(TABLES[name])) for name in empty}
    context = Context(config=config, day=DAY, run_id=run_id(number), seed=1, spark=spark)
    outputs = step_blend.run(inputs, context)
    for name in ("candidates", "fallback_candidates"):
        stage_run(outputs[name], config.root, TABLES[name], context.run_id)
    spark.catalog.clearCache()


def run_id(number: int) -> str:
    return f"20250301-{number:03d}-0123abcd"


def peer(spark: SparkSession, folder: Path, config: Config) -> DataFrame:
    """Reciprocal-rank fusion by hand: user_id and items, best first."""
    proposals = (
        spark.read.parquet(str(folder / "source_candidates"))
        .select("source", "user_idx", F.posexplode("items.item_idx").alias("place", "item_idx"))
        .join(spark.read.parquet(str(folder / "interactions")), on=["user_idx", "item_idx"], how="left_anti")
    )
    order = Window.partitionBy("user_idx", "source").orderBy("place")
    points = 1 / (F.lit(config.candidates.rrf_k) + F.row_number().over(order))
    totals = proposals.withColumn("points", points).groupBy("user_idx", "item_idx").agg(F.sum("points").alias("score"))
    best = Window.partitionBy("user_idx").orderBy(F.desc("score"), "item_idx")
    return (
        totals.withColumn("rank", F.row_number().over(best))
        .where(F.col("rank") <= config.candidates.k)
        .join(spark.read.parquet(str(folder / "item_index")), on="item_idx")
        .groupBy("user_idx")
        .agg(F.sort_array(F.collect_list(F.struct("rank", "item_id", "score"))).alias("items"))
        .join(spark.read.parquet(str(folder / "user_index")), on="user_idx")
        .select("user_id", "items")
    )


def are_equal(spark: SparkSession, folder: Path, number: int) -> bool:
    """Whether both sides list the same scores; where sums differ in the last bits, equal ones change places."""
    mine = spark.read.format("delta").load(str(folder / "warehouse" / "tables" / "candidates"))
    mine = mine.where(F.col("run_id") == run_id(number)).select("user_id", F.col("items.score").alias("mine"))
    theirs = spark.read.parquet(str(folder / "peer")).select("user_id", F.col("items.score").alias("theirs"))
    both = mine.join(theirs, on="user_id", how="full")
    near = F.forall(F.zip_with("mine", "theirs", lambda a, b: F.abs(a - b) < 1e-6), lambda one: one)
    wrong = both.where(~F.coalesce(near & (F.size("mine") == F.size("theirs")), F.lit(False))).count()
    return wrong == 0


if __name__ == "__main__":
    main()
