"""What the bundle that is current was worth: its lists, judged on what users did since its date.

Owns: the figures of `quality`.  Called by the runner.  The bundle was made before any of it happened, so this is an
honest number and needs no training; what it says of a bad bundle is an alarm (`recsys_spark.hindsight_trend`) and stops
nothing: to refuse the new bundle would keep the bad one.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from math import isnan
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.adapters.blend import fit_settings
from recsys_spark.adapters.evaluation import PUBLISHED, evaluate_lists
from recsys_spark.adapters.exam import LENGTHS, POPULAR_28, fit_exam, fit_variants, with_published
from recsys_spark.adapters.holdout import judged_users, later_events
from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.kernels.evaluation import ALL, MAIN, Figure
from recsys_spark.kernels.intervals import Tally, difference, mean_interval
from recsys_spark.steps.context import Context, midnight
from recsys_spark.tables.catalog import QUALITY, SOURCE_CANDIDATES
from recsys_spark.tables.head import PublishRow
from recsys_spark.tables.spark import spark_schema

_log = logging.getLogger(__name__)

_SCHEMA_WITHOUT = ("run_id",)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`quality`: without rows if nothing was published for an earlier date, or [hindsight] window_days is 0.

    Figures: against_publish_seq; window_days that were watched; failed (1) if the bundle could not be judged; and of
    all known users n_users, recall with its bounds, popular (recall of what most
    users engaged with in 28 days), over_popular with its bounds, gini and coverage of the published lists, all at the
    first of `LENGTHS`.
    """
    current, schema = context.current, spark_schema(QUALITY, _SCHEMA_WITHOUT)
    context.figures["against_publish_seq"] = float(current.publish_seq) if current else 0.0
    window_days = context.config.hindsight.window_days
    if current is None or current.data_date >= context.day or not window_days:
        return {"quality": context.spark.createDataFrame([], schema)}
    ends = min(context.day, current.data_date + timedelta(days=window_days))
    context.figures["window_days"] = float((ends - current.data_date).days)
    try:
        figures = _judge(inputs, context, current.data_date, window_days)
    except (DamagedError, KernelError) as err:
        # The bundle that is judged may be damaged, or too large to be judged: that must not keep the new one back.
        _log.warning("step=hindsight phase=judge not judged: %s", err)
        context.figures["failed"] = 1.0
        return {"quality": context.spark.createDataFrame([], schema)}
    rows = [row | _window(current, ends) for row in _rows(figures)]
    context.figures.update(_headline(figures, min(LENGTHS[0], context.config.candidates.k)))
    return {
        "quality": context.spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)
    }


def _judge(inputs: Mapping[str, DataFrame], context: Context, since: date, window_days: int) -> dict[Figure, Tally]:
    """Every figure of the lists that were current, and of popularity as of their date."""
    config, cutoff = context.config, midnight(since)
    tables = {name.removeprefix("current_"): frame for name, frame in inputs.items() if name.startswith("current_")}
    no_sources = context.spark.createDataFrame([], spark_schema(SOURCE_CANDIDATES, _SCHEMA_WITHOUT))
    then = {"events": inputs["events"], "items": inputs["items"], "source_candidates": no_sources} | tables
    later = later_events(inputs["events"], cutoff, window_days)
    judged = judged_users(then, later, config, cutoff).persist()
    exam = fit_exam(then, judged, fit_settings(no_sources, config.candidates), config, cutoff)
    exam = replace(exam, variants=fit_variants(tables["candidates"]))
    return evaluate_lists(with_published(judged, tables), exam)


def _rows(figures: Mapping[Figure, Tally]) -> list[dict[str, Any]]:
    """A row for every figure that anybody counts in."""
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
    """A bound that there is; a figure of all lists at once has none."""
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
