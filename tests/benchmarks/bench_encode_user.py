"""Milliseconds of encoding a user at request time, and of finding what is nearest.

    uv run --group bench python tests/benchmarks/bench_encode_user.py [--items 20000] [--calls 2000]

A model of the default size with ten features of users, random weights, twenty recent items.  The last line is JSON:
p50_ms and p99_ms of `encode_user`, the same of `nearest` with k = 100 (nearest_...), within_bar.
Exit status 1 if encoding misses it.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from recsys_spark.serving.bundle import open_current
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.model_file import SUFFIX
from recsys_spark.two_tower.kernels.towers import Shape
from recsys_spark.warehouse.blobs import put_blob
from tests.benchmarks.report import finish, size_options
from tests.made_warehouse import RUN_A, append_publish, make_rows, publish_bundle, stage_rows
from tests.tower_fits import make_model

BAR_MS = 5.0
WARM_UP = 200
NUMBERS = ("n_events", "n_items", "n_items_7d", "n_active_days", "mean_value", "days_since_last", "mean_price")
USERS = TowerInputs(
    (
        Field("segment", "category"),
        *(Field(name, "number") for name in NUMBERS),
        Field("category_affinities", "shares"),
        Field("attributes.city", "category"),
    ),
    n_buckets=32_768,
)
SHAPE = Shape(dim=64, hidden=128, normalize=True, history_items=20, half_life_items=5.0)


def publish(root: Path, n_items: int) -> None:
    """A bundle with a model and embeddings of items."""
    publish_bundle(root, "20250130-001-00000000", [])
    blob = put_blob(root, make_model(None, USERS, shape=SHAPE), SUFFIX)
    vectors = np.random.default_rng(1).normal(size=(n_items, SHAPE.dim)).astype(np.float32)
    rows = make_rows(RUN_A, [], {})
    rows["item_embeddings"] = [
        {"item_id": f"item-{n:06d}", "item_idx": n, "vector": vectors[n], "norm": 1.0, "shown": True}
        | {"model_version": blob.sha256}
        for n in range(n_items)
    ]
    rows["two_tower_models"] = [
        {"model_version": blob.sha256, "rel_path": blob.rel_path, "n_bytes": blob.n_bytes, "card": "{}"}
    ]
    stage_rows(root, RUN_A, rows, row_group=100_000)
    append_publish(root, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()})


def times(call: Callable[[int], object], n_calls: int) -> tuple[float, float]:
    """p50 and p99 in ms of a call, after WARM_UP others."""
    found = []
    for n in range(WARM_UP + n_calls):
        started = perf_counter()
        call(n)
        found.append(perf_counter() - started)
    p50, p99 = np.percentile(np.array(found[WARM_UP:]) * 1e3, [50, 99])
    return round(float(p50), 3), round(float(p99), 3)


def main(argv: Sequence[str] | None = None) -> None:
    """Publishes, measures, prints."""
    arguments = size_options(__doc__, items=20_000, calls=2000).parse_args(argv)
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), arguments.items)
        bundle = open_current(folder)
        users = [
            (
                {"segment": f"s{rng.integers(9)}", "attributes.city": f"c{rng.integers(999)}"}
                | {name: float(rng.gamma(2.0)) for name in NUMBERS}
                | {"category_affinities": [{"category": f"k{n}", "share": 0.1} for n in rng.choice(50, 10)]},
                [f"item-{n:06d}" for n in rng.choice(arguments.items, SHAPE.history_items)],
            )
            for _ in range(WARM_UP + arguments.calls)
        ]
        p50, p99 = times(lambda n: bundle.encode_user(*users[n]), arguments.calls)
        vectors = [bundle.encode_user(*one) for one in users]
        near_p50, near_p99 = times(lambda n: bundle.nearest(vectors[n], k=100), arguments.calls)
    report = {"items": arguments.items, "calls": arguments.calls, "p50_ms": p50, "p99_ms": p99}
    report |= {"nearest_p50_ms": near_p50, "nearest_p99_ms": near_p99, "within_bar": p99 < BAR_MS}
    finish(report, arguments, within_bars=p99 < BAR_MS)


if __name__ == "__main__":
    main()
