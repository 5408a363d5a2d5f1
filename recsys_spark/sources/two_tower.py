"""What the towers say: the best items of every user by the product of their embeddings, new items among them.

Owns: whom it proposes to.  The embeddings are those of the step `embed`.  Called by the step `retrieve`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.setting_types import PositiveInt
from recsys_spark.sources import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

READS = ("item_index", "user_index", "interactions", "user_embeddings", "item_embeddings")


class Params(SourceParams):
    """Settings of `[sources.two_tower]`; their meaning and defaults stand in conf/base.toml."""

    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "DataFrame":
    """One list per user with an embedding, `two_tower`: score_uj = e_u . e_j.

    Raises KernelError if the items' embeddings are too many to be sent to every worker.
    """
    from recsys_spark.adapters.top_k import fit_items, hidden_pairs, search_users

    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    items = fit_items(inputs["item_embeddings"], n_items, 1.0, "retrieve", "two_tower.dim")
    hidden = hidden_pairs(inputs["interactions"], context.config.candidates, context.cutoff)
    return search_users(inputs["user_embeddings"], hidden, n_users, items, "two_tower", params.max_items)
