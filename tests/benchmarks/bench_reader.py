"""Seconds and milliseconds of a service's lookups, ours beside deltalake and DuckDB on the same files.

    uv run python tests/benchmarks/bench_reader.py [--users 200000] [--items 100] [--lookups 2000] [--folder DIR]

Lists are made by Spark from hashes (no download) and staged by the product's own writer.  Users are drawn without
repetition, so no answer comes from an earlier one.  The last line is one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from deltalake import DeltaTable

from recsys_spark.reader import open_current
from recsys_spark.tables.catalog import CANDIDATE_LISTS, PUBLISHES
from recsys_spark.tables.delta_rs import table_path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.warehouse import RUN_A, append_publish, make_rows, publish_bundle, stage_rows

CATALOGUE_SIZE = 50_000
FEATURE_ROWS = 8000  # rows of features that make a row group of the size that the product writes
ITEMS_AT_ONCE = 300
WARM_UP = 300
# The peers take long enough that fewer samples give a stable median.
PEER_LOOKUPS = 50
P50_BAR_MS, P99_BAR_MS = 5.0, 20.0

_COLD = """
from time import perf_counter
started = perf_counter()
from recsys_spark.reader import open_current
imported = perf_counter()
bundle = open_current({root!r})
opened = perf_counter()
bundle.candidates({user_id!r})
print(imported - started, opened - imported, perf_counter() - opened)
"""


def build(root: Path, n_users: int, k: int) -> float:
    """Publishes `n_users` lists of `k` items with one or two sources each; returns the seconds of Spark's write."""
    from pyspark.sql import functions as F

    from recsys_spark.session import open_session
    from recsys_spark.tables.delta import stage_run

    publish_bundle(root, "20250130-001-00000000", ["u000000000"])  # an older bundle, which must not be read
    rows = make_rows(RUN_A, [], {f"u{number:09d}": "gold" for number in range(n_users)})
    rows["item_features"] = [{"item_id": f"item-{n:05d}", "title": f"Title {n}"} for n in range(CATALOGUE_SIZE)]
    del rows["candidates"]
    stage_rows(root, RUN_A, rows, row_group=FEATURE_ROWS)
    spark = open_session("bench_reader", root)
    items = f"""transform(sequence(1, {k}), r -> named_struct(
        'item_id', concat('item-', lpad(pmod(xxhash64(id, r), {CATALOGUE_SIZE}), 5, '0')),
        'rank', cast(r as int), 'score', cast(1 / (60 + r) as float),
        'sources', transform(sequence(1, 1 + pmod(hash(id, r), 2)), s -> named_struct(
            'source', element_at(array('popular/global', 'popular/trending'), cast(s as int)),
            'rank', cast(pmod(hash(id, r, s), 200) + 1 as int),
            'score', cast(pmod(hash(r, s), 1000) / 1000 as float)))))"""
    frame = spark.range(n_users).select(
        F.expr("concat('u', lpad(id, 9, '0')) AS user_id"),
        F.lit("main").alias("variant"),
        F.expr(items).alias("items"),
        F.expr("timestamp'2025-01-31 04:00:00Z' AS generated_at"),
    )
    started = perf_counter()
    stage_run(frame, root, CANDIDATE_LISTS, RUN_A)
    seconds = perf_counter() - started
    spark.stop()
    append_publish(root, RUN_A, {name: len(table_rows) for name, table_rows in rows.items()} | {"candidates": n_users})
    return seconds


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


def main() -> None:
    """Builds, measures, prints both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--lookups", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="keep the warehouse here and use it again")
    arguments = parser.parse_args()
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
    print(json.dumps(report))


if __name__ == "__main__":
    main()
