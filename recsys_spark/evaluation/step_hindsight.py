"""Judges the lists of the current bundle on what users did since its date, and keeps examples for a ranking model.

Owns: the figures of `quality`, and `ranking_examples`: candidates of earlier lists with their features and outcomes.
The bundle was made before any of it happened, so the figures are unbiased and need no training.  A bad bundle raises an
alarm (`recsys_spark.pipeline.hindsight_trend`) and stops nothing: to refuse the new bundle would keep the bad one.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from math import isnan
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.blend.collect import fit_settings
from recsys_spark.blend.worker import EXPLORE
from recsys_spark.context import Context
from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.evaluation.exposure_value import exposure_figures
from recsys_spark.evaluation.judge import (
    LENGTHS,
    POPULAR_28,
    PUBLISHED,
    evaluate_lists,
    fit_setup,
    fit_variants,
    with_published,
)
from recsys_spark.evaluation.kernels.figures import ALL, MAIN, Figure
from recsys_spark.evaluation.protocol import judged_users, later_events
from recsys_spark.features.declared import declared_tables
from recsys_spark.ingest.values import midnight
from recsys_spark.numeric.bootstrap import Tally, difference, mean_interval
from recsys_spark.signals.exposures import exposed_pairs
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import QUALITY, RANKING_EXAMPLES, SOURCE_CANDIDATES

_PLACES = 1 << 30  # the chance to be drawn is exact to a billionth


_log = logging.getLogger(__name__)
_SCHEMA_WITHOUT = ("run_id",)


def ranking_examples(
    lists: Mapping[str, DataFrame], pairs: DataFrame, n_drawn: int, seed: int, made: PublishRow, schema: StructType
) -> DataFrame:
    """The rows of `ranking_examples`, in the form of `schema`.

    lists: candidates, user_features and item_features of one bundle.  made: its row of `publishes`.  pairs: what
    followed, as `exposed_pairs` gives it.  n_drawn: how many candidates of a list, on average, are kept though they
    were neither shown nor engaged with; they are drawn by the hash of user, item and seed.
    """
    candidates = lists["candidates"].join(pairs.select("user_id").distinct(), on="user_id", how="left_semi")
    entries = candidates.select(
        "user_id", "variant", F.size("items").alias("n_items"), F.explode("items").alias("entry")
    ).select("*", F.col("entry")["item_id"].alias("item_id"))
    known = entries.join(pairs, on=["user_id", "item_id"], how="left")
    drawn = F.col("shown_at").isNull() & F.col("engaged_at").isNull()
    by_chance = F.pmod(F.xxhash64("user_id", "item_id", F.lit(seed)), F.lit(_PLACES)) * F.col("n_items")
    kept = known.where(~drawn | (by_chance < F.lit(n_drawn * _PLACES)))
    rows = kept.select(
        F.lit(made.run_id).alias("list_run_id"),
        F.lit(made.data_date).alias("list_date"),
        "user_id",
        "item_id",
        "variant",
        *[F.col("entry")[name].alias(name) for name in ("rank", "score", "sources")],
        "shown_at",
        "surface",
        "position",
        F.coalesce("propensity", _explored(F.col("entry")["sources"])).alias("propensity"),
        "engaged_at",
        F.col("engaged_at").isNotNull().cast("int").alias("label"),
        F.coalesce("value", F.lit(0.0)).alias("value"),
        drawn.alias("drawn"),
    )
    rows = rows.join(_prefixed(lists["user_features"], "user"), on="user_id", how="left")
    rows = rows.join(_prefixed(lists["item_features"], "item"), on="item_id", how="left")
    # A feature that was declared after the bundle was made is null.
    newer = {field.name: F.lit(None).cast(field.dataType) for field in schema if field.name not in rows.columns}
    return rows.withColumns(newer).select(*schema.names) if newer else rows.select(*schema.names)


def _explored(sources: Column) -> Column:
    """The propensity with which an item was explored, null if it was not."""
    found = F.filter(sources, lambda one: one["source"] == EXPLORE)
    return F.when(F.size(found) > 0, F.get(found, 0)["score"].cast("double"))


def _prefixed(features: DataFrame, side: str) -> DataFrame:
    """Every feature as `side`_..., the id as it is."""
    key = f"{side}_id"
    kept = [name for name in features.columns if name not in (key, "run_id")]
    return features.select(key, *[F.col(f"`{name}`").alias(f"{side}_{name}") for name in kept])


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`quality` and `ranking_examples`, both without rows if nothing was published for an earlier date.

    `quality` has none either if [hindsight] window_days is 0, `ranking_examples` if [hindsight] ranking_examples is
    false.
    Figures: against_publish_seq; window_days that were watched; failed (1) if the bundle could not be judged; and of
    all known users n_users, recall with its bounds, popular (recall of what most users engaged with in 28 days),
    over_popular with its bounds, gini and coverage of the published lists, all at the first of `LENGTHS`.
    """
    current, settings = context.current, context.config.hindsight
    context.figures["against_publish_seq"] = float(current.publish_seq) if current else 0.0
    empty = {
        name: context.spark.createDataFrame([], spark_schema(declared_tables()[name], _SCHEMA_WITHOUT))
        for name in ("quality", "ranking_examples")
    }
    if current is None or current.data_date >= context.day:
        return empty
    try:
        quality = {"quality": _quality(inputs, context, current)} if settings.window_days else {}
        examples = {"ranking_examples": _examples(inputs, context, current)} if settings.ranking_examples else {}
    except (DamagedError, KernelError) as err:
        # The judged bundle may be damaged, or too large to judge: that must not stop the new one.
        _log.warning("step=hindsight phase=judge not judged: %s", err)
        context.figures["failed"] = 1.0
        return empty
    return empty | quality | examples


def _quality(inputs: Mapping[str, DataFrame], context: Context, current: PublishRow) -> DataFrame:
    """The rows of `quality`."""
    window_days = context.config.hindsight.window_days
    ends = min(context.day, current.data_date + timedelta(days=window_days))
    context.figures["window_days"] = float((ends - current.data_date).days)
    figures = _judge(inputs, context, current.data_date, window_days)
    context.figures.update(_headline(figures, min(LENGTHS[0], context.config.candidates.k)))
    schema = spark_schema(QUALITY, _SCHEMA_WITHOUT)
    rows = [row | _window(current, ends) for row in _rows(figures)]
    return context.spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)


def _examples(inputs: Mapping[str, DataFrame], context: Context, current: PublishRow) -> DataFrame:
    """The rows of `ranking_examples`, computed here: a damaged bundle is found now, not when they are written."""
    lists, settings = _of_current(inputs), context.config.hindsight
    pairs = _followed(inputs, context, current.data_date).persist()
    schema = spark_schema(declared_tables()[RANKING_EXAMPLES.name], _SCHEMA_WITHOUT)
    made = ranking_examples(lists, pairs, settings.drawn_examples, context.seed, current, schema).persist()
    row: Any = made.agg(
        F.count(F.lit(1)).alias("n_examples"),
        F.coalesce(F.sum("label"), F.lit(0)).alias("n_examples_engaged"),
        F.count_if("drawn").alias("n_examples_drawn"),
    ).first()
    context.figures.update({name: float(value) for name, value in row.asDict().items()})
    return made


def _of_current(inputs: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """The tables of the bundle that is judged."""
    return {name.removeprefix("current_"): one for name, one in inputs.items() if name.startswith("current_")}


def _followed(inputs: Mapping[str, DataFrame], context: Context, since: date) -> DataFrame:
    """What users were shown and did from `since` on, as long as the bundle is watched."""
    n_days = (context.day - since).days
    watched = min(n_days, context.config.hindsight.window_days or n_days)
    later = later_events(inputs["events"], midnight(since), watched)
    return exposed_pairs(later, inputs["items"], context.config.events.types)


def _judge(inputs: Mapping[str, DataFrame], context: Context, since: date, window_days: int) -> dict[Figure, Tally]:
    """Every figure of the lists that were current, and of popularity as of their date."""
    config, cutoff = context.config, midnight(since)
    tables = _of_current(inputs)
    no_sources = context.spark.createDataFrame([], spark_schema(SOURCE_CANDIDATES, _SCHEMA_WITHOUT))
    then = {"events": inputs["events"], "items": inputs["items"], "source_candidates": no_sources} | tables
    later = later_events(inputs["events"], cutoff, window_days)
    judged = judged_users(then, later, config, cutoff).persist()
    setup = fit_setup(then, judged, fit_settings(no_sources, config.candidates), config, cutoff)
    setup = replace(setup, variants=fit_variants(tables["candidates"]))
    figures = evaluate_lists(with_published(judged, tables), setup)
    if all(kind.role != "impression" for kind in config.events.types.values()):
        return figures
    followed = _followed(inputs, context, since)
    variants = tables["candidates"].select("user_id", "variant")
    return figures | exposure_figures(followed, variants, setup.variants, PUBLISHED, config.run.seed)


def _rows(figures: Mapping[Figure, Tally]) -> list[dict[str, Any]]:
    """A row for every figure that has a user and a value."""
    rows = []
    for figure, one in sorted(figures.items()):
        if not one.n[0] or isnan(one.means[0]):
            continue
        found, popular = mean_interval([one]), figures.get(figure._replace(list_name=POPULAR_28))
        over = difference([one], [popular]) if figure.metric in MAIN and popular is not None else None
        row: dict[str, Any] = {"list": figure.list_name, "users_or_items": figure.group, "metric": figure.metric}
        row |= {"k": figure.k, "n_users": int(one.n[0]), "estimate": found.estimate}
        row |= {"low": _known(found.low), "high": _known(found.high)}
        row |= {"over_popular": over.estimate if over else None}
        row |= {"over_popular_low": _known(over.low) if over else None}
        row |= {"over_popular_high": _known(over.high) if over else None}
        rows.append(row)
    return rows


def _known(bound: float) -> float | None:
    """The bound, None if it is nan: a figure of all lists together has no bounds."""
    return None if isnan(bound) else bound


def _window(current: PublishRow, ends: date) -> dict[str, Any]:
    return {"judged_run_id": current.run_id, "judged_from": current.data_date, "judged_to": ends}


def _headline(figures: Mapping[Figure, Tally], k: int) -> dict[str, float]:
    """What `recsys-spark status` shows of the day; nothing if nobody was judged."""
    recall = figures.get(Figure(PUBLISHED, ALL, "recall", k))
    if recall is None or not recall.n[0]:
        return {"n_users": 0.0}
    popular = figures[Figure(POPULAR_28, ALL, "recall", k)]
    found, over = mean_interval([recall]), difference([recall], [popular])
    spread = {
        metric: float(figures[Figure(PUBLISHED, ALL, metric, k)].means[0])
        for metric in ("coverage", "gini")
        if Figure(PUBLISHED, ALL, metric, k) in figures
    }
    return {
        "n_users": float(recall.n[0]),
        "k": float(k),
        "recall": found.estimate,
        "recall_low": found.low,
        "recall_high": found.high,
        "popular": float(popular.means[0]),
        "over_popular": over.estimate,
        "over_popular_low": over.low,
        "over_popular_high": over.high,
        **spread,
    }
