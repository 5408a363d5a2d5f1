"""What `recsys-spark size` reckons, beside what kernels and a run on a planted log measured.

    uv run --group bench python tests/benchmarks/check_size.py [--part kernels|run] [--users 20000] [--items 8000]
    [--draws 1500000]

Kernels: core-seconds of one pass of ALS, of the neighbours of all items, and of the lists of all users by factors and
by neighbours; one thread, the time that it had the core, the best of three.  What it takes to read and to bring pairs
to their blocks is not in either side.  The speed of a core is measured first, so that reckoned seconds are of this
machine.
Run: the steps from stored interactions to stored candidates, local[2].  Stored bytes are those of the Parquet files,
shuffled ones as they travel: both are compressed, and reckoned ones are not.  Seconds, and those of all cores, are
mostly Spark's own for so small a log, which `size` leaves out.
The last line is JSON: gflops; core_s by kernel, stored and shuffled by step, each reckoned and measured.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # as a task has it

import numpy as np

from recsys_spark.als.kernels.objective import Ridge, initial_factors, solve_rows
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.item_cf.kernels.similarity import entry_values, item_parts, nearest_items, sums_of_parts
from recsys_spark.item_cf.kernels.user_scores import score_neighbors
from recsys_spark.item_cf.neighbors import similarity_of
from recsys_spark.numeric.sparse import transposed
from recsys_spark.numeric.top_k import search_items, top_k
from recsys_spark.operations.size.deployment import in_bytes, sizes_of
from recsys_spark.operations.size.fits import PAIR_S, REFERENCE_GFLOPS, Load, als_size, item_cf_size
from recsys_spark.operations.size.lists import retrieve_size
from recsys_spark.plan import step
from recsys_spark.spark.session import open_session
from tests.als_oracle import fixed
from tests.benchmarks.planted import Planted, planted_interactions
from tests.benchmarks.report import finish, size_options
from tests.sized_run import SETS, run_steps, stored_bytes
from tests.sparse import csr_of_pairs

ID_BYTES = 12  # of the planted ids
N_CORES = 2
ROUNDS = 3
Both = tuple[float, float]  # reckoned and measured


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the parts that are asked for and prints both sides of each."""
    parser = size_options(__doc__, users=20_000, items=8_000, draws=1_500_000)
    parser.add_argument("--part", choices=("kernels", "run"))
    asked = parser.parse_args(argv)
    planted = planted_interactions(asked.users, asked.items, asked.draws)
    load = Load(planted.n_users, planted.n_items, len(planted.users), ID_BYTES)
    print(f"{load.pairs:,} pairs of {load.users:,} users and {load.items:,} items")
    figures: dict[str, Any] = {}
    if asked.part != "run":
        figures |= kernels_part(planted, load)
    if asked.part != "kernels":
        figures |= run_part(planted, load)
    finish(figures, asked)


def kernels_part(planted: Planted, load: Load) -> dict[str, Any]:
    """Core-seconds of the kernels."""
    gflops = gflops_of_a_core()
    print(f"{gflops:.0f} GFLOP/s a core")
    measured, reckoned = kernel_seconds(planted), reckoned_seconds(load)
    found = {name: (reckoned[name] * REFERENCE_GFLOPS / gflops, measured[name]) for name in measured}
    for name, (ours, theirs) in found.items():
        print(f"{name:<18} {ours:.2f} and {theirs:.2f} core-seconds, reckoned and measured")
    return {"gflops": round(gflops, 1), "core_s": {name: _rounded(both) for name, both in found.items()}}


def kernel_seconds(planted: Planted) -> dict[str, float]:
    """Of each kernel on the whole log, with the default settings."""
    config = load_config()
    users = csr_of_pairs(planted.users, planted.items, planted.weights, planted.n_users, planted.n_items)
    items = transposed(users)
    one = config.als
    ridge = Ridge(one.alpha, one.regularization, one.nu, one.unobserved)
    X, Y = (initial_factors(0, n, one.factors, seed=1) for n in (planted.n_users, planted.n_items))
    similarity, sums = similarity_of(config.item_cf), sums_of_parts(item_parts(users), planted.n_users)
    of_items, k = range(planted.n_items), config.candidates.k
    near = nearest_items(entry_values(users, similarity), of_items, None, sums, similarity)
    return {
        "als, one pass": _seconds(lambda: (solve_rows(users, fixed(Y), ridge), solve_rows(items, fixed(X), ridge))),
        "item_cf": _seconds(lambda: nearest_items(entry_values(users, similarity), of_items, None, sums, similarity)),
        "retrieve, als": _seconds(lambda: top_k(X, search_items(Y, None), k, users, 64 << 20)),
        "retrieve, item_cf": _seconds(lambda: score_neighbors(users, near, users, k, False)),
    }


def reckoned_seconds(load: Load) -> dict[str, float]:
    """The same as `size` has them."""
    passes = [als_size(load, 1, load_config(sets=(f"als.iterations={n}",))).core_s for n in (1, 2)]
    # The kernel sees whole histories, the source the newest items of each.
    retrieve = {name: retrieve_size(load, _only(name)).core_s - load.pairs * PAIR_S for name in ("als", "item_cf")}
    return {
        "als, one pass": passes[1] - passes[0],
        "item_cf": item_cf_size(load, 1, load_config()).core_s - load.pairs * PAIR_S,
        **{f"retrieve, {name}": seconds for name, seconds in retrieve.items()},
    }


def _only(source: str) -> Config:
    return load_config(sets=(f'sources.enabled=["{source}"]', "sources.item_cf.history_items=1000"))


def _seconds(work: Callable[[], object]) -> float:
    work()  # compiles
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def gflops_of_a_core() -> float:
    """Of a product as exact search makes it, on one thread, by the time that it had the core; the best of several."""
    rng = np.random.default_rng(1)
    queries, items = (rng.random((n, 64), dtype=np.float32) for n in (128, 8192))
    best = float("inf")
    for _ in range(20):
        started = time.process_time()
        for _ in range(10):
            queries @ items.T
        best = min(best, (time.process_time() - started) / 10)
    return 2 * 128 * 64 * 8192 / best / 1e9


def run_part(planted: Planted, load: Load) -> dict[str, Any]:
    """Bytes of the steps."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-size-"))
    config = load_config(sets=(f"storage.root={folder / 'warehouse'}", *SETS))
    spark = open_session("check size", folder, {"spark.driver.memory": "6g"})
    measured = run_steps(spark, config, planted)
    spark.stop()
    figures: dict[str, Any] = {}
    for one in sizes_of(load, N_CORES, config):
        if one.step in measured:
            found, stored = measured[one.step], sum(stored_bytes(config.root, name) for name in step(one.step).writes)
            both = {"stored": (one.stored, stored), "shuffled": (one.shuffled, found.shuffled_bytes)}
            texts = [f"{name} {in_bytes(a)} and {in_bytes(b)}" for name, (a, b) in both.items()]
            print(f"{one.step:<9} {', '.join(texts)}; {found.seconds:.1f} s, {found.core_s:.1f} core-seconds")
            figures[one.step] = {name: _rounded(pair) for name, pair in both.items()}
    return figures


def _rounded(both: Both) -> list[float]:
    return [round(one, 3) for one in both]


if __name__ == "__main__":
    main()
