"""Interactions: the weights of all events of a user and an item, summed; and exposures, one row per impression.

Owns: how events are weighed and added up, for a day and for the small runs of validation.
"""

import logging
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.context import Context
from recsys_spark.signals.event_weights import (
    event_weight,
    exact_sum,
    excluded_until,
    has_role,
    in_window,
    known_events,
    lengths,
    needs_length,
)
from recsys_spark.signals.exposures import exposed_pairs, fit_inverse_weights

_log = logging.getLogger(__name__)


def fit_interactions(inputs: dict[str, DataFrame], context: Context) -> DataFrame:
    """The rows of `interactions`; figures n_capped_user_days, n_anonymous, and those of debiasing."""
    days = fit_user_days(inputs["events"], context)
    weighted = _weighted(inputs, _scales(days, context), context)
    return _with_indices(_per_user_and_item(weighted), inputs).select(
        "user_idx", "item_idx", "weight", "last_time", "n_events", "excluded_until"
    )


def fit_user_days(events: DataFrame, context: Context) -> DataFrame:
    """Days of users with more engagement events than the bound: (user_id, ds, n_engaged); of a null user_id all days.

    Events are counted before the shuffle, so a bot is one row per input partition.  The result is few rows, kept until
    the runner clears the cache: its size is then known to Spark, which broadcasts it.
    """
    interactions, types = context.config.interactions, context.config.events.types
    days = (
        known_events(events, context.cutoff, interactions.window_days)
        .groupBy("user_id", "ds")
        .agg(F.count_if(has_role(types, "engage")).alias("n_engaged"), F.count(F.lit(1)).alias("n_events"))
        .where(F.col("user_id").isNull() | (F.col("n_engaged") > interactions.max_events_per_user_day))
        .persist()
    )
    row: Any = days.agg(
        F.count("user_id").alias("n_capped_user_days"),
        F.sum(F.when(F.col("user_id").isNull(), F.col("n_events"))).alias("n_anonymous"),
    ).first()
    context.figures.update({name: float(row[name] or 0) for name in ("n_capped_user_days", "n_anonymous")})
    _log.info("step=interactions phase=user_days n_capped=%d", row["n_capped_user_days"])
    return days


def _scales(user_days: DataFrame, context: Context) -> DataFrame:
    """The factor of the weights of a user's day, only for days over the bound."""
    bound = context.config.interactions.max_events_per_user_day
    return user_days.where(F.col("user_id").isNotNull()).select(
        "user_id", "ds", (F.lit(float(bound)) / F.col("n_engaged")).alias("scale")
    )


def _weighted(inputs: dict[str, DataFrame], scales: DataFrame, context: Context) -> DataFrame:
    """Engagements and dislikes of known users: user_id, item_id, engaged_at, disliked_at, excluded_until, weight.

    A dislike counts whatever its age, because it may hold for good; its type's weight is not added.
    """
    interactions, types = context.config.interactions, context.config.events.types
    engaged = has_role(types, "engage") & in_window(context.cutoff, interactions.window_days)
    disliked = has_role(types, "dislike")
    events = (
        known_events(inputs["events"], context.cutoff)
        .where(F.col("user_id").isNotNull() & (engaged | disliked))
        .select("user_id", "item_id", "event_type", "event_time", "value", "ds")
        .join(scales, on=["user_id", "ds"], how="left")
    )
    if needs_length(types):
        events = events.join(lengths(inputs["items"]), on="item_id", how="left")
    weight = event_weight(types, context.cutoff, interactions.half_life_days) * F.coalesce("scale", F.lit(1.0))
    if interactions.debias_clip:
        events, weight = _debiased(events, weight, inputs, context)
    return events.select(
        "user_id",
        "item_id",
        F.when(~disliked, F.col("event_time")).alias("engaged_at"),
        F.when(disliked, F.col("event_time")).alias("disliked_at"),
        excluded_until(types).alias("excluded_until"),
        weight.alias("weight"),
    )


def _debiased(
    events: DataFrame, weight: Column, inputs: dict[str, DataFrame], context: Context
) -> tuple[DataFrame, Column]:
    """The events joined with their inverse propensities, and their weights multiplied by these.

    What followed a showing counts by its inverse propensity, everything else once; the mean over all engagements is 1.
    """
    interactions, types = context.config.interactions, context.config.events.types
    known = known_events(inputs["events"], context.cutoff, interactions.window_days)
    fit = fit_inverse_weights(exposed_pairs(known, inputs["items"], types), interactions.debias_clip)
    events = events.join(fit.weights, on=["user_id", "item_id"], how="left").persist()
    inverse = F.when(F.col("event_time") >= F.col("shown_at"), F.col("inverse"))
    engaged = events.where(has_role(types, "engage"))
    row: Any = engaged.agg(
        F.count(F.lit(1)).alias("n"),
        F.count(inverse).alias("n_shown"),
        exact_sum(F.coalesce(inverse, F.lit(1.0))).alias("total"),
    ).first()
    mean = row["total"] / row["n"] if row["n"] else 1.0
    context.figures.update(share_debiased=row["n_shown"] / max(1, row["n"]), mean_inverse=mean)
    context.figures.update({f"examined:{at}": float(chance) for at, chance in enumerate(fit.examined, 1)})
    _log.info("step=interactions phase=debias n=%d n_shown=%d mean=%.4g", row["n"], row["n_shown"], mean)
    return events, weight * F.coalesce(inverse, F.lit(1.0)) / F.lit(mean)


def _per_user_and_item(weighted: DataFrame) -> DataFrame:
    """One row per (user_id, item_id).  A weight of zero stays: the user has still seen the item."""
    return weighted.groupBy("user_id", "item_id").agg(
        F.greatest(exact_sum(F.col("weight")), F.lit(0.0)).cast("float").alias("weight"),
        F.coalesce(F.max("engaged_at"), F.max("disliked_at")).alias("last_time"),
        F.count("engaged_at").cast("int").alias("n_events"),
        # Each dislike has its own expiry: the item stays hidden until the last of them.
        F.max("excluded_until").alias("excluded_until"),
    )


def _with_indices(rows: DataFrame, inputs: dict[str, DataFrame]) -> DataFrame:
    """`rows` with user_idx and item_idx.

    Left joins: a row whose id has no index keeps a null, which the contract refuses; an inner join would lose it.
    """
    return rows.join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="left").join(
        inputs["user_index"].select("user_id", "user_idx"), on="user_id", how="left"
    )


def fit_density(interactions: DataFrame, context: Context) -> None:
    """Puts the size and density of the matrix into the figures; `interactions` stays in the cache for its writer."""
    row: Any = (
        interactions.persist()
        .agg(
            F.count(F.lit(1)).alias("n_interactions"),
            F.count_distinct("user_idx").alias("n_users"),
            F.count_distinct("item_idx").alias("n_items"),
        )
        .first()
    )
    cells = row["n_users"] * row["n_items"]
    density = row["n_interactions"] / cells if cells else 0.0
    context.figures.update({name: float(value) for name, value in row.asDict().items()}, density=density)
    _log.info("step=interactions phase=weights n_interactions=%d density=%.6g", row["n_interactions"], density)


def fit_exposures(inputs: dict[str, DataFrame], context: Context) -> DataFrame:
    """Impressions of known users in the window, one row each."""
    shown = has_role(context.config.events.types, "impression") & F.col("user_id").isNotNull()
    events = known_events(inputs["events"], context.cutoff, context.config.interactions.window_days).where(shown)
    return _with_indices(events, inputs).select(
        "user_idx", "item_idx", "event_time", "surface", "position", "propensity", "session_id"
    )
