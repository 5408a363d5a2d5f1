"""Compares candidate lists with those of the current bundle: users whose list was added, changed or removed.

Owns: what counts as a change.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`candidate_changes`: a list has changed if it names other items, or in another order.

    Scores and provenance alone are no change: they differ after every fit.  Before the first publish every list is
    added.  Figure against_publish_seq: the publish that it was compared with, 0 for none.
    """
    current = context.current
    context.figures["against_publish_seq"] = float(current.publish_seq) if current else 0.0
    new = _lists(inputs["candidates"], "new")
    old = _lists(inputs.get("current_candidates", inputs["candidates"].limit(0)), "old")
    change = (
        F.when(F.col("old").isNull(), "added")
        .when(F.col("new").isNull(), "removed")
        .when(F.col("new") != F.col("old"), "changed")
    )
    against = F.lit(current.run_id if current else None).cast("string")
    compared = new.join(old, on=["user_id", "variant"], how="full_outer").withColumn("change", change)
    changes = compared.where(F.col("change").isNotNull())
    return {"candidate_changes": changes.select("user_id", "variant", "change", against.alias("against_run_id"))}


def _lists(candidates: DataFrame, name: str) -> DataFrame:
    return candidates.select("user_id", "variant", F.col("items.item_id").alias(name))
