"""What sources cost beside the one that they are like: `low_pass` beside ALS, `ridge` beside cosine.

    uv run --group bench python tests/benchmarks/bench_sources.py [--rounds 3] [--users 138000] [--items 27000]
                                                                  [--draws 17000000] [--readers N]

low_pass: ten million generated interactions of 138,000 users and 27,000 items, local[2], from stored interactions to
stored vectors, 64 directions and 64 factors, each with the passes and iterations that it has by default (ALS to the
last of them: tolerance 0).
ridge: 912,705 real interactions (goodbooks, books that people mean to read), local[2], from stored interactions to
stored lists, 200 neighbours of each item, by cosine and by the regressions of `ridge`.
Rounds are paired, and a ratio is the median over them.  The last line is JSON: low_pass_ratio and ridge_ratio (of
seconds, low_pass over ALS, ridge over cosine), low_pass_s, als_s, ridge_s, cosine_s.  Exit status 1 outside BOUNDS.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from pyspark.sql import SparkSession

from recsys_spark.als.blocks import Sizes
from recsys_spark.als.fit import factor_rows, fit_factors
from recsys_spark.config.load import load_config
from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.item_cf.neighbors import Limits, fit_neighbors
from recsys_spark.low_pass.filter import fit_low_pass
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.scratch import Scratch
from tests.benchmarks.bench_als import N_DRAWS, to_read
from tests.benchmarks.planted import N_ITEMS, N_USERS, planted_interactions, write_pairs
from tests.benchmarks.report import finish, size_options

FACTORS, NEIGHBORS = 64, 200
BOUNDS = {"low_pass": 1.0, "ridge": 3.0}
COSINE = Similarity("cosine", 1.0, 0.0, 0.0, 0.0, 1, NEIGHBORS, 50.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Times both pairs in turn, and prints all of it."""
    parser = size_options(__doc__, rounds=3, users=N_USERS, items=N_ITEMS, draws=N_DRAWS)
    parser.add_argument("--readers", type=int, metavar="N", help="of the real log the first N users; all by default")
    asked = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    spark = open_session("bench sources", folder, {"spark.driver.memory": "6g"})
    figures: dict[str, float] = {}
    for names, sides in (
        (("ridge", "cosine"), _neighbors(spark, folder, asked)),
        (("low_pass", "als"), _vectors(spark, folder, asked)),
    ):
        for side in sides:
            side()  # compiles, and starts the workers
        seconds = [[_timed(side) for side in sides] for _ in range(asked.rounds)]
        figures[f"{names[0]}_ratio"] = median(one / other for one, other in seconds)
        for at, name in enumerate(names):
            figures[f"{name}_s"] = median(one[at] for one in seconds)
            print(f"{name}: " + ", ".join(f"{one[at]:.1f} s" for one in seconds), flush=True)
    spark.stop()
    kept = all(figures[f"{name}_ratio"] <= bound for name, bound in BOUNDS.items())
    finish({name: round(value, 3) for name, value in figures.items()}, asked, within_bars=kept)


def _timed(side: Callable[[], None]) -> float:
    started = time.perf_counter()
    side()
    return time.perf_counter() - started


def _neighbors(spark: SparkSession, folder: Path, asked: argparse.Namespace) -> tuple[Callable[[], None], ...]:
    users, _ = to_read(asked.readers)
    write_pairs(folder / "to_read", users.rows, users.indices, users.values)
    columns = "user_idx AS row_idx", "item_idx AS col_idx", "weight", "timestamp'2025-01-01' AS last_time"
    pairs = spark.read.parquet(str(folder / "to_read")).selectExpr(*columns)

    def fit(similarity: Similarity) -> None:
        lists = fit_neighbors(pairs, similarity, Limits(500, 256 << 20))
        lists.write.mode("overwrite").parquet(str(folder / similarity.name))
        spark.catalog.clearCache()

    return lambda: fit(replace(COSINE, name="ridge")), lambda: fit(COSINE)


def _vectors(spark: SparkSession, folder: Path, asked: argparse.Namespace) -> tuple[Callable[[], None], ...]:
    planted = planted_interactions(asked.users, asked.items, asked.draws)
    print(f"{len(planted.users):,} interactions, {planted.n_users:,} users x {planted.n_items:,} items", flush=True)
    write_pairs(folder / "planted", planted.users, planted.items, planted.weights)
    pairs = spark.read.parquet(str(folder / "planted"))
    config = load_config(sets=(f"als.factors={FACTORS}", "als.tolerance=0.0"))
    passes = config.sources.params("low_pass")["passes"]

    def low_pass() -> None:
        scratch = Scratch(folder / "low_pass_scratch")
        found = fit_low_pass(pairs, asked.users, asked.items, 0.25, passes, config.als, 1, scratch)
        found.users.write.mode("overwrite").parquet(str(folder / "low_pass"))
        scratch.drop()
        spark.catalog.clearCache()

    def als() -> None:
        scratch = Scratch(folder / "als_scratch")
        sizes = Sizes(asked.users, asked.items, asked.users, asked.items)
        fit = fit_factors(pairs, sizes, config.als, 1, scratch)
        for name, side, other in (("users", fit.users, fit.items.side), ("items", fit.items, fit.users.side)):
            factor_rows(spark, side, other, scratch).write.mode("overwrite").parquet(str(folder / f"als_{name}"))
        scratch.drop()
        spark.catalog.clearCache()

    return low_pass, als


if __name__ == "__main__":
    main()
