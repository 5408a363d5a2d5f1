"""Source `user_cf`: user-user CF, what near users have, by the kernel of item-item CF on the transposed matrix.

Owns: who is near.  Off by default.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.config.models import SimilaritySettings
from recsys_spark.config.types import PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("events", "items", "item_index", "user_index", "interactions")


class Params(SimilaritySettings, SourceParams):
    """Settings of `[sources.user_cf]`; their meaning and defaults stand in conf/base.toml."""

    max_users_per_item: PositiveInt
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user with any near user, `user_cf`: score_uj = sum over near users v of similarity_uv x weight_vj.

    Raises KernelError if the near users, or the interactions, are too many to be sent to every worker.
    """
    from pyspark.sql import functions as F

    from recsys_spark.item_cf.neighbors import Limits, fit_neighbors, similarity_of
    from recsys_spark.retrieval.scorers import UserNeighbors, neighbor_model
    from recsys_spark.retrieval.user_lists import Personal
    from recsys_spark.signals.visibility import shown_items
    from recsys_spark.spark.broadcast import fit_lists

    n_users = inputs["user_index"].count()
    pairs = inputs["interactions"].where(F.col("weight") > 0)
    nearest = fit_neighbors(
        pairs.select(F.col("item_idx").alias("row_idx"), F.col("user_idx").alias("col_idx"), "weight", "last_time"),
        similarity_of(params),
        Limits(params.max_users_per_item, params.block_bytes),
    )
    near_users = nearest.select(F.col("col_idx").alias("idx"), F.col("neighbors").alias("indices"), "scores")
    near = fit_lists(near_users, n_users, "sources.user_cf.num_neighbors")
    sorted_row = F.sort_array(F.collect_list(F.struct("item_idx", "weight"))).alias("row")
    shown = shown_items(inputs, context.config, context.cutoff).select("item_idx")
    rows = pairs.join(shown, on="item_idx", how="left_semi").groupBy(F.col("user_idx").alias("idx")).agg(sorted_row)
    items = fit_lists(
        rows.select("idx", F.col("row.item_idx").alias("indices"), F.col("row.weight").alias("scores")),
        n_users,
        "interactions.window_days",
    )
    return Personal(neighbor_model(items, UserNeighbors(near)), params.max_items)
