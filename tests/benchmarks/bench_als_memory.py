"""Memory of the driver in a fit by shuffle, at two numbers of users four times apart.

    uv run --group bench python tests/benchmarks/bench_als_memory.py

100,000 and 400,000 users with ten interactions each, 2,000 items, 64 factors, two iterations, local[2], each fit in a
process of its own: the peak of what is resident of the driver's Python, which in this mode holds Gramians and one
record per block.  Broadcast is measured beside it, where the driver holds the users' factors (26 and 102 MB).  The JVM
is not: in local mode it is the executor too.
The last line is JSON: peak_mb by exchange and number of users, growth_mb by exchange.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.adapters.als import fit_factors
from recsys_spark.adapters.als_blocks import Sizes
from recsys_spark.config_file import load_config
from recsys_spark.session import open_session
from recsys_spark.tables.scratch import Scratch

USERS, N_ITEMS, ITEMS_PER_USER = (100_000, 400_000), 2_000, 10
MOST_GROWTH_MB = 38  # half of the factors that are more


def main() -> None:
    """Fits every size by both exchanges and prints the peaks."""
    if len(sys.argv) > 1:
        fit(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
        return
    peaks: dict[str, dict[int, float]] = {"shuffle": {}, "broadcast": {}}
    for n_users in USERS:
        folder = Path(tempfile.mkdtemp(prefix="recsys-bench-"))
        write(folder / "pairs", n_users)
        for exchange, found in peaks.items():
            command = [sys.executable, __file__, str(folder), str(n_users), exchange]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[n_users] = float(done.stdout.split()[-1])
            print(f"{n_users:,} users, {exchange}: {found[n_users]:.0f} MB")
    growth = {exchange: round(found[USERS[1]] - found[USERS[0]], 1) for exchange, found in peaks.items()}
    print(json.dumps({"peak_mb": peaks, "growth_mb": growth}))
    sys.exit(0 if growth["shuffle"] <= MOST_GROWTH_MB else 1)


def write(folder: Path, n_users: int) -> None:
    """Every user with ten items, in files of a hundred thousand users."""
    folder.mkdir()
    for number, first in enumerate(range(0, n_users, 100_000)):
        users = np.repeat(np.arange(first, first + 100_000, dtype=np.int32), ITEMS_PER_USER)
        start = np.random.default_rng(number).integers(0, N_ITEMS, 100_000).repeat(ITEMS_PER_USER)
        items = (start + 97 * np.tile(np.arange(ITEMS_PER_USER), 100_000)) % N_ITEMS
        columns = {"user_idx": users, "item_idx": items.astype(np.int32), "weight": np.ones(len(users), np.float32)}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")


def fit(folder: Path, n_users: int, exchange: str) -> None:
    """One fit; prints the peak of this process in MB."""
    spark = open_session("bench als memory", folder)
    pairs = spark.read.parquet(str(folder / "pairs"))
    settings = load_config(sets=(f"als.exchange={exchange}", "als.factors=64", "als.iterations=2")).als
    fit_factors(pairs, Sizes(n_users, N_ITEMS, n_users, N_ITEMS), settings, 1, Scratch(folder / f"scratch-{exchange}"))
    spark.stop()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
