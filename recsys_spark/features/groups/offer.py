"""Price features of items: the price, and its level within the category, by the catalogue as of the date.

Owns: the item features of the catalogue.
Rows: the index with prices as in `features.price_levels.price_levels`.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config.schema import Config
from recsys_spark.features.declared import INDEX, Feature, Group, aggregate_group

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

GROUP = Group(
    table="item_features",
    features=(
        Feature(
            "price",
            "double",
            "price in the catalogue as of the date",
            INDEX,
            "price",
            unit="the log's own currency",
            null_when="the catalogue has none, or none from 0 to 1e12",
            check="price >= 0",
        ),
        Feature(
            "price_level",
            "double",
            "share of the priced items of the same category (of those without one, if it has none) that cost less, "
            "with half of those that cost the same, itself included",
            INDEX,
            "price_level",
            unit="0 cheap to 1 dear",
            null_when="no price",
            check="price_level BETWEEN 0 AND 1",
        ),
    ),
)


def compute(index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """`index` with the group's features of every item as of `cutoff`."""
    from recsys_spark.features.price_levels import price_levels

    return aggregate_group(price_levels(index), GROUP, {})
