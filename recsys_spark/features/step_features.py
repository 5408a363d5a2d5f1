"""Computes one row of features for every indexed user and item.

Owns: the base columns (segment, recent items, title, category) and the assembly of the groups in `features/groups`.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.features.declared import FeatureTable, declared_tables, group_modules
from recsys_spark.signals.engagement import engaged_pairs


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`user_features` and `item_features`, with the columns that the groups add."""
    return {
        "user_features": _with_groups(_users(inputs, context), "user_features", inputs, context),
        "item_features": _with_groups(_items(inputs), "item_features", inputs, context),
    }


def _users(inputs: dict[str, DataFrame], context: Context) -> DataFrame:
    """user_idx, user_id, segment and recent_items of every indexed user."""
    config = context.config
    recent = _recent_items(inputs, config.features.recent_items, context)
    return (
        inputs["user_index"]
        .join(_segments(inputs["users"], config.segments.attribute), on="user_id", how="left")
        .join(recent, on="user_idx", how="left")
        .withColumn("recent_items", F.coalesce("recent_items", F.array().cast("array<string>")))
    )


def _segments(users: DataFrame, attribute: str) -> DataFrame:
    """Segment of each user of the catalogue, null if it is blank."""
    if not attribute:
        return users.select("user_id", F.lit(None).cast("string").alias("segment"))
    named = F.try_element_at("attributes", F.lit(attribute))
    return users.select("user_id", F.when(F.trim(named) != "", named).alias("segment"))


def _recent_items(inputs: dict[str, DataFrame], n_items: int, context: Context) -> DataFrame:
    """user_idx and the ids of the last `n_items` items engaged with, newest first, ties by the smaller id.

    Cut to n_items before the ids are joined and collected, so a user's history is never held at once.
    """
    newest_first = Window.partitionBy("user_idx").orderBy(F.desc("last_time"), F.asc("item_idx"))
    newest = (
        engaged_pairs(inputs["interactions"], context.cutoff)
        .withColumn("position", F.row_number().over(newest_first))
        .where(F.col("position") <= n_items)
        .join(inputs["item_index"], on="item_idx", how="inner")
    )
    listed = F.array_sort(F.collect_list(F.struct("position", "item_id")))
    return newest.groupBy("user_idx").agg(listed["item_id"].alias("recent_items"))


def _items(inputs: dict[str, DataFrame]) -> DataFrame:
    """item_idx, item_id, and title, category, price and created_at of the catalogue, of every indexed item."""
    catalogue = inputs["items"].select("item_id", "title", "category", "price", "created_at")
    return inputs["item_index"].join(catalogue, on="item_id", how="left")


def _with_groups(base: DataFrame, table: FeatureTable, inputs: dict[str, DataFrame], context: Context) -> DataFrame:
    """`base` with the features of every group of `table`, in contract order."""
    for module in group_modules().values():
        if module.GROUP.table == table:
            base = module.compute(base, inputs, context.config, context.cutoff)
    return base.select(*[name for name in declared_tables()[table].names if name != "run_id"])
