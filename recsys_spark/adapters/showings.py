"""What was shown to whom of late, and whether they engaged with it.

Owns: the rows of which conversion is made.  Called by the feature groups.
"""

from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.engagement import engaged_pairs


def showings(exposures: DataFrame, interactions: DataFrame, cutoff: datetime, n_days: int) -> DataFrame:
    """One row per user and item shown in the `n_days` days before `cutoff`: user_idx, item_idx, n_exposures, converted.

    converted: the user engaged with the item at or after its first showing in these days, told by the last engagement,
    and did not return all of it: the pair has a weight.
    """
    shown = (
        exposures.where(F.col("event_time") >= F.lit(cutoff - timedelta(days=n_days)))
        .groupBy("user_idx", "item_idx")
        .agg(F.count(F.lit(1)).alias("n_exposures"), F.min("event_time").alias("first_shown"))
    )
    kept = engaged_pairs(interactions.where(F.col("weight") > 0), cutoff)
    engaged = kept.select("user_idx", "item_idx", "last_time")
    return shown.join(engaged, on=["user_idx", "item_idx"], how="left").select(
        "user_idx",
        "item_idx",
        "n_exposures",
        F.coalesce(F.col("last_time") >= F.col("first_shown"), F.lit(False)).alias("converted"),
    )
