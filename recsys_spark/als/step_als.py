"""Fits the ALS factors of users and items.

Owns: which interactions and attributes are fitted, what the fit starts from, and its figures.
"""

import logging

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.als.attributes import attribute_pairs
from recsys_spark.als.blocks import Sizes
from recsys_spark.als.exchange import sum_gramians
from recsys_spark.als.fit import Fit, factor_rows, fit_factors
from recsys_spark.als.kernels.objective import effective_rank, has_collapsed
from recsys_spark.config.models import Als
from recsys_spark.context import Context
from recsys_spark.signals.event_weights import age_days
from recsys_spark.signals.visibility import shown_items

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`user_factors` and `item_factors`.

    Pairs count that have a weight.  Figures: n_iterations, objective (after the last of them), n_resumed
    (half-iterations that an earlier attempt had done), explained (the part by which the objective is below that of
    factors of zero), effective_rank (of the items' factors), and what the reader folds sessions in by: alpha,
    regularization, nu, unobserved, n_cols (items, and attributes of users) and norm_exponent.
    """
    pairs, sizes = _matrix(inputs, context)
    fit, settings = _fit_that_holds(pairs, sizes, context, _start(inputs, context))
    context.figures.update(
        n_iterations=float(fit.n_iterations),
        objective=fit.objectives[-1],
        n_resumed=float(fit.n_resumed),
        n_cols=float(sizes.n_item_rows),
        norm_exponent=float(context.config.sources.params("als")["norm_exponent"]),
        alpha=settings.alpha,
        regularization=settings.regularization,
        nu=settings.nu,
        unobserved=settings.unobserved,
    )
    _log.info("step=als phase=fit n_iterations=%d objective=%.9g", fit.n_iterations, fit.objectives[-1])
    return {"user_factors": _user_factors(inputs, fit, context), "item_factors": _item_factors(inputs, fit, context)}


_ATTEMPTS = 4  # fits, each with a tenth of the ridge before it, until factors are left


def _fit_that_holds(pairs: DataFrame, sizes: Sizes, context: Context, start: DataFrame | None) -> tuple[Fit, Als]:
    """A fit whose factors have not collapsed (to one direction, or to zero), and its settings.

    A ridge that is too strong for the log collapses them.  It is weakened where the run may choose it; where a person
    wrote it, it stays, and the warning says so.
    """
    settings, scratch = context.config.als, context.scratch("als")
    is_open = "als.regularization" in context.config.validation.auto
    for attempt in range(_ATTEMPTS):
        fit = fit_factors(pairs, sizes, settings, context.seed, scratch, start)
        explained = 1 - fit.objectives[-1] / fit.nothing if fit.nothing > 0 else 1.0
        rank = effective_rank(sum_gramians(scratch, fit.items, False, settings.factors))
        context.figures.update(explained=explained, effective_rank=rank)
        if not has_collapsed(explained, rank, settings.factors):
            break
        lost = f"als: regularization {settings.regularization:g} leaves next to nothing of the factors"
        if not is_open or attempt == _ATTEMPTS - 1:
            context.warnings.append(f"{lost}; every user gets one order: lower als.regularization, or set it to auto")
            break
        settings = settings.model_copy(update={"regularization": settings.regularization / 10})
        context.warnings.append(f"{lost}; fitted again with {settings.regularization:g}")
    return fit, settings


def _matrix(inputs: dict[str, DataFrame], context: Context) -> tuple[DataFrame, Sizes]:
    """user_idx, item_idx and weight of what is fitted: interactions, then attributes as further users and items."""
    settings = context.config.als
    n_users, n_items = inputs["user_index"].count(), inputs["item_index"].count()
    weight = F.col("weight")
    if settings.half_life_days:
        weight = weight * F.pow(F.lit(0.5), age_days("last_time", context.cutoff) / F.lit(settings.half_life_days))
    pairs = inputs["interactions"].select("user_idx", "item_idx", weight.cast("float").alias("weight"))
    pairs = pairs.where(F.col("weight") > 0)
    n_item_values = n_user_values = 0
    constant = F.lit(settings.attribute_weight).cast("float").alias("weight")
    if settings.item_attributes:
        had = _attributes(inputs, "item", settings.item_attributes)
        n_item_values = _n_values(had)
        rows = (F.col("attribute_idx") + n_users).alias("user_idx")
        pairs = pairs.unionByName(had.select(rows, F.col("idx").alias("item_idx"), constant))
    if settings.user_attributes:
        had = _attributes(inputs, "user", settings.user_attributes)
        n_user_values = _n_values(had)
        cols = (F.col("attribute_idx") + n_items).alias("item_idx")
        pairs = pairs.unionByName(had.select(F.col("idx").alias("user_idx"), cols, constant))
    return pairs, Sizes(n_users, n_items, n_users + n_item_values, n_items + n_user_values)


def _attributes(inputs: dict[str, DataFrame], kind: str, names: list[str]) -> DataFrame:
    index = inputs[f"{kind}_index"].withColumnRenamed(f"{kind}_idx", "idx")
    return attribute_pairs(inputs[f"{kind}s"], index, f"{kind}_id", names).persist(StorageLevel.DISK_ONLY)


def _n_values(had: DataFrame) -> int:
    row = had.agg(F.max("attribute_idx").alias("last")).first()
    if row is None or row["last"] is None:
        _log.warning("step=als phase=attributes n_values=0: no item, or user, has any of those that are named")
        return 0
    return int(row["last"]) + 1


def _start(inputs: dict[str, DataFrame], context: Context) -> DataFrame | None:
    """Factors of the base run's items that are still items; None if there is no base, or it is not asked for."""
    base = inputs.get("base_item_factors")
    if base is None or not context.config.als.warm_start:
        return None
    return base.select("item_id", "vector").join(inputs["item_index"], on="item_id", how="inner")


def _user_factors(inputs: dict[str, DataFrame], fit: Fit, context: Context) -> DataFrame:
    rows = factor_rows(context.spark, fit.users, fit.items.side, context.scratch("als"))
    return (
        rows.withColumnRenamed("idx", "user_idx")
        .join(inputs["user_index"], on="user_idx", how="inner")
        .select("user_id", "user_idx", "vector", "weight", "n")
    )


def _item_factors(inputs: dict[str, DataFrame], fit: Fit, context: Context) -> DataFrame:
    shown = shown_items(inputs, context.config, context.cutoff).select("item_idx", F.lit(True).alias("shown"))
    rows = factor_rows(context.spark, fit.items, fit.users.side, context.scratch("als"))
    return (
        rows.withColumnRenamed("idx", "item_idx")
        .join(inputs["item_index"], on="item_idx", how="inner")
        .join(shown, on="item_idx", how="left")
        .select("item_id", "item_idx", "vector", "weight", "n", F.coalesce("shown", F.lit(False)).alias("shown"))
    )
