"""Gates on lists, and GATES, all that a bundle is checked by before anybody can see it.

Owns: what is measured on the staged rows and the bound of each gate.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.pipeline.gates.content import content
from recsys_spark.pipeline.gates.embeddings import drift, item_embeddings, model, shards, user_embeddings
from recsys_spark.pipeline.gates.verdict import Gate, Measured, verdict


def run_gates(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """The verdicts of all GATES on the staged candidates and embeddings."""
    verdicts: list[Gate] = []
    for gate in GATES:
        try:
            verdicts += gate(inputs, context, measured)
        except Exception as err:
            verdicts.append(Gate("crashed", "failed", None, "an answer", f"{type(err).__name__}: {str(err)[:500]}"))
    return verdicts


def list_form(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Lists hold at most K different known items, ranked 1..n by falling finite score; users are known."""
    lists = (
        inputs["candidates"]
        .select("user_id", "items")
        .unionByName(inputs["fallback_candidates"].select(F.lit(None).cast("string").alias("user_id"), "items"))
    )
    faults = {
        "lists_longer_than_k": F.size("items") > context.config.candidates.k,
        "lists_with_repeated_items": F.size(F.array_distinct("items.item_id")) != F.size("items"),
        "lists_with_wrong_ranks": ~F.coalesce(_ranks() == F.col("items.rank"), F.lit(False)),
        "lists_with_wrong_scores": ~_falling_finite_scores(),
    }
    row: Any = lists.agg(*[F.sum(fault.cast("long")).alias(name) for name, fault in faults.items()]).first()
    unknown_items = (
        lists.select(F.explode("items.item_id").alias("item_id"))
        .distinct()
        .join(inputs["item_index"], on="item_id", how="left_anti")
        .count()
    )
    unknown_users = inputs["candidates"].join(inputs["user_index"], on="user_id", how="left_anti").count()
    counts = {name: int(row[name] or 0) for name in faults}
    counts |= {"unknown_items": unknown_items, "unknown_users": unknown_users}
    return [verdict(name, count == 0, count, "0") for name, count in counts.items()]


def _ranks() -> Column:
    return F.when(F.size("items") == 0, F.array().cast("array<int>")).otherwise(
        F.sequence(F.lit(1), F.size("items")).cast("array<int>")
    )


def _falling_finite_scores() -> Column:
    scores = F.col("items.score")
    finite = F.forall(scores, lambda score: ~F.isnan(score) & (F.abs(score) != F.lit(float("inf"))))
    falling = F.reverse(F.array_sort(scores)) == scores
    return F.coalesce(finite & falling, F.lit(False))


def coverage(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Every active user has a row; it may be empty, for a user who has seen all items."""
    bound = context.config.audit.min_coverage
    days = context.config.candidates.active_within_days
    active = inputs["interactions"]
    if days:
        active = active.where(F.col("last_time") >= F.lit(context.cutoff - timedelta(days=days)))
    users = active.select("user_idx").distinct().join(inputs["user_index"], on="user_idx", how="inner")
    counted: Any = (
        users.join(inputs["candidates"].select("user_id", "items"), on="user_id", how="left")
        .agg(F.count(F.lit(1)).alias("n_active"), F.count("items").alias("n_covered"))
        .first()
    )
    if not counted["n_active"]:
        return [Gate("coverage", "skipped", None, f">= {bound}", "no active user")]
    coverage = counted["n_covered"] / counted["n_active"]
    return [verdict("coverage", coverage >= bound, coverage, f">= {bound}", f"{counted['n_active']} active users")]


def volume(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """There are about as many lists as in the last bundle."""
    audit = context.config.audit
    bound = f"{audit.min_volume_ratio} to {audit.max_volume_ratio} times the last bundle"
    if not measured.previous_lists:
        return [Gate("volume", "skipped", None, bound, "no bundle of an earlier date")]
    n_lists = inputs["candidates"].count()
    ratio = n_lists / measured.previous_lists
    within = audit.min_volume_ratio <= ratio <= audit.max_volume_ratio
    return [verdict("volume", within, ratio, bound, f"{n_lists} lists, {measured.previous_lists} before")]


def top_item_share(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Not too many lists begin with the same item."""
    bound = context.config.audit.max_top_item_share
    firsts = inputs["candidates"].where(F.size("items") > 0).select(F.col("items")[0]["item_id"].alias("item_id"))
    row: Any = (
        firsts.groupBy("item_id")
        .agg(F.count(F.lit(1)).alias("n"))
        .agg(F.max("n").alias("top"), F.sum("n").alias("n_lists"), F.max_by("item_id", "n").alias("item_id"))
        .first()
    )
    if not row["n_lists"]:
        return [Gate("top_item_share", "skipped", None, f"<= {bound}", "no list with an item")]
    share = row["top"] / row["n_lists"]
    return [verdict("top_item_share", share <= bound, share, f"<= {bound}", f"item {row['item_id']!r}")]


def fallback_share(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Few enough users get only the fallback lists, of their segment or for everybody."""
    bound = f"<= {context.config.audit.max_fallback_share}"
    share = measured.share_fallback
    if share is None:
        return [Gate("fallback_share", "skipped", None, bound, "no source makes lists for single users")]
    return [verdict("fallback_share", share <= context.config.audit.max_fallback_share, share, bound)]


GATES: tuple[Callable[[dict[str, DataFrame], Context, Measured], list[Gate]], ...] = (
    list_form,
    coverage,
    volume,
    top_item_share,
    fallback_share,
    content,
    item_embeddings,
    user_embeddings,
    model,
    drift,
    shards,
)
