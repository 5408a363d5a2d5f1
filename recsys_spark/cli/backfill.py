"""Backfill: runs many dates in their order in one Spark session, those that were missed or those to be run again.

Owns: the order, and the report of dates that a gate refuses.  A run of an older date learns only from bundles of dates
before it, and never becomes current by itself.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import SparkSession

from recsys_spark.cli.console import Console
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, GateRefused
from recsys_spark.pipeline.gates.days import dates_without_run, days_between, gap_text
from recsys_spark.pipeline.gates.verdict import Forced
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.pipeline.runner import dated, run_day
from recsys_spark.plan import Observer


def dates_to_run(config: Config, first: date, last: date, missing: bool) -> list[date]:
    """The dates from `first` to `last`; missing: only those without a completed run.  Raises ArgumentError if none."""
    if first > last:
        raise ArgumentError(f"--from {first}: expected a day up to --to {last}; give the earlier one first")
    return dates_without_run(RunLedger(config.root), first, last) if missing else days_between(first, last)


def backfill(
    spark: SparkSession, config: Config, days: Sequence[date], console: Console, observe: Observer, forced: Forced
) -> None:
    """Runs `days` in order and says what became of each.

    A date that a gate refuses does not stop those after it; GateRefused at the end names them all.
    """
    refused = {}
    for day in days:
        try:
            report = run_day(spark, config, day, dated(observe, day), forced)
        except GateRefused as err:
            refused[day] = err
            console.warn(f"{day}: refused: {err}")
            continue
        console.finished(report, of=f"{day}: ")
    if left := dates_without_run(RunLedger(config.root)):
        console.warn(f"{len(left)} dates have no completed run: {gap_text(left)}")
    if refused:
        raise GateRefused(f"backfill: expected all dates to be run, got {gap_text(sorted(refused))} refused; see above")
