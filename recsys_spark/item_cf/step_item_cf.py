"""Finds the nearest items of every item.

Owns: which interactions count, and the ids and figures of the result.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.errors import BoundExceeded
from recsys_spark.item_cf.neighbors import Limits, fit_item_ids, fit_neighbors, similarity_of, with_item_ids
from recsys_spark.signals.visibility import fit_shown_idx

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`item_neighbors`.

    Only pairs with a weight count: what was returned or only disliked makes nothing near.  Lists hold what may be
    shown; an item that is no longer sold has one too, because histories are full of such.
    Figures: n_items_with_neighbors, n_neighbors (all lists together).
    """
    pairs = inputs["interactions"].where(F.col("weight") > 0)
    nearest = _nearest(
        pairs.select(F.col("user_idx").alias("row_idx"), F.col("item_idx").alias("col_idx"), "weight", "last_time"),
        fit_shown_idx(inputs, context.config, context.cutoff),
        context,
    ).where(F.size("neighbors") > 0)
    ids = fit_item_ids(inputs["item_index"])
    neighbors = with_item_ids(nearest, ids).persist(StorageLevel.DISK_ONLY)
    row: Any = neighbors.agg(F.count(F.lit(1)).alias("lists"), F.sum(F.size("neighbors")).alias("entries")).first()
    context.figures.update(n_items_with_neighbors=float(row["lists"]), n_neighbors=float(row["entries"] or 0))
    _log.info("step=item_cf phase=lists n_items=%d n_neighbors=%d", row["lists"], row["entries"] or 0)
    return {"item_neighbors": neighbors}


def _nearest(pairs: DataFrame, listed: np.ndarray, context: Context) -> DataFrame:
    """The lists; by cosine where `ridge` was chosen by validation and its sums have outgrown what can be sent."""
    settings = context.config.item_cf
    similarity, limits = similarity_of(settings), Limits(settings.max_items_per_user, settings.block_bytes)
    try:
        return fit_neighbors(pairs, similarity, limits, listed)
    except BoundExceeded as err:
        if similarity.name != "ridge" or "item_cf.similarity" not in context.config.validation.auto:
            raise
        context.warnings.append(f"item_cf: by cosine and not by ridge, as was chosen: {err}")
        return fit_neighbors(pairs, replace(similarity, name="cosine"), limits, listed)
