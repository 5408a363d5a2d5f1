"""Memory of the driver in a fit by shuffle, at two numbers of users four times apart.

    uv run --group bench python tests/benchmarks/bench_als_memory.py [--users 100000] [--items 2000] [--exchange
    shuffle|broadcast]

100,000 users, and four times as many, with ten interactions each, 2,000 items, 64 factors, two iterations, local[2],
each fit in a process of its own: the peak of what is resident of the driver's Python, which in this mode holds Gramians
and one record per block.  Broadcast is measured beside it, where the driver holds the users' factors (26 and 102 MB).
The JVM is not: in local mode it is the executor too.
The last line is JSON: peak_mb by exchange and number of users, growth_mb by exchange.  Exit status 1 if a shuffle's
driver grows by more than MOST_GROWTH_MB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.als.blocks import Sizes
from recsys_spark.als.fit import fit_factors
from recsys_spark.config.load import load_config
from recsys_spark.spark.session import open_session
from recsys_spark.warehouse.scratch import Scratch
from tests.benchmarks.report import finish, size_options

ITEMS_PER_USER, TIMES = 10, 4
USERS_AT_ONCE = 100_000
MOST_GROWTH_MB = 38  # half of the factors that are more


def main(argv: Sequence[str] | None = None) -> None:
    """Fits both sizes by every exchange that is asked for and prints the peaks."""
    parser = size_options(__doc__, users=100_000, items=2_000)
    parser.add_argument("--exchange", choices=("shuffle", "broadcast"), help="both by default")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.fit:
        fit(asked.fit, asked.users, asked.items, asked.exchange)
        return
    exchanges = (asked.exchange,) if asked.exchange else ("shuffle", "broadcast")
    peaks: dict[str, dict[int, float]] = {exchange: {} for exchange in exchanges}
    for n_users in (asked.users, TIMES * asked.users):
        folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
        write(folder / "pairs", n_users, asked.items)
        for exchange, found in peaks.items():
            sizes = ["--users", str(n_users), "--items", str(asked.items)]
            command = [sys.executable, __file__, "--fit", str(folder), *sizes, "--exchange", exchange]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[n_users] = float(done.stdout.split()[-1])
            print(f"{n_users:,} users, {exchange}: {found[n_users]:.0f} MB")
    growth = {exchange: round(found[TIMES * asked.users] - found[asked.users], 1) for exchange, found in peaks.items()}
    within = growth.get("shuffle", 0.0) <= MOST_GROWTH_MB
    finish({"peak_mb": peaks, "growth_mb": growth}, asked, within_bars=within)


def write(folder: Path, n_users: int, n_items: int) -> None:
    """Every user with ten items, in files of a hundred thousand users."""
    folder.mkdir()
    for number, first in enumerate(range(0, n_users, USERS_AT_ONCE)):
        n = min(USERS_AT_ONCE, n_users - first)
        users = np.repeat(np.arange(first, first + n, dtype=np.int32), ITEMS_PER_USER)
        start = np.random.default_rng(number).integers(0, n_items, n).repeat(ITEMS_PER_USER)
        items = (start + 97 * np.tile(np.arange(ITEMS_PER_USER), n)) % n_items
        columns = {"user_idx": users, "item_idx": items.astype(np.int32), "weight": np.ones(len(users), np.float32)}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")


def fit(folder: Path, n_users: int, n_items: int, exchange: str) -> None:
    """One fit; prints the peak of this process in MB."""
    spark = open_session("bench als memory", folder)
    pairs = spark.read.parquet(str(folder / "pairs"))
    settings = load_config(sets=(f"als.exchange={exchange}", "als.factors=64", "als.iterations=2")).als
    fit_factors(pairs, Sizes(n_users, n_items, n_users, n_items), settings, 1, Scratch(folder / f"scratch-{exchange}"))
    spark.stop()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
