"""The steps that fit and propose, run on a planted log and measured: what they stored, shuffled and took.

Owns: that run.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.runner import code_of
from recsys_spark.plan import PINNED, step
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.run_files import list_run
from recsys_spark.warehouse.spark_tables import read_run, read_table, stage_run
from tests.benchmarks.planted import Planted
from tests.empty_warehouse import copy_empty_warehouse

RUN_ID = "20250301-001-0123abcd"
DAY = date(2025, 3, 1)
# Of the log nothing is read but its interactions: whatever is indexed may be shown.
SETS = ('sources.enabled=["item_cf","als"]', "candidates.available_within_days=0", "als.tolerance=0.0")
_PERIOD_S = 0.25
STEPS = ("item_cf", "als", "retrieve", "blend")


@dataclass(frozen=True)
class Measured:
    """Of one step: bytes written for shuffles (compressed), seconds, and seconds of all cores, the JVM's too."""

    shuffled_bytes: int
    seconds: float
    core_s: float


def run_steps(
    spark: SparkSession, config: Config, planted: Planted, steps: Sequence[str] = STEPS
) -> dict[str, Measured]:
    """Stages the log's tables, then runs and stages `steps`; what each took."""
    copy_empty_warehouse(config.root)
    _stage_log(spark, config.root, planted)
    context = Context(config, DAY, RUN_ID, 1, spark)
    return {name: _measured(context, name) for name in steps}


def stored_bytes(root: Path, table: str) -> int:
    """Bytes of the Parquet files of the run."""
    return sum(file.size_bytes for file in list_run(Path(table_path(root, table)), table, RUN_ID, None).files)


def stage_parquet(spark: SparkSession, root: Path, name: str, rows: pa.Table) -> None:
    """Writes rows as the runner would, with every column of the table that `rows` lacks null."""
    schema = arrow_schema(declared_tables()[name])
    columns = {
        field.name: rows[field.name].cast(field.type) if field.name in rows.column_names else _none(field, len(rows))
        for field in schema
        if field.name != "run_id"
    }
    folder = root / "_inputs" / name
    folder.mkdir(parents=True)
    table = pa.table(columns)
    for number, start in enumerate(range(0, max(1, table.num_rows), 1_000_000)):
        pq.write_table(table.slice(start, 1_000_000), folder / f"{number}.parquet")
    stage_run(spark.read.parquet(str(folder)), root, declared_tables()[name], RUN_ID)


def _none(field: pa.Field, n: int) -> pa.Array:
    """Nulls, or the least value of a column that may have none."""
    if field.nullable:
        return pa.nulls(n, field.type)
    if pa.types.is_list(field.type):
        return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.nulls(0, field.type.value_type))
    return pa.array(np.zeros(n, np.int64)).cast(field.type)


def _stage_log(spark: SparkSession, root: Path, planted: Planted) -> None:
    n = len(planted.users)
    yesterday = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(days=1)
    times = pa.array(np.full(n, yesterday.timestamp() * 1e6, np.int64), pa.timestamp("us", tz="UTC"))
    columns = {"user_idx": planted.users, "item_idx": planted.items, "weight": planted.weights, "last_time": times}
    stage_parquet(spark, root, "interactions", pa.table(columns | {"n_events": np.ones(n, np.int32)}))
    for kind, size in (("user", planted.n_users), ("item", planted.n_items)):
        ids = pa.array(external_ids(kind, size))
        index = pa.table({f"{kind}_idx": np.arange(size, dtype=np.int32), f"{kind}_id": ids})
        stage_parquet(spark, root, f"{kind}_index", index)
        stage_parquet(spark, root, f"{kind}_features", index)


def external_ids(kind: str, n: int) -> list[str]:
    """Ids of 12 letters, in the order of their indices."""
    return [f"{kind}-{number:07d}" for number in range(n)]


def _measured(context: Context, name: str) -> Measured:
    spark, root = context.spark, context.config.root
    shuffled, started, tables = _shuffled_bytes(spark), time.perf_counter(), declared_tables()
    with _CoreSeconds() as taken:
        inputs = {
            one: read_table(spark, root, tables[one]) if one in PINNED else read_run(spark, root, tables[one], RUN_ID)
            for one in step(name).reads
        }
        for written, frame in code_of(step(name)).run(inputs, context).items():
            stage_run(frame, root, tables[written], RUN_ID)
        spark.catalog.clearCache()
    return Measured(_shuffled_bytes(spark) - shuffled, time.perf_counter() - started, taken.total)


def _shuffled_bytes(spark: SparkSession) -> int:
    """Bytes that the session has written for shuffles so far, compressed as they travel."""
    executors = spark._jsc.sc().statusStore().executorList(False)  # type: ignore[attr-defined]
    return sum(executors.apply(number).totalShuffleWrite() for number in range(executors.length()))


class _CoreSeconds(threading.Thread):
    """Seconds of processor of this process and of all that it started: a process that ends takes its count with it, so
    they are looked at every _PERIOD_S.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def __enter__(self) -> "_CoreSeconds":
        self._first = _ticks()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    @property
    def total(self) -> float:
        """What they took in the block."""
        ticks = sum(last - self._first.get(pid, 0) for pid, last in self._last.items())
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self) -> None:
        while True:
            self._last |= _ticks()
            if self._ended.wait(_PERIOD_S):
                self._last |= _ticks()
                return


def _ticks() -> dict[int, int]:
    """What each of them has taken since it began, by process."""
    parents, ticks = {}, {}
    for stat in _stats():
        pid, fields = int(stat.partition(" ")[0]), stat.rpartition(")")[2].split()
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])  # proc(5): utime, stime
    mine = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= found
    return {pid: ticks[pid] for pid in mine & set(ticks)}


def _stats() -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "stat").read_text()
            except OSError:  # it has ended
                continue
