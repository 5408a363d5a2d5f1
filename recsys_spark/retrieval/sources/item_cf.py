"""Source `item_cf`: item-item CF, the sum of similarities over a user's recent, weighted history.

Owns: what a history is.  The similarities are those of the step `item_cf`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.config.types import NonNegativeFloat, PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("item_index", "item_neighbors")


class Params(SourceParams):
    """Settings of `[sources.item_cf]`; their meaning and defaults stand in conf/base.toml."""

    history_items: PositiveInt
    half_life_days: NonNegativeFloat
    normalize: bool
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user with any weight, `item_cf`: score_uj = sum over the history of weight x similarity.

    Raises KernelError if the similarities are too many to be sent to every worker.
    """
    from pyspark.sql import functions as F

    from recsys_spark.retrieval.scorers import NewestWeighted, neighbor_model
    from recsys_spark.retrieval.user_lists import Personal
    from recsys_spark.spark.broadcast import fit_lists

    n_items = inputs["item_index"].count()
    lists = inputs["item_neighbors"].select(
        F.col("item_idx").alias("idx"),
        F.col("neighbors.item_idx").alias("indices"),
        F.col("neighbors.score").alias("scores"),
    )
    neighbors = fit_lists(lists, n_items, "item_cf.num_neighbors")
    history = NewestWeighted(n_items, params.history_items, params.half_life_days, context.cutoff)
    return Personal(neighbor_model(neighbors, history, params.normalize), params.max_items)
