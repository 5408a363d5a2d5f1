"""Fuses the lists of all sources into one list per active user, and one per segment for everybody else.

Owns: the assembly of the two tables and their figures.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.block import RUNGS, list_maker, segment_lists
from recsys_spark.blend.collect import fit_had, fit_settings, fit_shared, fit_shown, user_rows, variant_of
from recsys_spark.blend.compile_rules import compile_rules
from recsys_spark.blend.fresh_items import fit_samples
from recsys_spark.blend.item_traits import fit_rule_targets, fit_traits
from recsys_spark.blend.kernels.diversity import NOTHING, widest
from recsys_spark.blend.worker import BlendBroadcast, Exploration, Settings
from recsys_spark.config.lists import MAIN
from recsys_spark.context import Context
from recsys_spark.signals.visibility import active_users, newcomers
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.spark_tables import TaskRows
from recsys_spark.warehouse.tables import BLEND_FITS, FALLBACK_CANDIDATES

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame | TaskRows]:
    """`candidates`, `fallback_candidates` and `blend_fits`.

    Every active user has a row: one who has seen all that there is has an empty list, not somebody else's.  A newcomer
    has one if a source made a list for them, by what is known of them before they did anything.  The fallback for
    everybody always exists; a segment has one if any source made a list for it.
    A user has the list of one variant; lists for segments and for everybody are those of the main one.
    Rules of the date hold in every list, and stand in its provenance.
    Figures: n_users, n_candidates, n_shown (items that may be shown), share_short and share_empty (lists with fewer
    than k items, with none), share_fallback (lists without an item that a list for one user proposed; only if any
    source makes such lists), and per list `share:<source>`, the share of all candidates that it proposed.  Users by
    the best that their list has: rung:history (lists by what they did), rung:features (by what is known of a newcomer),
    rung:segment, rung:everybody, rung:none (an empty list).  If the date has rules: n_rules (in force) and
    n_rules_without_items.  If any variant explores: n_fresh and n_fresh_explored (fresh items, and those of them not
    below the floor) and share_explored, of the candidates.
    """
    candidates, cutoff = context.config.candidates, context.cutoff
    blends = _variants(inputs, context)
    shared = _fit_sent(inputs, blends, context)
    users = active_users(inputs, candidates, cutoff).withColumn("is_new", F.lit(False))
    users = users.unionByName(newcomers(inputs, candidates, cutoff).withColumn("is_new", F.lit(True)))
    users = users.withColumn("variant", variant_of(candidates)).persist()
    rows = user_rows(users, inputs["source_candidates"])
    by_variant = {name: replace(shared, settings=of_variant) for name, of_variant in blends.items()}
    made_at = datetime.now(UTC)
    make = list_maker(context.spark.sparkContext.broadcast(by_variant), made_at)
    fits = [_fit_row(name, of_variant) for name, of_variant in blends.items()]
    return {
        "candidates": TaskRows(rows, make, lambda counts: fit_figures(counts, shared, context)),
        "fallback_candidates": _fallback(shared, made_at, context),
        "blend_fits": context.spark.createDataFrame(fits, spark_schema(BLEND_FITS, ("run_id",))),
    }


def _fit_sent(inputs: dict[str, DataFrame], blends: Mapping[str, Settings], context: Context) -> BlendBroadcast:
    """All that workers are sent: shared lists of visible items, rules, traits, the day's samples of fresh items."""
    settings = blends[MAIN]
    shown = fit_shown(inputs, context.config, context.cutoff)
    shared = with_rules(fit_shared(inputs["source_candidates"], settings, shown), inputs, context)
    if any(one.fusion is not None and one.fusion.of_new is not None for one in blends.values()):
        shared = replace(shared, had=fit_had(inputs["interactions"], inputs["item_index"].count()))
    wanted = widest([of_variant.diversity for of_variant in blends.values()])
    if wanted != NOTHING:
        traits, categories = fit_traits(inputs, wanted)
        shared = replace(shared, traits=traits, categories=categories)
    shared = _with_exploration(shared, inputs, blends, context)
    context.figures["n_shown"] = float(len(shown.item_idx))
    _log.info("step=blend phase=fit n_lists=%d n_shown=%d", len(shared.sources), len(shown.item_idx))
    return shared


def _variants(inputs: dict[str, DataFrame], context: Context) -> dict[str, Settings]:
    """How the lists of every variant are fused, the main one first."""
    variants = context.config.candidates.by_variant()
    return {name: fit_settings(inputs["source_candidates"], one) for name, one in variants.items()}


def _with_exploration(
    shared: BlendBroadcast, inputs: dict[str, DataFrame], blends: Mapping[str, Settings], context: Context
) -> BlendBroadcast:
    """`shared` with the day's samples of fresh items, if any variant explores."""
    if not any(settings.explore_share for settings in blends.values()):
        return shared
    explore = context.config.candidates.explore
    samples, n_fresh = fit_samples(inputs, shared.shown.item_idx, explore, context.cutoff, context.seed)
    context.figures.update(n_fresh=float(n_fresh), n_fresh_explored=float(len(samples.items)))
    _log.info("step=blend phase=explore n_fresh=%d n_explored=%d", n_fresh, len(samples.items))
    return replace(shared, exploration=Exploration(samples, context.seed))


def _fallback(shared: BlendBroadcast, made_at: datetime, context: Context) -> DataFrame:
    """`fallback_candidates`."""
    schema = spark_schema(FALLBACK_CANDIDATES, ("run_id",))
    table = segment_lists(shared)
    table = table.append_column("generated_at", pa.repeat(pa.scalar(made_at, pa.timestamp("us", tz="UTC")), len(table)))
    return context.spark.createDataFrame(table, schema)


def with_rules(shared: BlendBroadcast, inputs: dict[str, DataFrame], context: Context) -> BlendBroadcast:
    """`shared` with the rules of the date; rules that name no known item are logged and change nothing."""
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


def _fit_row(variant: str, settings: Settings) -> dict[str, Any]:
    """The row of `blend_fits`."""
    fusion = settings.fusion
    weights = settings.weights if fusion is None else fusion.weights.tolist()
    said = [{"source": name, "weight": float(one)} for name, one in zip(settings.sources, weights, strict=True)]
    method, scaling = ("rrf", None) if fusion is None else ("scores", fusion.scaling)
    return {"variant": variant, "method": method, "scaling": scaling, "weights": said}


def fit_figures(counts: Mapping[str, int], shared: BlendBroadcast, context: Context) -> None:
    """Puts the figures of the lists into `context`.  counts: as in `block.list_maker`."""
    settings = shared.settings
    n_users, n_candidates = counts.get("n_users", 0), counts.get("n_candidates", 0)
    rungs = {f"rung:{name}": float(counts.get(f"rung:{name}", 0)) for name in RUNGS}
    context.figures.update(
        n_users=float(n_users),
        n_candidates=float(n_candidates),
        share_short=counts.get("n_short", 0) / max(1, n_users),
        share_empty=rungs["rung:none"] / max(1, n_users),
        **rungs,
    )
    if set(settings.sources) - set(shared.sources):  # some source makes lists for single users
        context.figures["share_fallback"] = (rungs["rung:segment"] + rungs["rung:everybody"]) / max(1, n_users)
    if counts.get("n_explored"):
        context.figures["share_explored"] = counts["n_explored"] / n_candidates
    shares = {f"share:{name}": counts.get(f"n:{name}", 0) / max(1, n_candidates) for name in settings.sources}
    context.figures.update(shares)
    _log.info(
        "step=blend phase=lists n_users=%d n_candidates=%d n_short=%d %s",
        n_users,
        n_candidates,
        counts.get("n_short", 0),
        " ".join(f"{name}={rungs[f'rung:{name}']:.0f}" for name in RUNGS),
    )
