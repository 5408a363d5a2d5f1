"""Source `als`: the best items of every user by the dot product of ALS factors.

Owns: how far a long vector counts.  The factors are those of the step `als`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recsys_spark.config.types import PositiveInt, Ratio
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import Personal

READS = ("item_index", "user_factors", "item_factors")


class Params(SourceParams):
    """Settings of `[sources.als]`; their meaning and defaults stand in conf/base.toml."""

    norm_exponent: Ratio
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "Personal":
    """One list per user with factors, `als`: score_uj = x_u . y_j |y_j|^(norm_exponent - 1).

    Raises KernelError if the items' vectors are too many to be sent to every worker.
    """
    from recsys_spark.ann.exact_search import fit_items
    from recsys_spark.retrieval.scorers import vector_model
    from recsys_spark.retrieval.user_lists import Personal

    n_items = inputs["item_index"].count()
    items = fit_items(inputs["item_factors"], n_items, params.norm_exponent, "retrieve", "als.factors")
    return Personal(vector_model(items), params.max_items, inputs["user_factors"])
