"""Declared attributes of users and items as further rows of the other side: the pairs that the fit gets beside events.

Owns: which values an attribute has, and their indices.
"""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.warehouse.tables import ITEM_CATEGORIES, ITEM_LISTS


def attribute_pairs(catalogue: DataFrame, index: DataFrame, id_column: str, names: Sequence[str]) -> DataFrame:
    """Which indexed entity has which value: idx (int), attribute_idx (int, dense, in the order of name and value).

    catalogue: the rows of `items` or `users` as of the date.  index: id_column and idx.  A blank value is none.
    """
    known = index.join(catalogue, on=id_column, how="inner")
    values = known.select("idx", F.explode(F.array_union(F.array().cast("array<string>"), _values(catalogue, names))))
    values = values.select("idx", F.col("col").alias("value")).distinct()
    # A window without partitions is one task, over the few values that there are.
    numbered = (
        values.select("value")
        .distinct()
        .withColumn("attribute_idx", F.row_number().over(Window.orderBy("value")) - F.lit(1))
    )
    return values.join(numbered, on="value", how="inner").select("idx", "attribute_idx")


def _values(catalogue: DataFrame, names: Sequence[str]) -> Column:
    """Every value as `name=value`, one array."""
    parts = []
    for name in names:
        if name in ITEM_LISTS and name in catalogue.columns:
            listed = F.coalesce(F.col(name), F.array().cast("array<string>"))
        elif name in ITEM_CATEGORIES and name in catalogue.columns:
            listed = F.array(F.col(name))
        else:
            listed = F.array(F.try_element_at("attributes", F.lit(name)))
        parts.append(F.transform(F.filter(listed, _is_filled), _named(name)))
    return F.concat(*parts)


def _is_filled(value: Column) -> Column:
    return F.trim(value) != ""


def _named(name: str) -> Callable[[Column], Column]:
    return lambda value: F.concat(F.lit(f"{name}="), value)
