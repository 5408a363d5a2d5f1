"""What is near to what a user has: the sum of similarities over the recent, weighted history.

Owns: what a history is.  The similarities are those of the step `item_cf`.  Called by the step `retrieve`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.setting_types import NonNegativeFloat, PositiveInt
from recsys_spark.sources import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

READS = ("item_index", "user_index", "interactions", "item_neighbors")


class Params(SourceParams):
    """Settings of `[sources.item_cf]`; their meaning and defaults stand in conf/base.toml."""

    history_items: PositiveInt
    half_life_days: NonNegativeFloat
    normalize: bool
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "DataFrame":
    """One list per user with any weight, `item_cf`: score_uj = sum over the history of weight x similarity.

    Raises KernelError if the similarities are too many to be sent to every worker.
    """
    from pyspark.sql import functions as F

    from recsys_spark.adapters.neighbor_scores import newest_weighted, score_users, user_blocks
    from recsys_spark.adapters.sent import fit_lists

    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    lists = inputs["item_neighbors"].select(
        F.col("item_idx").alias("idx"),
        F.col("neighbors.item_idx").alias("indices"),
        F.col("neighbors.score").alias("scores"),
    )
    neighbors = fit_lists(lists, n_items, "item_cf.num_neighbors")
    blocks = user_blocks(inputs["interactions"], n_users, context.config.candidates, context.cutoff)
    history = newest_weighted(n_items, params.history_items, params.half_life_days, context.cutoff)
    return score_users(blocks, history, neighbors, n_items, "item_cf", params.max_items, params.normalize)
