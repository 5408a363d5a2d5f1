"""Fuses the lists of all sources into one list per active user, and one per segment for everybody else.

Owns: the assembly of the two tables and their figures.  Called by the runner.
"""

import logging
from typing import Any

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
)
from recsys_spark.adapters.blend_arrow import Settings
from recsys_spark.steps.context import Context

_log = logging.getLogger(__name__)

VARIANT = "main"


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`candidates` and `fallback_candidates`.

    Every active user has a row: one who has seen all that there is has an empty list, not somebody else's.  The
    fallback for everybody always exists; a segment has one if any source made a list for it.
    Figures: n_users, n_candidates, n_shown (items that may be shown), share_short and share_empty (lists with fewer
    than k items, with none), and per list `share:<source>`, the share of all candidates that it proposed.
    """
    candidates, cutoff = context.config.candidates, context.cutoff
    settings = fit_settings(inputs["source_candidates"], candidates)
    shown = fit_shown(inputs, context.config, cutoff)
    shared = fit_shared(inputs["source_candidates"], settings, shown)
    context.figures["n_shown"] = float(len(shown.item_idx))
    _log.info("step=blend phase=fit n_lists=%d n_shown=%d", len(shared.sources), len(shown.item_idx))
    users = active_users(inputs, candidates, cutoff).join(
        own_lists(inputs["source_candidates"]), on="user_idx", how="left"
    )
    # Kept until the runner clears the cache: the figures and the sorted write would each compute the lists again.  On
    # disk, because 138,000 lists of 200 in the heap ended a driver of 4 GiB.
    lists = blend_lists(users, shared).persist(StorageLevel.DISK_ONLY)
    fit_figures(lists, settings, context)
    fallback = blend_lists(segments_without_users(shared, users), shared)
    made = F.current_timestamp().alias("generated_at")
    return {
        "candidates": lists.select("user_id", F.lit(VARIANT).alias("variant"), "items", made),
        "fallback_candidates": fallback.select(F.col("user_id").alias("segment"), "items", made),
    }


def fit_figures(lists: DataFrame, settings: Settings, context: Context) -> None:
    """Puts what the lists look like into the figures, in one aggregate."""
    n_items = F.size("items")
    row: Any = lists.agg(
        F.count(F.lit(1)).alias("n_users"),
        F.sum(n_items).alias("n_candidates"),
        F.count_if(n_items < settings.k).alias("n_short"),
        F.count_if(n_items == 0).alias("n_empty"),
        *[F.sum(F.col("n_by_source")[at]).alias(source) for at, source in enumerate(settings.sources)],
    ).first()
    n_users, n_candidates = row["n_users"], row["n_candidates"] or 0
    context.figures.update(
        n_users=float(n_users),
        n_candidates=float(n_candidates),
        share_short=row["n_short"] / max(1, n_users),
        share_empty=row["n_empty"] / max(1, n_users),
    )
    context.figures.update({f"share:{name}": (row[name] or 0) / max(1, n_candidates) for name in settings.sources})
    _log.info("step=blend phase=lists n_users=%d n_candidates=%d n_short=%d", n_users, n_candidates, row["n_short"])
