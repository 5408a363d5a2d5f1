"""Visibility: which users get a list, which items are hidden from a user, and which may be shown at all.

Owns: the policies of what a user has seen and of what the catalogue shows, in one place for all sources and the blend.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.lists import Candidates
from recsys_spark.config.schema import Config
from recsys_spark.signals.event_weights import is_positive, known_events
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

_PROPOSE_NEW = {"content", "two_tower"}  # sources that can propose items without events, as als can by attributes


def active_users(inputs: Mapping[str, DataFrame], candidates: Candidates, cutoff: datetime) -> DataFrame:
    """Users who get a list of their own: user_idx, user_id, `features_of_lists`, excluded (array<int>, ascending).

    A user is active with an interaction within `active_within_days` before `cutoff`, 0 = ever.
    """
    features = features_of_lists(candidates)
    hidden = F.when(is_hidden(candidates, cutoff), F.col("item_idx"))
    users = (
        inputs["interactions"]
        .groupBy("user_idx")
        .agg(F.sort_array(F.collect_list(hidden)).alias("excluded"), F.max("last_time").alias("last_time"))
    )
    if candidates.active_within_days:
        users = users.where(F.col("last_time") >= F.lit(cutoff - timedelta(days=candidates.active_within_days)))
    return (
        users.join(inputs["user_index"].select("user_idx", "user_id"), on="user_idx", how="inner")
        .join(inputs["user_features"].select("user_id", *features), on="user_id", how="left")
        .select("user_idx", "user_id", *features, "excluded")
    )


def newcomers(inputs: Mapping[str, DataFrame], candidates: Candidates, cutoff: datetime) -> DataFrame:
    """Users who signed up within `active_within_days` before `cutoff` and have no interaction yet, as `active_users`.

    Only users with a time of sign-up in the catalogue: of others it is not known whether they are new or gone.
    """
    signed_up = F.col("created_at") < F.lit(cutoff)
    if candidates.active_within_days:
        signed_up &= F.col("created_at") >= F.lit(cutoff - timedelta(days=candidates.active_within_days))
    return (
        inputs["user_index"]
        .select("user_idx", "user_id")
        .join(inputs["users"].where(signed_up).select("user_id"), on="user_id", how="left_semi")
        .join(inputs["interactions"].select("user_idx"), on="user_idx", how="left_anti")
        .join(inputs["user_features"].select("user_id", *features_of_lists(candidates)), on="user_id", how="left")
        .select("*", F.array().cast("array<int>").alias("excluded"))
        .select("user_idx", "user_id", *features_of_lists(candidates), "excluded")
    )


def features_of_lists(candidates: Candidates) -> tuple[str, ...]:
    """The features of a user that the list depends on."""
    calibrated = any(one.diversity.calibration_weight > 0 for one in candidates.by_variant().values())
    return ("segment", "category_affinities") if calibrated else ("segment",)


def is_hidden(candidates: Candidates, cutoff: datetime) -> Column:
    """Whether the row of `interactions` keeps its item out of its user's list.

    A dislike does until it expires, under every policy.  Any engagement makes an item seen, also one that was returned
    (weight 0); a dislike alone does not, so that the item comes back when the dislike expires.
    """
    disliked = F.coalesce(F.col("excluded_until") > F.lit(cutoff), F.lit(False))
    seen = (F.col("n_events") > 0) | F.col("excluded_until").isNull()
    match candidates.seen:
        case "keep":
            return disliked
        case "exclude":
            return disliked | seen
        case "repeat_after_days":
            since = cutoff - timedelta(days=candidates.repeat_after_days)
            return disliked | (seen & (F.col("last_time") > F.lit(since)))


def shown_items(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> DataFrame:
    """The items that may be shown, (item_idx, item_id): with a positive engagement within `available_within_days`
    before `cutoff`, also by users without an id, or created in that time; with 0 every indexed item.

    If a source can propose items without events, those without events and time of creation may be shown too.
    """
    shown = inputs["item_index"].select("item_idx", "item_id")
    days = config.candidates.available_within_days
    if days:
        since = F.lit(cutoff - timedelta(days=days))
        created = (F.col("created_at") >= since) & (F.col("created_at") < F.lit(cutoff))
        engaged = known_events(inputs["events"], cutoff, days).where(is_positive(config.events.types)).select("item_id")
        available = engaged.unionByName(inputs["items"].where(created).select("item_id"))
        if _proposes_new(config):
            undated = inputs["items"].where(F.col("created_at").isNull()).select("item_id")
            had = known_events(inputs["events"], cutoff).select("item_id")
            available = available.unionByName(undated.join(had, on="item_id", how="left_anti"))
        available = available.distinct()
        shown = shown.join(available, on="item_id", how="left_semi").select("item_idx", "item_id")
    return shown


def fit_shown_idx(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> np.ndarray:
    """item_idx of the items that may be shown, on the driver, int32.  Raises KernelError beyond MAX_ID_BYTES."""
    shown = shown_items(inputs, config, cutoff).select("item_idx").persist()
    check_bytes("blend", "items that may be shown", shown.count() * 4, MAX_ID_BYTES, "available_within_days")
    found: np.ndarray = shown.toArrow()["item_idx"].to_numpy()
    return found


def _proposes_new(config: Config) -> bool:
    enabled = set(config.sources.enabled)
    return bool(_PROPOSE_NEW & enabled) or ("als" in enabled and bool(config.als.item_attributes))
