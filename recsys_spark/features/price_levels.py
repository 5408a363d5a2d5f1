"""Price levels of items within their category, and the rows of users and categories that taste features aggregate.

Owns: what counts as a price, the level of a price in its category, and the rows of users and categories.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.signals.event_weights import exact_sum

# A higher price is a fault of the catalogue in any currency; nine million prices of this size can still be summed.
_MAX_PRICE = 1e12

# Sums of sums stay exact: an `exact_sum` has no significant digits beyond these.
_EXACT = "decimal(38,12)"

# `exact_sum` counts in 2**-36: a lower weight has fewer than three digits left, and tells nothing of taste.
_LEAST_WEIGHT = 2.0**-24


def price_levels(catalogued: DataFrame) -> DataFrame:
    """Indexed items with category and price of the catalogue, with usable prices and their price_level.

    price: null unless finite and from 0 to 1e12.  price_level: of the priced items of the same category, null being one
    of its own, the share that cost less, with half of those that cost the same; null without a price.
    """
    known = catalogued.withColumn("price", _usable_price())
    # Items without a price are apart, so that no share counts them.
    peers = Window.partitionBy("category", F.col("price").isNull())
    ordered = peers.orderBy("price")
    n_less = F.rank().over(ordered) - 1
    n_at_most = F.count("price").over(ordered.rangeBetween(Window.unboundedPreceding, Window.currentRow))
    level = (n_less + n_at_most) / (2 * F.count("price").over(peers))
    return known.withColumn("price_level", F.when(F.col("price").isNotNull(), level))


def _usable_price() -> Column:
    price = F.col("price")
    return F.when((price >= 0) & (price <= _MAX_PRICE), price)  # NaN is greater than every number


def category_rows(interactions: DataFrame, shelved: DataFrame, max_categories: int) -> DataFrame:
    """One row per user and category of the items that the user engaged with; null is a category.

    Columns: user_idx, category, weight (of the interactions; below 2**-24 is none), n_priced and price_sum (of items
    with a price), level_sum (of weight x price_level) and level_weight (of items with a price_level), max_categories.
    Sums are decimals, the same for every order of the rows.
    """
    engaged = interactions.where(F.col("n_events") > 0).select(
        "user_idx", "item_idx", F.when(F.col("weight") >= _LEAST_WEIGHT, F.col("weight").cast("double")).alias("weight")
    )
    priced = F.when(F.col("price_level").isNotNull(), F.col("weight"))  # null weights add nothing
    sums = {
        "weight": F.col("weight"),
        "price_sum": F.col("price"),
        "level_sum": F.col("weight") * F.col("price_level"),
        "level_weight": priced,
    }
    return (
        engaged.join(shelved.select("item_idx", "category", "price", "price_level"), on="item_idx", how="inner")
        .groupBy("user_idx", "category")
        .agg(
            F.count("price").alias("n_priced"),
            *[exact_sum(value).cast(_EXACT).alias(name) for name, value in sums.items()],
        )
        .withColumn("max_categories", F.lit(max_categories))
    )
