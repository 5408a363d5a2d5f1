"""What the pipeline would have published on past dates, and what that would have been worth.

Owns: the order of the dates, the warehouse they run in, and the stored figures.  Called by the command `backtest`.
Dates are run in order, each as it would have run then, in a warehouse of its own with a copy of what was let in: the
warehouse that serves is read once and neither locked nor written.  Figures keep their resamples, so that two backtests
of the same dates are compared user by user whenever that is wanted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.errors import ArgumentError
from recsys_spark.evaluate import evaluate_run
from recsys_spark.features import declared_tables
from recsys_spark.gate import Forced
from recsys_spark.kernels.evaluation import Figure
from recsys_spark.kernels.intervals import Tally
from recsys_spark.lock import warehouse_lock
from recsys_spark.plan import PINNED
from recsys_spark.runner import Observer, run_day
from recsys_spark.tables.catalog import INGEST_BATCHES, INGEST_FILES, TABLES
from recsys_spark.tables.delta import append_once, read_table
from recsys_spark.tables.delta_log import last_version
from recsys_spark.tables.ledger import append_rows, create_tables, read_rows

FIGURES = "figures.parquet"

Folds = dict[date, dict[Figure, Tally]]


@dataclass(frozen=True)
class Plan:
    """The dates to judge, after those that are only run, so that what learns from earlier runs has some.

    window_days: length of the window from a date on in which users are watched.
    """

    dates: tuple[date, ...]
    before: tuple[date, ...] = ()
    window_days: int = 28


def backtest(spark: SparkSession, config: Config, folder: Path, plan: Plan, observe: Observer, forced: Forced) -> Folds:
    """Runs and judges the dates of `plan` in `folder`; what was run there before with the same settings is kept.

    Raises ArgumentError if there are no dates, if nothing was let in, or if `folder` holds other logs.
    """
    if not plan.dates:
        raise ArgumentError("backtest: expected at least one --date, got none; give the dates to judge")
    own = config.model_copy(update={"storage": config.storage.model_copy(update={"root": str(folder)})})
    with warehouse_lock(folder, "backtest"):
        create_tables(folder, declared_tables().values())
        _copy_logs(spark, config.root, folder)
        folds: Folds = {}
        for day in sorted({*plan.dates, *plan.before}):
            report = run_day(spark, own, day, _dated(observe, day), forced)
            if day in plan.dates:
                observe(f"judge {day}", "start", {})
                folds[day] = evaluate_run(spark, own, report.run_id, plan.window_days)
                observe(f"judge {day}", "done", {"figures": float(len(folds[day]))})
                spark.catalog.clearCache()
        write_figures(folder, folds)
    return folds


def write_figures(folder: Path, folds: Mapping[date, Mapping[Figure, Tally]]) -> None:
    """Stores the figures with their resamples."""
    rows = [
        {"date": day, **figure._asdict(), "n": one.n, "total": one.total}
        for day, figures in folds.items()
        for figure, one in figures.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), folder / FIGURES)


def read_figures(folder: Path) -> Folds:
    """The figures of an earlier backtest; ArgumentError if there are none."""
    path = folder / FIGURES
    if not path.is_file():
        raise ArgumentError(
            f"{path}: expected the figures of a backtest, got no file; run `recsys-spark backtest` there"
        )
    folds: Folds = {}
    for row in pq.read_table(path).to_pylist():
        figure = Figure(*(row[name] for name in Figure._fields))
        folds.setdefault(row["date"], {})[figure] = Tally(np.array(row["n"]), np.array(row["total"]))
    return folds


_SCHEMA = pa.schema(
    [
        pa.field("date", pa.date32()),
        pa.field("list_name", pa.string()),
        pa.field("group", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("n", pa.list_(pa.float64())),
        pa.field("total", pa.list_(pa.float64())),
    ]
)


def _copy_logs(spark: SparkSession, source: Path, folder: Path) -> None:
    """Events and catalogue as they were let in; the ledger of batches comes last, and says that all is there."""
    there = _batches(source)
    here = _batches(folder)
    if here == there and here:
        return
    if here or not there:
        raise ArgumentError(
            f"{folder}: expected an empty folder or the logs of {source} ({len(there)} batches), got {len(here)} "
            "batches; ingest first, or choose another --folder"
        )
    for name in PINNED:
        frame = read_table(spark, source, TABLES[name], last_version(source, name))
        append_once(frame, folder, TABLES[name], 1)
    for ledger in (INGEST_FILES, INGEST_BATCHES):
        append_rows(folder, ledger, read_rows(source, ledger))


def _batches(root: Path) -> list[int]:
    if not (root / "tables" / INGEST_BATCHES.name).is_dir():
        return []
    return sorted({row["batch_seq"] for row in read_rows(root, INGEST_BATCHES) if row["state"] == "done"})


def _dated(observe: Observer, day: date) -> Callable[[str, str, dict[str, float]], None]:
    """Steps are told with their date."""
    return lambda step, phase, figures: observe(f"{day} {step}", phase, figures)
