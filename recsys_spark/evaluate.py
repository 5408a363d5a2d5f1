"""What the lists of a run were worth: those that it published, those of every source, both blends, and popularity.

Owns: the lists that are judged, and that they are judged on what came after the run's date.  Called by the step
`hindsight` and by `backtest`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.adapters.blend import fit_settings, fit_shared, fit_shown
from recsys_spark.adapters.blend_scopes import Settings
from recsys_spark.adapters.evaluation import Exam, evaluate_lists
from recsys_spark.adapters.holdout import (
    HEAVY_ITEMS,
    POPULAR,
    fit_item_users,
    head_items,
    judged_users,
    later_events,
    popular_lists,
)
from recsys_spark.config import Config, derive_seed
from recsys_spark.inputs import read_inputs
from recsys_spark.kernels.evaluation import Figure
from recsys_spark.kernels.intervals import Tally
from recsys_spark.plan import step
from recsys_spark.publish import past_runs
from recsys_spark.run_ledger import run_of
from recsys_spark.steps.blend import fit_blend
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.delta import read_run, read_table

LENGTHS = (20, 100)  # places of a list that are judged, beside all that are stored
PUBLISHED = "published"
POPULAR_28 = next(iter(POPULAR))

_POPULAR_ITEMS = 2000  # nobody has seen all but a few of these
_MAX_SEGMENTS = 10  # groups of users, those with most users


def evaluate_run(
    spark: SparkSession, config: Config, run_id: str, window_days: int, until: datetime | None = None
) -> dict[Figure, Tally]:
    """Every figure of the run's lists, on what users did in the window from its date on, and before `until`.

    Raises KeyError if there is no such run, DamagedError if its rows have been collected.
    """
    run = run_of(config.root, run_id)
    seed = derive_seed(run.seed, "blend", run.data_date)
    learned = _with_method(config, "learned")
    context = Context(learned, run.data_date, run_id, seed, spark, past=past_runs(learned, run.data_date))
    inputs = read_inputs(context, run, step("blend"))
    tables = {
        name: read_run(spark, config.root, TABLES[name], run_id) for name in ("candidates", "fallback_candidates")
    }
    later = later_events(read_table(spark, config.root, TABLES["events"]), context.cutoff, window_days, until)
    judged = judged_users(inputs, later, config, context.cutoff).persist()
    exam = _exam(inputs, judged, context)
    figures = evaluate_lists(with_published(judged, tables), exam)
    judged.unpersist()
    return figures


def _exam(inputs: Mapping[str, DataFrame], judged: DataFrame, context: Context) -> Exam:
    """What workers need to judge by: popularity stands beside the sources, and has no weight in a blend."""
    config, cutoff = context.config, context.cutoff
    blends = _blends(inputs, context)
    proposed = inputs["source_candidates"].unionByName(popular_lists(inputs, config, cutoff, _POPULAR_ITEMS))
    settings = next(iter(blends.values()))
    shared = fit_shared(proposed, settings, fit_shown(inputs, config, cutoff))
    item_users, n_users = fit_item_users(inputs, config, cutoff)
    segments = judged.where(F.col("segment").isNotNull()).groupBy("segment").count()
    largest = segments.orderBy(F.desc("count"), "segment").limit(_MAX_SEGMENTS).collect()
    lengths = tuple(dict.fromkeys(min(length, config.candidates.k) for length in (*LENGTHS, config.candidates.k)))
    return Exam(
        shared=shared,
        blends=blends,
        popular=POPULAR_28,
        item_users=item_users,
        n_users=n_users,
        is_head=head_items(item_users),
        heavy_items=HEAVY_ITEMS,
        segments=tuple(row["segment"] for row in largest),
        lengths=lengths,
        seed=config.run.seed,
    )


def _blends(inputs: Mapping[str, DataFrame], context: Context) -> dict[str, Settings]:
    """The settings of both blends; `learned` only where there was enough to learn from."""
    settings = fit_settings(inputs["source_candidates"], context.config.candidates)
    n_popular = len(POPULAR)
    weights = (*settings.weights, *[0.0] * n_popular)
    blends = {"blend/rrf": replace(settings, sources=(*settings.sources, *POPULAR), weights=weights)}
    fit = fit_blend(dict(inputs), settings, context)
    if fit.weights is not None:
        learned = np.vstack([fit.weights, np.zeros((n_popular, fit.weights.shape[1]))])
        blends["blend/learned"] = replace(blends["blend/rrf"], learned=learned)
    return blends


def with_published(judged: DataFrame, tables: Mapping[str, DataFrame]) -> DataFrame:
    """`judged` with the list of every variant that the reader would return, as `published` (name, item_ids).

    A user without a list of their own gets that of the segment, else that for everybody.
    """
    variants = sorted(row["variant"] for row in tables["candidates"].select("variant").distinct().collect())
    fallback = tables["fallback_candidates"].select("segment", F.col("items.item_id").alias("item_ids"))
    of_segment = fallback.where(F.col("segment").isNotNull()).withColumnRenamed("item_ids", "of_segment")
    of_all = fallback.where(F.col("segment").isNull()).select(F.col("item_ids").alias("of_all"))
    found = judged.join(F.broadcast(of_segment), on="segment", how="left").crossJoin(F.broadcast(of_all))
    names = []
    for at, variant in enumerate(variants):
        own = tables["candidates"].where(F.col("variant") == variant)
        found = found.join(own.select("user_id", F.col("items.item_id").alias(f"own{at}")), on="user_id", how="left")
        name = PUBLISHED if len(variants) == 1 else f"{PUBLISHED}/{variant}"
        item_ids = F.coalesce(f"own{at}", "of_segment", "of_all").alias("item_ids")
        names.append(F.struct(F.lit(name).alias("name"), item_ids))
    return found.select(*judged.columns, F.array(*names).alias("published"))


def _with_method(config: Config, method: str) -> Config:
    candidates = config.candidates.model_copy(update={"method": method})
    return config.model_copy(update={"candidates": candidates})
