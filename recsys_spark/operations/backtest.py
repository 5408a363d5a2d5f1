"""Backtest: publishes past dates as they would have been published then, and judges every list on what users did after.

Owns: the order of the dates, the warehouse they run in, the stored figures, and `evaluate_run`: figures of the lists
that a run published, of those of every source, of both blends, and of popularity.  Dates are run in order, each as it
would have run then, in a warehouse of its own with a copy of what was accepted: the warehouse that serves is read once,
locked meanwhile, and not written.  Figures keep their resamples, so that two backtests of the same dates can be
compared user by user at any time.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.blend.collect import fit_settings
from recsys_spark.blend.item_traits import fit_traits, has_room_for_categories, has_room_for_vectors
from recsys_spark.blend.kernels.diversity import Diversity, widest
from recsys_spark.blend.worker import Settings
from recsys_spark.config.choices import as_chosen
from recsys_spark.config.load import config_hash
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.context import Context
from recsys_spark.errors import ArgumentError
from recsys_spark.evaluation.judge import (
    EvaluationSetup,
    evaluate_lists,
    fit_setup,
    fit_variants,
    with_blend,
    with_published,
)
from recsys_spark.evaluation.kernels.figures import Figure
from recsys_spark.evaluation.protocol import judged_users, later_events, with_history
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.clock import known_clock
from recsys_spark.numeric.bootstrap import Tally
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.inputs import read_inputs
from recsys_spark.pipeline.publish import history
from recsys_spark.pipeline.run_ledger import RunLedger, code_version
from recsys_spark.pipeline.runner import dated, run_day
from recsys_spark.plan import PINNED, Observer, step
from recsys_spark.retrieval.user_lists import fuses_scores
from recsys_spark.warehouse.ledger import append_rows, create_tables, read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.locks import warehouse_lock
from recsys_spark.warehouse.run_files import days_with_rows, last_version
from recsys_spark.warehouse.spark_tables import append_once, read_run, read_table
from recsys_spark.warehouse.tables import EVENTS, INGEST_BATCHES, INGEST_FILES, RULES, TABLES

_PUBLISHED = ("candidates", "fallback_candidates", "item_index")

NO_DIVERSITIES: Mapping[str, Diversity] = MappingProxyType({})


FIGURES = "figures.parquet"
MARKER = "backtest.json"
Folds = dict[date, dict[Figure, Tally]]
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


def evaluate_run(
    spark: SparkSession,
    config: Config,
    run_id: str,
    window_days: int,
    diversities: Mapping[str, Diversity] = NO_DIVERSITIES,
) -> dict[Figure, Tally]:
    """Every figure of the run's lists, on what users did in the window from its date on.

    Both blends are judged, whichever was published: `scores` where sources scored what others proposed.  diversities:
    further settings of diversity for blend/rrf, each judged as the list blend/rrf NAME; calibration only if `config`
    has it.
    Raises KeyError if there is no such run, DamagedError if its rows have been collected.
    """
    config, run = as_chosen(known_clock(config), run_id), RunLedger(config.root).run_of(run_id)
    seed = derive_seed(run.seed, "blend", run.data_date)
    context = Context(config, run.data_date, run_id, seed, spark)
    inputs = read_inputs(context, run, step("blend"))
    later = later_events(read_table(spark, config.root, TABLES["events"]), context.cutoff, window_days)
    users = judged_users(inputs, later, config, context.cutoff).persist()
    judged = with_history(users, inputs, config, context.cutoff).persist()
    settings = fit_settings(inputs["source_candidates"], config.candidates)
    setup = _with_traits(fit_setup(inputs, judged, settings, config, context.cutoff), inputs, settings, diversities)
    setup = with_blend(setup, "blend/rrf", replace(settings, fusion=None))
    if fuses_scores(config.candidates):  # otherwise lists end where they were cut
        scores = config.candidates.model_copy(update={"method": "scores"})
        setup = with_blend(setup, "blend/scores", fit_settings(inputs["source_candidates"], scores))
    for name, wanted in diversities.items():
        setup = with_blend(setup, f"blend/rrf {name}", replace(settings, diversity=wanted, fusion=None))
    tables = {name: read_run(spark, config.root, TABLES[name], run_id) for name in _PUBLISHED}
    setup = replace(setup, variants=fit_variants(tables["candidates"]), rated_places=min(setup.lengths))
    figures = evaluate_lists(with_published(judged, tables), setup)
    judged.unpersist()
    users.unpersist()
    return figures


def _with_traits(
    setup: EvaluationSetup, inputs: dict[str, DataFrame], settings: Settings, diversities: Mapping[str, Diversity]
) -> EvaluationSetup:
    """The setup with the traits of items that blends and metrics need, where they fit in memory."""
    wanted = [settings.diversity, *diversities.values()]
    if has_room_for_vectors(inputs):
        wanted.append(Diversity(mmr_weight=0.5))
    if has_room_for_categories(inputs):
        wanted.append(Diversity(category_cap=1))
    traits, categories = fit_traits(inputs, widest(wanted))
    return replace(setup, shared=replace(setup.shared, traits=traits, categories=categories))


@dataclass(frozen=True)
class Plan:
    """The dates to judge, after those that are only run, so that later ones start from them.

    window_days: length of the window from a date on in which users are watched.
    """

    dates: tuple[date, ...]
    before: tuple[date, ...] = ()
    window_days: int = 28


def backtest(spark: SparkSession, config: Config, folder: Path, plan: Plan, observe: Observer, forced: Forced) -> Folds:
    """Runs and judges the dates of `plan` in `folder`; dates that it ran before with the same settings are kept.

    Rules of the business hold in what is published; lists of sources, blends and popularity are judged without them.
    Raises ArgumentError if there are no dates, no logs were accepted, a window ends after the last event, or `folder`
    is that of other logs, settings or later dates; LockedError while another command writes to the warehouse.
    """
    if not plan.dates:
        raise ArgumentError("backtest: expected at least one --date, got none; give the dates to judge")
    if not config.events.is_timed:
        raise ArgumentError(
            f"backtest: expected a log that says when things happened, got events.clock = {config.events.clock}; a run "
            "validates itself on events that it holds back (`recsys-spark explain`)"
        )
    own = config.model_copy(update={"storage": config.storage.model_copy(update={"root": str(folder)})})
    with warehouse_lock(folder, "backtest"):
        _claim(spark, config, folder, plan)
        folds: Folds = {}
        for day in sorted({*plan.dates, *plan.before}):
            report = run_day(spark, own, day, dated(observe, day), forced)
            if day in plan.dates:
                observe(f"judge {day}", "start", {})
                folds[day] = evaluate_run(spark, own, report.run_id, plan.window_days)
                observe(f"judge {day}", "done", {"figures": float(len(folds[day]))})
                spark.catalog.clearCache()
                write_figures(folder, folds, plan.window_days)
    return folds


def write_figures(folder: Path, folds: Mapping[date, Mapping[Figure, Tally]], window_days: int) -> None:
    """Stores the figures with their resamples, in place of those that are there."""
    rows = [
        {"date": day, **figure._asdict(), "n": one.n, "total": one.total}
        for day, figures in folds.items()
        for figure, one in figures.items()
    ]
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({"window_days": str(window_days)}))
    pq.write_table(table, folder / f"{FIGURES}.new")
    (folder / f"{FIGURES}.new").replace(folder / FIGURES)


def read_figures(folder: Path, plan: Plan) -> Folds:
    """The figures of an earlier backtest of the same dates; ArgumentError if there are none."""
    path = folder / FIGURES
    if not path.is_file():
        raise ArgumentError(f"{path}: expected figures of a backtest, got no file; run `recsys-spark backtest` there")
    table = pq.read_table(path)
    folds: Folds = {}
    for row in table.to_pylist():
        figure = Figure(*(row[name] for name in Figure._fields))
        folds.setdefault(row["date"], {})[figure] = Tally(np.array(row["n"]), np.array(row["total"]))
    window_days = int(table.schema.metadata[b"window_days"])
    if sorted(folds) != sorted(plan.dates) or window_days != plan.window_days:
        raise ArgumentError(
            f"{path}: expected the dates {_text(plan.dates)} in windows of {plan.window_days} days, got {_text(folds)} "
            f"in windows of {window_days}; compare backtests of the same dates and windows"
        )
    return folds


def _claim(spark: SparkSession, config: Config, folder: Path, plan: Plan) -> None:
    """Makes `folder` the place of this backtest, or checks that it is; a marker says that the logs are copied."""
    marker, ours = folder / MARKER, {"settings": config_hash(config), "code": code_version(), **_taken_in(config.root)}
    if not ours["batches"]:
        raise ArgumentError(f"{config.root}: expected logs to run past dates on, got none; ingest first")
    _check_windows(config.root, plan)
    if not marker.exists():
        if (folder / "tables").exists():
            raise ArgumentError(f"{folder}: expected an empty folder, got a copy of logs that was cut; delete it")
        create_tables(folder, declared_tables().values())
        with warehouse_lock(config.root, "backtest"):
            ours |= _taken_in(config.root)
            _copy_logs(spark, config.root, folder)
        marker.with_suffix(".new").write_text(json.dumps(ours))
        marker.with_suffix(".new").replace(marker)
    theirs = json.loads(marker.read_text())
    others = " and ".join(name for name, value in ours.items() if theirs.get(name) != value)
    if others:
        raise ArgumentError(f"{folder}: expected a backtest of the same {others}, got another; choose another --folder")
    done = {row.data_date for row in history(folder)}
    late = [day for day in (*plan.dates, *plan.before) if day not in done and done and day < max(done)]
    if late:
        raise ArgumentError(
            f"{folder}: expected dates after {max(done)}, which was run there, got {_text(late)}: they would learn "
            "from what came later; choose another --folder"
        )


def _taken_in(root: Location) -> dict[str, list[Any]]:
    """The inputs of a warehouse, to compare two of them: numbers of batches, and ids of sets of rules."""
    batches = {row["batch_seq"] for row in read_rows(root, INGEST_BATCHES) if row["state"] == "done"}
    sets = {(str(row["valid_from"]), row["set_id"]) for row in read_rows(root, RULES, ("valid_from", "set_id"))}
    return {"batches": sorted(batches), "rules": [list(one) for one in sorted(sets)]}


def _copy_logs(spark: SparkSession, source: Location, folder: Path) -> None:
    """Copies accepted events and catalogue, the ledgers of ingest, and the rules."""
    for name in PINNED:
        frame = read_table(spark, source, TABLES[name], last_version(source, name))
        append_once(frame, folder, TABLES[name], 1)
    for ledger in (RULES, INGEST_FILES, INGEST_BATCHES):
        append_rows(folder, ledger, read_rows(source, ledger))


def _check_windows(root: Location, plan: Plan) -> None:
    """Raises ArgumentError if the log ends before users were watched for the whole window."""
    ends = max(plan.dates) + timedelta(days=plan.window_days - 1)
    last = days_with_rows(root, EVENTS.name)[-1:]
    if last and last[0] < ends:
        raise ArgumentError(
            f"--date {max(plan.dates)}: expected events until {ends}, where a window of {plan.window_days} days ends, "
            f"got the last on {last[0]}; judge earlier dates, or shorter windows (--window-days)"
        )


def _text(days: Iterable[date]) -> str:
    return ", ".join(map(str, sorted(days)))
