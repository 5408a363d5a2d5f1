"""All users times all items, top 100 without what each user has: Spark against MLlib's recommendForAllUsers.

    uv run --group bench python tests/benchmarks/bench_top_k.py [--rounds 3] [--users 20000] [--items 8000] [--draws
    1500000]

20,000 users, 8,000 items, 64 factors of a fit of the generated log, local[2]; both sides start from stored factors and
write their lists as Parquet.  MLlib's has no exclusion: it lists what users have.  Rounds are paired after one of each
that is not counted; the speedup is the median of theirs.  The lists are compared with brute force in float64.
The last line is JSON: ours_s, mllib_s, speedup, equal (to brute force).  Exit status 1 if they are not, or below
LEAST_SPEEDUP.
"""

import json
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.als.kernels.objective import Ridge, initial_factors
from recsys_spark.ann.exact_search import fit_items, search_users
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.session import open_session
from tests.als_oracle import fit
from tests.benchmarks.planted import planted_interactions
from tests.benchmarks.report import finish, size_options
from tests.sparse import csr_of_pairs

FACTORS, K = 64, 100
ITERATIONS = 5
LEAST_SPEEDUP = 20


def main(argv: Sequence[str] | None = None) -> None:
    """Fits factors, stores them, times both sides in turn and checks ours against brute force."""
    asked = size_options(__doc__, rounds=3, users=20_000, items=8_000, draws=1_500_000).parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    planted = planted_interactions(asked.users, asked.items, asked.draws)
    matrix = csr_of_pairs(planted.users, planted.items, planted.weights, asked.users, asked.items)
    sizes = f"{asked.users:,} users x {asked.items:,} items, {FACTORS} factors, top {K}"
    print(f"{len(matrix.indices):,} interactions, {sizes}")
    users, items = _fitted(matrix)
    _write(folder, users, items, matrix)
    spark = open_session("bench top_k", folder, {"spark.driver.memory": "8g"})
    model = _mllib_model(spark, folder)
    lists = str(folder / "lists")

    def peer() -> None:
        model.recommendForAllUsers(K).write.mode("overwrite").parquet(str(folder / "peer"))

    pairs = []
    for number in range(asked.rounds + 1):
        ours_s, peer_s = _timed(lambda: _ours(spark, folder, lists, asked)), _timed(peer)
        print(f"round {number}: ours {ours_s:.2f} s, MLlib {peer_s:.2f} s{'' if number else ' (not counted)'}")
        pairs.append((ours_s, peer_s))
    stored = spark.read.parquet(lists).select("user_idx", "items").toArrow().sort_by("user_idx")
    spark.stop()
    equal = _is_exact(stored, users, items, matrix)
    speedup = median(peer_s / ours_s for ours_s, peer_s in pairs[1:])
    figures = {"ours_s": median(pair[0] for pair in pairs[1:]), "mllib_s": median(pair[1] for pair in pairs[1:])}
    rounded = {name: round(value, 3) for name, value in (figures | {"speedup": speedup}).items()}
    finish(rounded | {"equal": equal}, asked, right=equal, within_bars=speedup >= LEAST_SPEEDUP)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fitted(matrix: Csr) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and of items."""
    X, Y, _ = fit(matrix, initial_factors(0, matrix.n_cols, FACTORS, seed=1), Ridge(1.0, 0.01, 1.0), ITERATIONS)
    return X, Y


def _write(folder: Path, users: np.ndarray, items: np.ndarray, matrix: Csr) -> None:
    """Factors in our form and in MLlib's, and the pairs, two files each."""
    for name, vectors in (("user", users), ("item", items)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), FACTORS).cast(pa.list_(pa.float32()))
        ids = pa.array(np.arange(len(vectors), dtype=np.int32))
        shown = pa.array(np.ones(len(vectors), bool))
        _parquet(folder / f"{name}s", pa.table({f"{name}_idx": ids, "vector": lists, "shown": shown}))
        _parquet(folder / f"{name}s-mllib", pa.table({"id": ids, "features": lists}))
    _parquet(folder / "pairs", pa.table({"user_idx": matrix.rows.astype(np.int32), "item_idx": matrix.indices}))


def _parquet(folder: Path, table: pa.Table) -> None:
    folder.mkdir()
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), folder / "0.parquet")
    pq.write_table(table.slice(half), folder / "1.parquet")


def _ours(spark: SparkSession, folder: Path, to: str, asked: Namespace) -> None:
    users, items, hidden = (spark.read.parquet(str(folder / name)) for name in ("users", "items", "pairs"))
    searched = fit_items(items, asked.items, 1.0, "bench", "als.factors")
    search_users(users, hidden, asked.users, searched, "als", K).write.mode("overwrite").parquet(to)


def _mllib_model(spark: SparkSession, folder: Path) -> ALSModel:
    """MLlib's model of the same factors: it has no constructor but its own reader."""
    saved = folder / "model"
    (saved / "metadata").mkdir(parents=True)
    params = {"userCol": "user", "itemCol": "item"}
    defaults = {"predictionCol": "prediction", "coldStartStrategy": "nan", "blockSize": 4096, **params}
    metadata = {
        "class": "org.apache.spark.ml.recommendation.ALSModel",
        "timestamp": 0,
        "sparkVersion": spark.version,
        "uid": "ALS_bench",
        "paramMap": params,
        "defaultParamMap": defaults,
        "rank": FACTORS,
    }
    spark.createDataFrame([(json.dumps(metadata),)], "value string").coalesce(1).write.mode("overwrite").text(
        str(saved / "metadata")
    )
    for name in ("user", "item"):
        spark.read.parquet(str(folder / f"{name}s-mllib")).select(F.col("id"), "features").write.parquet(
            str(saved / f"{name}Factors")
        )
    return ALSModel.load(str(saved))


def _is_exact(stored: pa.Table, users: np.ndarray, items: np.ndarray, matrix: Csr) -> bool:
    """Whether every list is that of brute force; where scores are within float32 of each other either is right."""
    entries = stored["items"].combine_chunks()
    if not np.array_equal(stored["user_idx"].to_numpy(), np.flatnonzero(users.any(axis=1))):
        return False
    listed = entries.flatten().field("item_idx").to_numpy().reshape(-1, K)
    Y = items.astype(np.float64)
    for place, user in enumerate(stored["user_idx"].to_numpy()):
        scores = Y @ users[user].astype(np.float64)
        scores[matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]] = -np.inf
        best = np.sort(scores)[::-1][:K]
        if not np.allclose(scores[listed[place]], best, rtol=1e-6, atol=1e-7) or len(set(listed[place])) < K:
            return False
    return True


if __name__ == "__main__":
    main()
