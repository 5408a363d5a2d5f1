"""The gates of a day: every figure that a bundle is held against before anybody can see it.

Owns: what is measured on the staged rows and the bound of each gate.  Called by the runner with frames that were read
back from storage; a gate that crashes has failed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.ann_check import shard_faults
from recsys_spark.steps.context import Context

_MAX_NORM_ERROR = 1e-3  # of a vector of length 1, in float32 and in any dimension


@dataclass(frozen=True)
class Gate:
    """One verdict.  outcome: passed, failed or skipped; figure: what was measured, None if nothing was."""

    name: str
    outcome: str
    figure: float | None
    bound: str
    detail: str = ""

    def __str__(self) -> str:
        text = f"gate {self.name}: expected {self.bound}, got {self.figure}"
        return f"{text} ({self.detail})" if self.detail else text


def run_gates(
    inputs: dict[str, DataFrame], context: Context, previous_lists: int | None, drift_cosine: float | None
) -> list[Gate]:
    """The verdicts on the staged candidates and embeddings.

    previous_lists: lists in the newest bundle of an earlier date, None if there is none.  drift_cosine: as the step
    `embed` measured it, None if it did not.
    """
    gates: list[Callable[[], list[Gate]]] = [
        lambda: _list_form(inputs, context),
        lambda: _coverage(inputs, context),
        lambda: [_volume(inputs, context, previous_lists)],
        lambda: [_top_item_share(inputs, context)],
        lambda: _embeddings("item", inputs["item_embeddings"], context),
        lambda: _embeddings("user", inputs["user_embeddings"], context),
        lambda: [_drift(drift_cosine, context)],
        lambda: _shards(inputs, context),
    ]
    verdicts: list[Gate] = []
    for gate in gates:
        try:
            verdicts += gate()
        except Exception as err:
            verdicts.append(Gate("crashed", "failed", None, "an answer", f"{type(err).__name__}: {str(err)[:500]}"))
    return verdicts


def _verdict(name: str, passed: bool, figure: float, bound: str, detail: str = "") -> Gate:
    return Gate(name, "passed" if passed else "failed", figure, bound, detail)


def _list_form(inputs: dict[str, DataFrame], context: Context) -> list[Gate]:
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
    return [_verdict(name, count == 0, count, "0") for name, count in counts.items()]


def _ranks() -> Column:
    return F.when(F.size("items") == 0, F.array().cast("array<int>")).otherwise(
        F.sequence(F.lit(1), F.size("items")).cast("array<int>")
    )


def _falling_finite_scores() -> Column:
    scores = F.col("items.score")
    finite = F.forall(scores, lambda score: ~F.isnan(score) & (F.abs(score) != F.lit(float("inf"))))
    falling = F.reverse(F.array_sort(scores)) == scores
    return F.coalesce(finite & falling, F.lit(False))


def _coverage(inputs: dict[str, DataFrame], context: Context) -> list[Gate]:
    """Every active user has a row; it may be empty, for one who has seen all that there is."""
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
    return [_verdict("coverage", coverage >= bound, coverage, f">= {bound}", f"{counted['n_active']} active users")]


def _volume(inputs: dict[str, DataFrame], context: Context, previous_lists: int | None) -> Gate:
    audit = context.config.audit
    bound = f"{audit.min_volume_ratio} to {audit.max_volume_ratio} times the last bundle"
    if not previous_lists:
        return Gate("volume", "skipped", None, bound, "no bundle of an earlier date")
    n_lists = inputs["candidates"].count()
    ratio = n_lists / previous_lists
    within = audit.min_volume_ratio <= ratio <= audit.max_volume_ratio
    return _verdict("volume", within, ratio, bound, f"{n_lists} lists, {previous_lists} before")


def _top_item_share(inputs: dict[str, DataFrame], context: Context) -> Gate:
    bound = context.config.audit.max_top_item_share
    firsts = inputs["candidates"].where(F.size("items") > 0).select(F.col("items")[0]["item_id"].alias("item_id"))
    row: Any = (
        firsts.groupBy("item_id")
        .agg(F.count(F.lit(1)).alias("n"))
        .agg(F.max("n").alias("top"), F.sum("n").alias("n_lists"), F.max_by("item_id", "n").alias("item_id"))
        .first()
    )
    if not row["n_lists"]:
        return Gate("top_item_share", "skipped", None, f"<= {bound}", "no list with an item")
    share = row["top"] / row["n_lists"]
    return _verdict("top_item_share", share <= bound, share, f"<= {bound}", f"item {row['item_id']!r}")


def _embeddings(kind: str, embeddings: DataFrame, context: Context) -> list[Gate]:
    """No vector is zero or not finite; all have [two_tower] dim numbers, and length 1 if that is asked for."""
    settings = context.config.two_tower
    squares = F.aggregate("vector", F.lit(0.0), lambda total, one: total + one.cast("double") * one.cast("double"))
    norm = F.sqrt(squares)  # from the numbers themselves, whatever the column `norm` says
    is_usable = ~F.isnan(norm) & (norm > 0) & (norm < F.lit(float("inf")))
    row: Any = embeddings.agg(
        F.count(F.lit(1)).alias("n"),
        F.count(F.when(~is_usable, 1)).alias("n_unusable"),
        F.count(F.when(F.size("vector") != settings.dim, 1)).alias("n_of_other_size"),
        F.max(F.when(is_usable, F.abs(norm - 1))).alias("norm_error"),
    ).first()
    names = [f"{kind}_embeddings_unusable", f"{kind}_embeddings_of_other_size", f"{kind}_embedding_norms"]
    bounds = ["0", "0", f"<= {_MAX_NORM_ERROR} away from 1"]
    if not row["n"]:
        return [Gate(name, "skipped", None, bound, "no embeddings") for name, bound in zip(names, bounds, strict=True)]
    verdicts = [
        _verdict(names[0], not row["n_unusable"], row["n_unusable"], bounds[0], "zero, or not finite"),
        _verdict(names[1], not row["n_of_other_size"], row["n_of_other_size"], bounds[1], f"not {settings.dim} long"),
    ]
    error = row["norm_error"]
    if not settings.normalize or error is None:
        return [*verdicts, Gate(names[2], "skipped", None, bounds[2], "no length to hold them against")]
    return [*verdicts, _verdict(names[2], error <= _MAX_NORM_ERROR, error, bounds[2])]


def _shards(inputs: dict[str, DataFrame], context: Context) -> list[Gate]:
    """Every shard is whole and of the embeddings' model, and together they hold every item that may be shown."""
    shards, embeddings = inputs["ann_shards"], inputs["item_embeddings"]
    shown = embeddings.where(F.col("shown") & (F.col("norm") > 0)).count()
    held: Any = shards.agg(F.sum("ntotal").alias("n")).first()
    names, bounds = ("shards_damaged", "shards_of_other_model", "shards_items"), ("0", "0", f"{shown} items")
    if not shown and not held["n"]:
        return [Gate(name, "skipped", None, bound, "no embeddings") for name, bound in zip(names, bounds, strict=True)]
    faults = shard_faults(shards, context.config.root)
    foreign = shards.join(embeddings.select("model_version").distinct(), on="model_version", how="left_anti").count()
    n_held = int(held["n"] or 0)
    return [
        _verdict(names[0], not faults, len(faults), bounds[0], "; ".join(faults[:3])),
        _verdict(names[1], not foreign, foreign, bounds[1]),
        _verdict(names[2], n_held == shown, n_held, bounds[2]),
    ]


def _drift(drift_cosine: float | None, context: Context) -> Gate:
    least = context.config.audit.min_embedding_cosine
    bound = f">= {least}"
    if not least or drift_cosine is None:
        detail = "not a model that started from the last bundle's" if least else "not asked for"
        return Gate("embedding_drift", "skipped", drift_cosine, bound, detail)
    return _verdict("embedding_drift", drift_cosine >= least, drift_cosine, bound)
