"""Inputs of a step: pinned tables cut at the as-of date, what its own run has staged, and tables of other bundles.

Owns: the cut at the date.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.run_ledger import OpenRun
from recsys_spark.plan import PINNED, Step
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.spark_tables import read_run, read_table


def read_inputs(context: Context, run: OpenRun, step: Step) -> dict[str, DataFrame]:
    """The frames that `step` reads: pinned tables as of the date, the run's own tables, and those of other bundles.

    Those of the base run are called base_<table>, and are there if the run has a base; those of the bundle that is
    current, current_<table>, if there is one.  A run that has been collected has no rows.
    """
    tables = declared_tables()
    inputs = {}
    for name in step.reads:
        table = tables[name]
        if name in PINNED:
            frame = read_table(context.spark, context.config.root, table, run.pins[name])
            inputs[name] = as_of(frame, table, context)
        else:
            inputs[name] = read_run(context.spark, context.config.root, table, run.run_id)
    if run.base_run_id is not None:
        for name in step.base_reads:
            inputs[f"base_{name}"] = read_run(context.spark, context.config.root, tables[name], run.base_run_id)
    if context.current is not None:
        for name in step.current_reads:
            frame = read_run(context.spark, context.config.root, tables[name], context.current.run_id)
            inputs[f"current_{name}"] = frame
    return inputs


def as_of(frame: DataFrame, table: Table, context: Context) -> DataFrame:
    """What `frame` said before the date: events by their time, catalogue rows by the newest that was valid.

    This is the one place that keeps the future out; no step can read around it.
    """
    cutoff = F.lit(context.cutoff)
    if table.family == "events":
        # The condition on `ds` lets Delta skip the files of later days; the one on the time is the rule.
        return frame.where((F.col("ds") < F.lit(context.day)) & (F.col("event_time") < cutoff))
    key = table.key[0]
    newest = F.max_by(F.struct(*table.names), F.struct("valid_from", "batch_seq")).alias("newest")
    return frame.where(F.col("valid_from") < cutoff).groupBy(key).agg(newest).select("newest.*")
