"""Source `low_pass`: graph filter, histories filtered through the strongest directions of the graph of users and items.

Owns: which weights are filtered.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from recsys_spark.config.types import NonNegativeFloat, PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("events", "items", "item_index", "user_index", "interactions")


class Params(SourceParams):
    """Settings of `[sources.low_pass]`; their meaning and defaults stand in conf/base.toml."""

    rank: Annotated[int, Field(ge=1, le=4096)]
    passes: PositiveInt
    half_life_days: NonNegativeFloat
    popularity_exponent: NonNegativeFloat
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user with any weight, `low_pass`: the best products of their vectors with those of items.

    Raises KernelError if the items' vectors are too many to be sent to every worker.
    """
    from pyspark.sql import functions as F

    from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES
    from recsys_spark.low_pass.filter import fit_low_pass
    from recsys_spark.numeric.top_k import search_items
    from recsys_spark.retrieval.scorers import vector_model
    from recsys_spark.retrieval.user_lists import Personal
    from recsys_spark.signals.event_weights import age_days
    from recsys_spark.signals.visibility import fit_shown_idx
    from recsys_spark.spark.broadcast import check_bytes

    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    rank = min(params.rank, n_items)
    check_bytes("retrieve", "vectors", n_items * rank * 4, MAX_VECTOR_BYTES, "sources.low_pass.rank")
    weight = F.col("weight").cast("double")
    if params.half_life_days:
        weight *= F.pow(F.lit(0.5), age_days("last_time", context.cutoff) / F.lit(params.half_life_days))
    pairs = inputs["interactions"].select("user_idx", "item_idx", weight.alias("weight")).where(F.col("weight") > 0)
    exchange = context.config.als.model_copy(update={"factors": rank})
    scratch = context.scratch("retrieve/low_pass")
    found = fit_low_pass(
        pairs, n_users, n_items, params.popularity_exponent, params.passes, exchange, context.seed, scratch
    )
    shown = fit_shown_idx(inputs, context.config, context.cutoff)
    items = search_items(found.items, shown[found.items[shown].any(axis=1)])  # of what nobody has had it says nothing
    return Personal(vector_model(items), params.max_items, found.users)
