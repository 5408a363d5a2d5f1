"""Runner of one date: opens its run, gives each step its pinned inputs, checks and stages outputs, writes the ledger.

Owns: the order of a day and everything a step must not know (where tables are, which version, which run).
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from importlib import import_module
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.choices import as_chosen, choices_note, read_choices, shape_note
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.context import Context
from recsys_spark.errors import ArgumentError, ContractError, DamagedError
from recsys_spark.failpoint import failpoint
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.clock import clock_note, known_clock, next_day
from recsys_spark.ingest.rules import rules_of
from recsys_spark.pipeline.audit import audit
from recsys_spark.pipeline.gates.days import check_days, warnings_of
from recsys_spark.pipeline.gates.verdict import Forced, Gate
from recsys_spark.pipeline.hindsight_trend import alarms_of
from recsys_spark.pipeline.inputs import read_inputs
from recsys_spark.pipeline.log_context import at
from recsys_spark.pipeline.publish import commit, current_row
from recsys_spark.pipeline.run_ledger import OpenRun, RunLedger
from recsys_spark.plan import PLAN, Observer, Step, steps_before
from recsys_spark.warehouse.locks import opening_lock
from recsys_spark.warehouse.spark_check import RowFigures, check_rows, check_schema, measure_rows
from recsys_spark.warehouse.spark_tables import TaskRows, read_run, stage_run
from recsys_spark.warehouse.tables import CHOICES

_log = logging.getLogger(__name__)


_NOTHING_FORCED = Forced()


@dataclass
class RunReport:
    """What became of a run.  outcome: published, backfilled or unchanged; seconds and rows per step that ran.

    day_gates: the verdicts on the days before it.  forced: the gates that may fail.
    """

    run_id: str
    data_date: date
    outcome: str
    seconds: dict[str, float] = field(default_factory=dict)
    n_rows: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    day_gates: list[Gate] = field(default_factory=list)
    forced: Forced = _NOTHING_FORCED


def _unobserved(step: str, phase: str, figures: dict[str, float]) -> None:
    """The observer of a caller who does not watch."""


def dated(observe: Observer, day: date) -> Observer:
    """An observer of several dates: steps are told with theirs."""
    return lambda step, phase, figures: observe(f"{day} {step}", phase, figures)


def run_day(
    spark: SparkSession,
    config: Config,
    day: date | None = None,
    observe: Observer = _unobserved,
    forced: Forced = _NOTHING_FORCED,
) -> RunReport:
    """Runs every step of `day` that is not done yet and publishes; day: None is that of `ingest.clock.next_day`.

    Raises GateRefused if a gate refuses the day: the bundle that was current stays current.
    """
    day, config = day or next_day(config), known_clock(config)
    ledger, run, report = _open_run(config, day, forced)
    if report.outcome == "unchanged":
        return report
    for step in PLAN:
        again = step.name not in run.done or step.name in ("audit", "publish") or _is_stale(step, ledger, run)
        if step.in_run and again:
            run_step(spark, config, ledger, run, step, report, observe)
    return report


def _is_stale(step: Step, ledger: RunLedger, run: OpenRun) -> bool:
    """Whether the step was done beside another bundle than the one that is current."""
    if not step.current_reads:
        return False
    current = current_row(ledger.root)
    against = ledger.steps_of(run.run_id)[step.name]["figures"]["against_publish_seq"]
    return bool(against != (current.publish_seq if current else 0))


def join_run(
    spark: SparkSession,
    config: Config,
    day: date,
    name: str,
    observe: Observer = _unobserved,
    forced: Forced = _NOTHING_FORCED,
) -> RunReport:
    """Runs one step of the open run of `day`, opening it if there is none; steps before it must be done."""
    step = next((step for step in PLAN if step.name == name and step.in_run), None)
    if step is None:
        names = ", ".join(step.name for step in PLAN if step.in_run)
        raise ArgumentError(f"step: expected one of {names}, got {name!r}; see `recsys-spark step --help`")
    config = known_clock(config)
    ledger, run, report = _open_run(config, day, forced)
    if report.outcome == "unchanged":
        return report
    missing = [one for one in steps_before(step) if one not in run.done]
    if missing:
        raise ArgumentError(
            f"step {name}: expected {', '.join(missing)} to be done in run {run.run_id}, got none; run them first"
        )
    run_step(spark, config, ledger, run, step, report, observe)
    return report


def _open_run(config: Config, day: date, forced: Forced) -> tuple[RunLedger, OpenRun, RunReport]:
    """The run of `day` and its report: `unchanged` if it is completed, `open` otherwise."""
    with opening_lock(config.root):
        ledger = RunLedger(config.root)
        gates = check_days(config, ledger, day, forced)
        run, state = ledger.find_or_open(config, day)
    outcome = "open" if state == "open" else "unchanged"
    warnings = [*clock_note(config), *warnings_of(gates)]
    return ledger, run, RunReport(run.run_id, day, outcome, warnings=warnings, day_gates=gates, forced=forced)


def run_step(
    spark: SparkSession,
    config: Config,
    ledger: RunLedger,
    run: OpenRun,
    step: Step,
    report: RunReport,
    observe: Observer,
) -> None:
    """Runs one step of an open run and records it; its outputs are staged and checked before that."""
    with at(run.run_id, step.name):
        _run_step(spark, config, ledger, run, step, report, observe)
    failpoint(f"run.after_{step.name}")


def _run_step(
    spark: SparkSession,
    config: Config,
    ledger: RunLedger,
    run: OpenRun,
    step: Step,
    report: RunReport,
    observe: Observer,
) -> None:
    started = datetime.now(UTC)
    clock = time.perf_counter()
    observe(step.name, "start", {})
    context = _context(spark, config, ledger, run, step, observe)
    measured: dict[str, RowFigures] = {}
    if step.name == "audit":
        audit(context, ledger, run, report.forced, report.day_gates)
    elif step.name == "publish":
        report.outcome = commit(config, ledger, run, _audited_on(ledger, run))
        report.warnings += alarms_of(ledger, run.run_id)
    else:
        outputs = code_of(step).run(_inputs(context, ledger, run, step), context)
        measured = stage_outputs(context, step, outputs)
        if CHOICES.name in step.writes:
            report.notes.append(shape_note(context.done["interactions"]["figures"], config))
            report.notes += choices_note(read_choices(config.root, run.run_id), run.data_date)
        report.warnings += context.warnings
        # Frames that a step has cached are dropped with it.
        spark.catalog.clearCache()
    seconds = time.perf_counter() - clock
    ledger.record_step(
        {
            "run_id": run.run_id,
            "step": step.name,
            "started_at": started,
            "seconds": seconds,
            "n_rows": {name: figures.n_rows for name, figures in measured.items()},
            "content_hashes": {name: figures.content_hash for name, figures in measured.items()},
            "figures": context.figures,
        },
    )
    context.scratch(step.name).drop()
    report.seconds[step.name] = seconds
    report.n_rows |= {name: figures.n_rows for name, figures in measured.items()}
    shown = {f"rows:{name}": float(figures.n_rows) for name, figures in measured.items()} | context.figures
    _log.info("step=%s run_id=%s seconds=%.2f %s", step.name, run.run_id, seconds, _pairs(shown))
    observe(step.name, "done", {"seconds": seconds, **shown})


def code_of(step: Step) -> Any:
    """The module of the step; the plan alone says where it is."""
    return import_module(f"recsys_spark.{step.module}")


def _context(
    spark: SparkSession, config: Config, ledger: RunLedger, run: OpenRun, step: Step, observe: Observer
) -> Context:
    """The context of the step; with the settings that the run chose, where it reads the choices."""
    if CHOICES.name in step.reads:
        config = as_chosen(config, run.run_id)
    return Context(
        config,
        run.data_date,
        run.run_id,
        derive_seed(run.seed, step.name, run.data_date),
        spark,
        tell=partial(observe, step.name, "progress"),
        current=current_row(config.root),
        done=ledger.steps_of(run.run_id),
        rules=rules_of(config.root, run.data_date)[1] if step.name == "blend" else (),
    )


def _inputs(context: Context, ledger: RunLedger, run: OpenRun, step: Step) -> dict[str, DataFrame]:
    """What the step reads; a run whose own rows are damaged cannot be resumed, and is refused."""
    try:
        return read_inputs(context, run, step)
    except DamagedError as err:
        if run.run_id in str(err):
            ledger.record_state(run.run_id, "refused")
        raise


def stage_outputs(context: Context, step: Step, outputs: Mapping[str, DataFrame | TaskRows]) -> dict[str, RowFigures]:
    """Stages what a step returned, reads it back and checks every row; what it measured, per table."""
    tables = declared_tables()
    if set(outputs) != set(step.writes):
        raise ContractError(
            f"step {step.name}: expected the tables {sorted(step.writes)}, got {sorted(outputs)}; correct the step"
        )
    root, measured = context.config.root, {}
    for name in step.writes:
        rows = outputs[name]
        if isinstance(rows, DataFrame):
            check_schema(rows, tables[name], without=("run_id",))
        stage_run(rows, root, tables[name], context.run_id)
        failpoint(f"stage.after_{name}")
        measured[name] = measure_rows(read_run(context.spark, root, tables[name], context.run_id), tables[name])
        check_rows(measured[name], tables[name], f"run_id={context.run_id}")
    return measured


def _audited_on(ledger: RunLedger, run: OpenRun) -> int:
    """publish_seq of the head that the run's audit compared with; raises ArgumentError if it was not audited."""
    audited = ledger.steps_of(run.run_id).get("audit")
    if audited is None:
        raise ArgumentError(f"step publish: expected audit to be done in run {run.run_id}, got none; run it first")
    return int(audited["figures"]["publish_seq"])


def _pairs(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in figures.items())
