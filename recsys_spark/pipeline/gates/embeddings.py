"""Gates on embeddings and the ANN index over them; a run without a two-tower model skips them, and says so.

Owns: what is measured on the staged rows, and its bounds.
"""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.recall import shard_faults
from recsys_spark.context import Context
from recsys_spark.pipeline.gates.verdict import Gate, Measured, verdict

_MAX_NORM_ERROR = 1e-3  # of a vector of length 1, in float32 and in any dimension


def item_embeddings(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """As `_embeddings`, of items."""
    return _embeddings("item", inputs["item_embeddings"], context)


def user_embeddings(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """As `_embeddings`, of users."""
    return _embeddings("user", inputs["user_embeddings"], context)


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
        verdict(names[0], not row["n_unusable"], row["n_unusable"], bounds[0], "zero, or not finite"),
        verdict(names[1], not row["n_of_other_size"], row["n_of_other_size"], bounds[1], f"not {settings.dim} long"),
    ]
    error = row["norm_error"]
    if not settings.normalize or error is None:
        return [*verdicts, Gate(names[2], "skipped", None, bounds[2], "no length to hold them against")]
    return [*verdicts, verdict(names[2], error <= _MAX_NORM_ERROR, error, bounds[2])]


def model(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """All embeddings are of the run's model."""
    kinds = [inputs[f"{kind}_embeddings"].select("model_version") for kind in ("item", "user")]
    versions = kinds[0].unionByName(kinds[1]).distinct()
    if versions.isEmpty():
        return [Gate("embeddings_of_other_model", "skipped", None, "0", "no embeddings")]
    foreign = versions.join(inputs["two_tower_models"], on="model_version", how="left_anti").count()
    return [verdict("embeddings_of_other_model", not foreign, foreign, "0", "models that are not the run's")]


def shards(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Every shard is whole and of the embeddings' model, and together they hold every item that may be shown."""
    stored, embeddings = inputs["ann_shards"], inputs["item_embeddings"]
    shown = embeddings.where(F.col("shown") & (F.col("norm") > 0)).count()
    held: Any = stored.agg(F.sum("ntotal").alias("n")).first()
    names, bounds = ("shards_damaged", "shards_of_other_model", "shards_items"), ("0", "0", f"{shown} items")
    if not shown and not held["n"]:
        return [Gate(name, "skipped", None, bound, "no embeddings") for name, bound in zip(names, bounds, strict=True)]
    faults = shard_faults(stored, context.config.root)
    foreign = stored.join(embeddings.select("model_version").distinct(), on="model_version", how="left_anti").count()
    n_held = int(held["n"] or 0)
    return [
        verdict(names[0], not faults, len(faults), bounds[0], "; ".join(faults[:3])),
        verdict(names[1], not foreign, foreign, bounds[1]),
        verdict(names[2], n_held == shown, n_held, bounds[2]),
    ]


def drift(inputs: dict[str, DataFrame], context: Context, measured: Measured) -> list[Gate]:
    """Embeddings of items have not moved far, where training went on from the last bundle's model."""
    least = context.config.audit.min_embedding_cosine
    bound = f">= {least}"
    cosine = measured.drift_cosine
    if not least or cosine is None:
        detail = "not a model that started from the last bundle's" if least else "not asked for"
        return [Gate("embedding_drift", "skipped", cosine, bound, detail)]
    return [verdict("embedding_drift", cosine >= least, cosine, bound)]
