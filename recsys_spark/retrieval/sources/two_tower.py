"""Source `two_tower`: the best items of every user by the dot product of embeddings, new items among them.

Owns: whom it proposes to.  The embeddings are those of the step `embed`, the index over them that of `ann`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.config.types import PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("item_index", "user_index", "interactions", "user_embeddings", "item_embeddings", "ann_shards")


class Params(SourceParams):
    """Settings of `[sources.two_tower]`; their meaning and defaults stand in conf/base.toml."""

    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "DataFrame | Personal":
    """One list per user with an embedding, `two_tower`: score_uj = e_u . e_j, searched as [ann] search says.

    Raises KernelError if they are to be searched exactly, and are too many to be sent to every worker.
    """
    from recsys_spark.ann.exact_search import fit_items, hidden_pairs
    from recsys_spark.ann.index_search import search_shards, takes_index
    from recsys_spark.retrieval.scorers import vector_model
    from recsys_spark.retrieval.user_lists import Personal

    config, users = context.config, inputs["user_embeddings"]
    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    if takes_index(n_items, config):
        hidden = hidden_pairs(inputs["interactions"], config.candidates, context.cutoff)
        shards = inputs["ann_shards"]
        return search_shards(users, hidden, n_users, shards, config.root, "two_tower", params.max_items)
    items = fit_items(inputs["item_embeddings"], n_items, 1.0, "retrieve", "two_tower.dim, or set [ann] search")
    return Personal(vector_model(items), params.max_items, users)
