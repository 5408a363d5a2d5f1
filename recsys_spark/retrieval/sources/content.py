"""Source `content`: items that are like a user's items, by the catalogue's words and values or by the item tower.

Owns: which items take part, and whose neighbours are kept.  It can propose what nobody has bought yet.  Off by default.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from recsys_spark.config.types import NonNegativeFloat, PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("events", "items", "item_index", "interactions", "item_embeddings", "ann_shards")


class Params(SourceParams):
    """Settings of `[sources.content]`; their meaning and defaults stand in conf/base.toml."""

    by: Literal["text", "towers"]
    fields: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    min_df: PositiveInt
    max_df_ratio: Annotated[float, Field(gt=0, le=1)]
    num_neighbors: PositiveInt
    block_bytes: Annotated[int, Field(ge=1 << 20)]
    history_items: PositiveInt
    half_life_days: NonNegativeFloat
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user whose items have neighbours, `content`: score_uj = sum over the history of weight x similarity.

    Raises KernelError if the neighbours are too many to be sent to every worker.
    """
    from recsys_spark.retrieval.scorers import NewestWeighted, neighbor_model
    from recsys_spark.retrieval.user_lists import Personal
    from recsys_spark.spark.broadcast import fit_lists

    n_items = inputs["item_index"].count()
    by_text = params.by == "text"
    near = _text_neighbors(inputs, params, context) if by_text else _tower_neighbors(inputs, params, n_items, context)
    neighbors = fit_lists(near, n_items, "sources.content.num_neighbors")
    history = NewestWeighted(n_items, params.history_items, params.half_life_days, context.cutoff)
    return Personal(neighbor_model(neighbors, history), params.max_items)


def _text_neighbors(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "DataFrame":
    """idx, indices and scores: the neighbours of every item that anybody has, among what may be shown."""
    from pyspark.sql import functions as F

    from recsys_spark.item_cf.text_neighbors import Vocabulary, fit_text_neighbors
    from recsys_spark.signals.visibility import fit_shown_idx, shown_items

    had = inputs["interactions"].where(F.col("weight") > 0).select("item_idx").distinct()
    shown = shown_items(inputs, context.config, context.cutoff).select("item_idx")
    # An item that is neither had nor shown can stand on no side of a pair; in an old catalogue most are such.
    known = inputs["item_index"].join(had.unionByName(shown), on="item_idx", how="left_semi")
    nearest = fit_text_neighbors(
        inputs["items"].join(known.select("item_idx", "item_id"), on="item_id", how="inner"),
        Vocabulary(params.fields, params.min_df, params.max_df_ratio),
        params.num_neighbors,
        params.block_bytes,
        fit_shown_idx(inputs, context.config, context.cutoff),
    )
    # A history holds nothing else, and the lists of all items may be more than can be sent.
    kept = nearest.join(had.withColumnRenamed("item_idx", "col_idx"), on="col_idx", how="left_semi")
    return kept.select(F.col("col_idx").alias("idx"), F.col("neighbors").alias("indices"), "scores")


def _tower_neighbors(
    inputs: "Mapping[str, DataFrame]", params: Params, n_items: int, context: SourceContext
) -> "DataFrame":
    """idx, indices and scores: the items of the nearest embeddings, by cosine, of every item that anybody has."""
    from pyspark.sql import functions as F

    from recsys_spark.ann.exact_search import fit_items, search_users
    from recsys_spark.ann.index_search import search_shards, takes_index

    had = inputs["interactions"].where(F.col("weight") > 0).select("item_idx").distinct()
    unit = F.transform("vector", lambda number: (number / F.col("norm")).cast("float")).alias("vector")
    queries = inputs["item_embeddings"].join(had, on="item_idx", how="left_semi").where(F.col("norm") > 0)
    queries = queries.select(F.col("item_idx").alias("user_idx"), unit)
    itself = had.select(F.col("item_idx").alias("user_idx"), "item_idx")
    if takes_index(n_items, context.config) and context.config.two_tower.normalize:  # else it is no index by cosine
        root = context.config.root
        near = search_shards(queries, itself, n_items, inputs["ann_shards"], root, "content", params.num_neighbors)
    else:
        items = fit_items(inputs["item_embeddings"], n_items, 0.0, "retrieve", "two_tower.dim")
        near = search_users(queries, itself, n_items, items, "content", params.num_neighbors)
    return near.select(
        F.col("user_idx").alias("idx"), F.col("items.item_idx").alias("indices"), F.col("items.score").alias("scores")
    )
