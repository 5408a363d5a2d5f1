"""What a ranking model trains on: candidates of earlier lists with their features, and what became of them.

Owns: which candidates become examples.  Only users who were shown or did anything have examples: of the others nobody
knows whether they saw their list at all.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.blend.worker import EXPLORE
from recsys_spark.warehouse.publish_row import PublishRow

_PLACES = 1 << 30  # chances are told apart to a billionth


def ranking_examples(
    lists: Mapping[str, DataFrame], pairs: DataFrame, n_drawn: int, seed: int, made: PublishRow, schema: StructType
) -> DataFrame:
    """The rows of `ranking_examples`, in the form of `schema`.

    lists: candidates, user_features and item_features of one bundle.  made: its row of `publishes`.  pairs: what
    followed, as `exposed_pairs` gives it.  n_drawn: candidates of a list, on average, that were neither shown nor
    engaged with and are kept, by the hash of user, item and seed.
    """
    candidates = lists["candidates"].join(pairs.select("user_id").distinct(), on="user_id", how="left_semi")
    entries = candidates.select(
        "user_id", "variant", F.size("items").alias("n_items"), F.explode("items").alias("entry")
    ).select("*", F.col("entry")["item_id"].alias("item_id"))
    known = entries.join(pairs, on=["user_id", "item_id"], how="left")
    drawn = F.col("shown_at").isNull() & F.col("engaged_at").isNull()
    by_chance = F.pmod(F.xxhash64("user_id", "item_id", F.lit(seed)), F.lit(_PLACES)) * F.col("n_items")
    kept = known.where(~drawn | (by_chance < F.lit(n_drawn * _PLACES)))
    rows = kept.select(
        F.lit(made.run_id).alias("list_run_id"),
        F.lit(made.data_date).alias("list_date"),
        "user_id",
        "item_id",
        "variant",
        *[F.col("entry")[name].alias(name) for name in ("rank", "score", "sources")],
        "shown_at",
        "surface",
        "position",
        F.coalesce("propensity", _explored(F.col("entry")["sources"])).alias("propensity"),
        "engaged_at",
        F.col("engaged_at").isNotNull().cast("int").alias("label"),
        F.coalesce("value", F.lit(0.0)).alias("value"),
        drawn.alias("drawn"),
    )
    rows = rows.join(_prefixed(lists["user_features"], "user"), on="user_id", how="left")
    rows = rows.join(_prefixed(lists["item_features"], "item"), on="item_id", how="left")
    # A feature that is newer than the bundle is null.
    newer = {field.name: F.lit(None).cast(field.dataType) for field in schema if field.name not in rows.columns}
    return rows.withColumns(newer).select(*schema.names) if newer else rows.select(*schema.names)


def _explored(sources: Column) -> Column:
    """The propensity with which an item was explored, null if it was not."""
    found = F.filter(sources, lambda one: one["source"] == EXPLORE)
    return F.when(F.size(found) > 0, F.get(found, 0)["score"].cast("double"))


def _prefixed(features: DataFrame, side: str) -> DataFrame:
    """Every feature as `side`_..., the id as it is."""
    key = f"{side}_id"
    kept = [name for name in features.columns if name not in (key, "run_id")]
    return features.select(key, *[F.col(f"`{name}`").alias(f"{side}_{name}") for name in kept])
