"""Fuses the lists of all sources into one list per active user, and one per segment for everybody else.

Owns: the assembly of the two tables and their figures.  Called by the runner.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.blend import (
    active_users,
    blend_lists,
    fit_settings,
    fit_shared,
    fit_shown,
    own_lists,
    segments_without_users,
    variant_of,
)
from recsys_spark.adapters.blend_scopes import Settings, Shared
from recsys_spark.adapters.item_traits import fit_rule_targets, fit_traits
from recsys_spark.adapters.learned_blend import Fit, Lesson, PastRun, fit_learned
from recsys_spark.kernels.diversify import NOTHING, widest
from recsys_spark.list_settings import MAIN
from recsys_spark.plan import step
from recsys_spark.rule_set import compile_rules
from recsys_spark.steps.context import Context, midnight
from recsys_spark.tables.catalog import BLEND_FITS
from recsys_spark.tables.spark import spark_schema

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`candidates`, `fallback_candidates` and `blend_fits`.

    Every active user has a row: one who has seen all that there is has an empty list, not somebody else's.  The
    fallback for everybody always exists; a segment has one if any source made a list for it.
    A user has the list of one variant; lists for segments and for everybody are those of the main one.
    Rules of the date hold in every list, and stand in its provenance.
    Figures: n_users, n_candidates, n_shown (items that may be shown), share_short and share_empty (lists with fewer
    than k items, with none), share_fallback (lists without an item that a list for one user proposed; only if any
    source makes such lists), n_rules (in force) and n_rules_without_items (only if the date has rules), and per list
    `share:<source>`, the share of all candidates that it proposed.
    """
    candidates, cutoff = context.config.candidates, context.cutoff
    blends = _fit_variants(inputs, context)
    settings, _ = blends[MAIN]
    shown = fit_shown(inputs, context.config, cutoff)
    shared = with_rules(fit_shared(inputs["source_candidates"], settings, shown), inputs, context)
    wanted = widest([of_variant.diversity for of_variant, _ in blends.values()])
    if wanted != NOTHING:
        traits, categories = fit_traits(inputs, wanted)
        shared = replace(shared, traits=traits, categories=categories)
    context.figures["n_shown"] = float(len(shown.item_idx))
    _log.info("step=blend phase=fit n_lists=%d n_shown=%d", len(shared.sources), len(shown.item_idx))
    users = active_users(inputs, candidates, cutoff).join(
        own_lists(inputs["source_candidates"]), on="user_idx", how="left"
    )
    # Kept until the runner clears the cache: the figures and the sorted write would each compute the lists again.  On
    # disk, because 138,000 lists of 200 in the heap ended a driver of 4 GiB.
    lists = _lists(users.withColumn("variant", variant_of(candidates)), shared, blends).persist(StorageLevel.DISK_ONLY)
    personal = [name for name in settings.sources if name not in set(shared.sources)]
    fit_figures(lists, settings, personal, context)
    fallback = blend_lists(segments_without_users(shared, users), shared)
    made = F.current_timestamp().alias("generated_at")
    fits = [_fit_row(name, fit, of_variant) for name, (of_variant, fit) in blends.items()]
    return {
        "candidates": lists.select("user_id", "variant", "items", made),
        "fallback_candidates": fallback.select(F.col("user_id").alias("segment"), "items", made),
        "blend_fits": context.spark.createDataFrame(fits, spark_schema(BLEND_FITS, ("run_id",))),
    }


def _fit_variants(inputs: dict[str, DataFrame], context: Context) -> dict[str, tuple[Settings, Fit]]:
    """How the lists of every variant are fused, those of most users first."""
    found = {}
    for name, candidates in context.config.candidates.by_variant().items():
        settings = fit_settings(inputs["source_candidates"], candidates)
        config = context.config.model_copy(update={"candidates": candidates})
        fit = fit_blend(inputs, settings, replace(context, config=config))
        found[name] = replace(settings, learned=fit.weights), fit
    return found


def _lists(users: DataFrame, shared: Shared, blends: Mapping[str, tuple[Settings, Fit]]) -> DataFrame:
    """The lists of all users, each by the settings of their variant."""
    parts = []
    for name, (settings, _) in blends.items():
        mine = users if len(blends) == 1 else users.where(F.col("variant") == name)
        parts.append(blend_lists(mine, replace(shared, settings=settings)).withColumn("variant", F.lit(name)))
    return reduce(DataFrame.unionByName, parts)


def with_rules(shared: Shared, inputs: dict[str, DataFrame], context: Context) -> Shared:
    """`shared` with the rules of the date; what names no item is said, and changes nothing."""
    if not context.rules:
        return shared
    compiled = compile_rules(context.rules, fit_rule_targets(inputs), context.cutoff)
    context.figures["n_rules"] = float(compiled.n_in_force)
    context.figures["n_rules_without_items"] = float(len(compiled.without_items))
    _log.info("step=blend phase=rules n_in_force=%d", compiled.n_in_force)
    if compiled.without_items:
        _log.warning(
            "step=blend phase=rules %d rules name no known item, e.g. %s",
            len(compiled.without_items),
            ", ".join(compiled.without_items[:5]),
        )
    return replace(shared, rules=compiled.rules)


def fit_blend(inputs: dict[str, DataFrame], settings: Settings, context: Context) -> Fit:
    """How the lists are made into one; it is said, where it is not what was asked for."""
    config = context.config
    if config.candidates.method == "rrf":
        return Fit("rrf", "as [candidates] method says", None, (), 0)
    tables = step("blend").past_reads
    runs = [
        PastRun(row.run_id, midnight(row.data_date), {name: inputs[f"past{at}_{name}"] for name in tables})
        for at, row in enumerate(context.past)
    ]
    fit = fit_learned(runs, inputs, Lesson(config, settings, context.cutoff, context.seed))
    _log.info(
        "step=blend phase=learn method=%s n_runs=%d n_users=%d why=%r", fit.method, len(runs), fit.n_users, fit.why
    )
    context.figures["n_learnt_users"] = float(fit.n_users)
    return fit


def _fit_row(variant: str, fit: Fit, settings: Settings) -> dict[str, Any]:
    """The row of `blend_fits`."""
    weights = np.array([[weight, 0.0] for weight in settings.weights]) if fit.weights is None else fit.weights
    said = [
        {"source": name, "by_rank": float(by_rank), "by_score": float(by_score)}
        for name, (by_rank, by_score) in zip(settings.sources, weights, strict=True)
    ]
    row = {"variant": variant, "method": fit.method, "why": fit.why, "n_users": fit.n_users, "weights": said}
    return row | {"from_run_ids": list(fit.run_ids)}


def fit_figures(lists: DataFrame, settings: Settings, personal: Sequence[str], context: Context) -> None:
    """Puts what the lists look like into the figures, in one aggregate.  personal: lists that are made for one user."""
    n_items = F.size("items")
    of_persons = [F.col("n_by_source")[settings.sources.index(name)] for name in personal]
    is_fallback = (n_items > 0) & (sum(of_persons, F.lit(0)) == 0)
    row: Any = lists.agg(
        F.count(F.lit(1)).alias("n_users"),
        F.sum(n_items).alias("n_candidates"),
        F.count_if(n_items < settings.k).alias("n_short"),
        F.count_if(n_items == 0).alias("n_empty"),
        F.count_if(is_fallback).alias("n_fallback"),
        *[F.sum(F.col("n_by_source")[at]).alias(source) for at, source in enumerate(settings.sources)],
    ).first()
    n_users, n_candidates = row["n_users"], row["n_candidates"] or 0
    context.figures.update(
        n_users=float(n_users),
        n_candidates=float(n_candidates),
        share_short=row["n_short"] / max(1, n_users),
        share_empty=row["n_empty"] / max(1, n_users),
    )
    if personal:
        context.figures["share_fallback"] = row["n_fallback"] / max(1, n_users)
    context.figures.update({f"share:{name}": (row[name] or 0) / max(1, n_candidates) for name in settings.sources})
    _log.info("step=blend phase=lists n_users=%d n_candidates=%d n_short=%d", n_users, n_candidates, row["n_short"])
