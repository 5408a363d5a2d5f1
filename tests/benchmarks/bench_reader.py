"""Seconds and milliseconds of a service's lookups, ours beside deltalake and DuckDB on the same files.

    uv run --group bench python tests/benchmarks/bench_reader.py [--users 200000] [--items 100] [--lookups 2000]
    [--folder DIR]

Lists are made from hashes (no download) by Spark's tasks as they write them, as the step blend makes its own.  Users
are drawn without repetition, so no answer comes from an earlier one.  The last line is JSON; within_bar tells whether
lists are looked up within P50_BAR_MS and P99_BAR_MS.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, PUBLISHES
from tests.benchmarks.report import finish, size_options
from tests.made_warehouse import GENERATED_AT, RUN_A, append_publish, make_rows, publish_bundle, stage_rows

CATALOGUE_SIZE = 50_000
FEATURE_ROWS = 8000  # rows of features that make a row group of the size that the product writes
ITEMS_AT_ONCE = 300
N_FILES, LISTS_AT_ONCE = 4, 1000
SOURCES = ("popular/global", "popular/trending")
WARM_UP = 300
# The peers take long enough that fewer samples give a stable median.
PEER_LOOKUPS = 50
P50_BAR_MS, P99_BAR_MS = 5.0, 20.0

_COLD = """
from time import perf_counter
started = perf_counter()
from recsys_spark.serving.bundle import open_current
imported = perf_counter()
bundle = open_current({root!r})
opened = perf_counter()
bundle.candidates({user_id!r})
print(imported - started, opened - imported, perf_counter() - opened)
"""


def build(root: Path, n_users: int, k: int) -> float:
    """Publishes `n_users` lists of `k` items with one or two sources each; returns the seconds of Spark's write."""
    from recsys_spark.spark.session import open_session
    from recsys_spark.warehouse.spark_tables import TaskRows, stage_run

    publish_bundle(root, "20250130-001-00000000", ["u000000000"])  # an older bundle, which must not be read
    rows = make_rows(RUN_A, [], {f"u{number:09d}": "gold" for number in range(n_users)})
    rows["item_features"] = [{"item_id": f"item-{n:05d}", "title": f"Title {n}"} for n in range(CATALOGUE_SIZE)]
    del rows["candidates"]
    stage_rows(root, RUN_A, rows, row_group=FEATURE_ROWS)
    spark = open_session("bench_reader", root)

    def make(batches: Iterator[pa.RecordBatch], _: object) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            users = batch["id"].to_numpy()
            for first in range(0, len(users), LISTS_AT_ONCE):
                yield lists_of(users[first : first + LISTS_AT_ONCE], k)

    started = perf_counter()
    stage_run(TaskRows(spark.range(0, n_users, 1, N_FILES), make, lambda _: None), root, CANDIDATE_LISTS, RUN_A)
    seconds = perf_counter() - started
    spark.stop()
    append_publish(root, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()} | {"candidates": n_users})
    return seconds


def lists_of(users: np.ndarray, k: int) -> pa.RecordBatch:
    """Rows of `candidates`: k items of each user, each of one or two sources, all by hashes of user and rank."""
    schema = pa.schema([field for field in arrow_schema(CANDIDATE_LISTS) if field.name != "run_id"])
    kind = schema.field("items").type
    sources = kind.value_type.field("sources").type
    ranks = np.tile(np.arange(1, k + 1, dtype=np.int32), len(users))
    of_pair = hashed(np.repeat(users, k) * k + ranks)  # (len(users) * k,)
    n_sources = (1 + of_pair % 2).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(n_sources)]).astype(np.int32)
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], n_sources)
    of_source = hashed(np.repeat(of_pair, n_sources) + place.astype(np.uint64))
    proposed = [
        pa.array(SOURCES).take(pa.array(place)),
        pa.array((of_source % 200 + 1).astype(np.int32)),
        pa.array((of_source % 1000 / 1000).astype(np.float32)),
    ]
    proposals = pa.StructArray.from_arrays(proposed, fields=list(sources.value_type))
    items = [
        pa.array([f"item-{n:05d}" for n in hashed(of_pair) % CATALOGUE_SIZE]),
        pa.array(ranks),
        pa.array((1 / (60 + ranks)).astype(np.float32)),
        pa.ListArray.from_arrays(starts, proposals, type=sources),
    ]
    entries = pa.StructArray.from_arrays(items, fields=list(kind.value_type))
    lists = pa.ListArray.from_arrays(k * np.arange(len(users) + 1, dtype=np.int32), entries, type=kind)
    user_ids, times = [f"u{number:09d}" for number in users], pa.repeat(pa.scalar(GENERATED_AT), len(users))
    columns = [
        pa.array(user_ids),
        pa.array(["main"] * len(users)),
        lists,
        times.cast(schema.field("generated_at").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def hashed(numbers: np.ndarray) -> np.ndarray:
    """Numbers that look drawn at random, uint64: the finalizer of splitmix64."""
    mixed = numbers.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def time_lookups(lookup: Callable[[Any], Any], arguments: list[Any]) -> dict[str, float]:
    """p50 and p99 of one call per argument, ms; cpu: of the calling thread alone, whatever else the machine does."""
    walls, cpus = [], []
    for argument in arguments:
        started, cpu_started = perf_counter(), thread_time()
        lookup(argument)
        walls.append(perf_counter() - started)
        cpus.append(thread_time() - cpu_started)
    figures = {"p50_ms": (walls, 50), "p99_ms": (walls, 99), "cpu_p50_ms": (cpus, 50), "cpu_p99_ms": (cpus, 99)}
    return {name: round(float(np.percentile(times, q)) * 1000, 3) for name, (times, q) in figures.items()}


def cold_start(root: Path, user_id: str) -> dict[str, float]:
    """Seconds of import, open and first lookup in a new process, the smallest of three; the page cache is warm."""
    runs = []
    for _ in range(3):
        code = _COLD.format(root=str(root), user_id=user_id)
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append([float(text) for text in answer.stdout.split()])
    imports, opens, firsts = (min(column) for column in zip(*runs, strict=True))
    return {"import_s": round(imports, 3), "cold_open_s": round(opens, 3), "first_lookup_s": round(firsts, 3)}


def open_peers(root: Path) -> dict[str, Callable[[str], list[str]]]:
    """How else one would read the same rows: each with its own snapshot or file list kept open, its best case."""
    import duckdb

    path = table_path(root, "candidates")
    partition = [("run_id", "=", RUN_A)]
    table = DeltaTable(path)
    dataset = table.to_pyarrow_dataset(file_pruning_predicate=partition)
    files = table.file_uris(file_pruning_predicate=partition)
    connection = duckdb.connect(config={"threads": 1})

    def by_dataset(user_id: str) -> list[str]:
        rows = dataset.to_table(columns=["items"], filter=ds.field("user_id") == user_id)
        return [item["item_id"] for item in rows["items"][0].as_py()]

    def by_table(user_id: str) -> list[str]:
        own = [("user_id", "=", user_id)]
        rows = table.to_pyarrow_table(filters=partition + own, columns=["items"])
        return [item["item_id"] for item in rows["items"][0].as_py()]

    def by_duckdb(source: str, arguments: list[Any]) -> Callable[[str], list[str]]:
        query = f"SELECT items FROM {source} WHERE user_id = ? AND run_id = ?"

        def lookup(user_id: str) -> list[str]:
            found = connection.execute(query, [*arguments, user_id, RUN_A]).fetchone()
            return [item["item_id"] for item in found[0]]

        return lookup

    peers: dict[str, Callable[[str], list[str]]] = {"deltalake": by_table, "deltalake_dataset_kept": by_dataset}
    try:
        connection.execute("INSTALL delta; LOAD delta")
        peers["duckdb_delta_scan"] = by_duckdb("delta_scan(?)", [path])
    except duckdb.Error as err:
        print(f"DuckDB's delta extension cannot be installed here ({str(err).splitlines()[0][:90]}...);")
        print("its best case is measured instead: read_parquet over the files of the run, without the Delta log")
    peers["duckdb_parquet"] = by_duckdb("read_parquet(?, hive_partitioning = true)", [files])
    return peers


def measure(root: Path, arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    """Fills `report` with our figures and the peers', after checking that all give the same lists."""
    drawn = np.random.default_rng(7).choice(arguments.users, WARM_UP + arguments.lookups, replace=False)
    user_ids = [f"u{number:09d}" for number in drawn]
    report |= cold_start(root, user_ids[0])
    bundle = open_current(root)
    for user_id in user_ids[:WARM_UP]:
        bundle.candidates(user_id)
    report["candidates"] = time_lookups(bundle.candidates, user_ids[WARM_UP:])
    report["unknown_user"] = time_lookups(bundle.candidates, [f"{one}x" for one in user_ids[WARM_UP:][:200]])
    report["user_features"] = time_lookups(bundle.user_features, user_ids[WARM_UP:][:500])
    rng = np.random.default_rng(8)
    item_ids = [[f"item-{n:05d}" for n in rng.choice(CATALOGUE_SIZE, ITEMS_AT_ONCE)] for _ in range(50)]
    report[f"item_features_{ITEMS_AT_ONCE}"] = time_lookups(bundle.item_features, item_ids)
    report["refresh_unchanged"] = time_lookups(lambda _: bundle.refresh(), user_ids[:200])
    for name, lookup in open_peers(root).items():
        for user_id in user_ids[:3]:
            assert lookup(user_id) == [item.item_id for item in bundle.candidates(user_id).items], name
        report[name] = time_lookups(lookup, user_ids[WARM_UP:][:PEER_LOOKUPS])


def main(argv: Sequence[str] | None = None) -> None:
    """Builds, measures, prints both sides."""
    parser = size_options(__doc__, users=200_000, items=100, lookups=2000)
    parser.add_argument("--folder", type=Path, help="keep the warehouse here and use it again")
    arguments = parser.parse_args(argv)
    report: dict[str, Any] = {"users": arguments.users, "items": arguments.items, "lookups": arguments.lookups}
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        if not Path(table_path(root, PUBLISHES.name)).exists():
            report["write_s"] = round(build(root, arguments.users, arguments.items), 1)
        measure(root, arguments, report)
    for name, value in report.items():
        print(f"{name:24} {value}")
    ours = report["candidates"]
    report["within_bar"] = ours["p50_ms"] <= P50_BAR_MS and ours["p99_ms"] <= P99_BAR_MS
    finish(report, arguments)


if __name__ == "__main__":
    main()
