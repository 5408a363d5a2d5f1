"""Taste features of users: prices and categories of the items they engage with, in the window of `[interactions]`.

Owns: the user features that are made of the catalogue.
Rows: `categories` (see `features.price_levels.category_rows`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config.schema import Config
from recsys_spark.features.declared import Feature, Group, RowSource, aggregate_group
from recsys_spark.warehouse.contract import Column, ListOf, StructOf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AFFINITIES = ListOf(
    StructOf(
        (
            Column("category", "string", "category in the catalogue as of the date"),
            Column("share", "double", "weight of its items / weight of all items with a category", "0 to 1"),
        )
    )
)

# A sorted list, not a map: the hash of a row must not depend on the order of its parts.
_GREATEST_FIRST = """array_sort(collect_list(struct(-weight AS descending, category))
    FILTER (WHERE category IS NOT NULL AND weight > 0))"""
_AFFINITIES = f"""transform(
    slice({_GREATEST_FIRST}, 1, max(max_categories)),
    one -> struct(
        one.category AS category,
        -CAST(one.descending AS DOUBLE) / CAST(sum(weight) FILTER (WHERE category IS NOT NULL) AS DOUBLE) AS share))"""

GROUP = Group(
    table="user_features",
    features=(
        Feature(
            "mean_price",
            "double",
            "mean price in the catalogue as of the date of the different items engaged with that have one",
            "categories",
            "CAST(sum(price_sum) AS DOUBLE) / nullif(sum(n_priced), 0)",
            unit="the log's own currency",
            null_when="no item with a price in the window",
            check="mean_price >= 0",
        ),
        Feature(
            "price_level",
            "double",
            "mean price_level of the items engaged with that have one, weighted by the weight of the interaction",
            "categories",
            "CAST(sum(level_sum) AS DOUBLE) / nullif(CAST(sum(level_weight) AS DOUBLE), 0)",
            unit="0 cheap to 1 dear",
            null_when="no item with a price_level and a weight in the window",
            check="price_level BETWEEN 0 AND 1",
        ),
        Feature(
            "category_affinities",
            AFFINITIES,
            "categories of the items engaged with, by their share of the weight of the interactions with items that "
            "have one, greatest first, ties by category, at most features.max_categories; none without weight",
            "categories",
            _AFFINITIES,
        ),
    ),
)


def compute(index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """`index` with the group's features of every user as of `cutoff`."""
    from recsys_spark.features.price_levels import category_rows, price_levels

    catalogued = inputs["item_index"].join(inputs["items"], on="item_id", how="left")
    rows = category_rows(inputs["interactions"], price_levels(catalogued), config.features.max_categories)
    return aggregate_group(index, GROUP, {"categories": RowSource(rows, "user_idx")})
