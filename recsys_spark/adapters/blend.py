"""Who gets a list, what may not be in it, and what the lists of all sources are.

Owns: the policies (seen, dislikes, availability, activity) as Spark columns and joins.  Called by the step `blend`; the
lists themselves are made by `adapters.blend_lists`.

What many users share travels by broadcast: the lists for segments and for everybody, and the ids of the items that may
be shown.  Both are collected on the driver, bounded by MAX_SHARED_BYTES and MAX_ID_BYTES; beyond a bound the step ends
with an error that names the setting to change.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.blend_scopes import Settings, Shared, Shown, shared_lists
from recsys_spark.adapters.user_blocks import list_columns
from recsys_spark.adapters.weights import is_positive, known_events
from recsys_spark.config.lists import MAIN, Candidates
from recsys_spark.config.schema import Config
from recsys_spark.kernels.diversify import Diversity
from recsys_spark.kernels.score_fusion import Fusion
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

# Twenty million entries of shared lists; a worker holds 28 bytes for each.
MAX_SHARED_BYTES = 256 << 20

_PROPOSE_NEW = {"content", "two_tower"}  # sources that can propose what nobody has had yet, as als can by attributes

_PLACES = 1_000_000  # shares of variants are told apart to a millionth

_ENTRY_BYTES = 12  # item_idx, rank and score


def weight_of(source: str, weights: Mapping[str, float], otherwise: float = 1.0) -> float:
    """The weight of a list: its own, else its source's (`popular` for `popular/trending`), else `otherwise`."""
    return weights.get(source, weights.get(source.partition("/")[0], otherwise))


def fit_settings(source_candidates: DataFrame, candidates: Candidates) -> Settings:
    """The lists that there are, with their weights."""
    names = sorted(row["source"] for row in source_candidates.select("source").distinct().collect())
    weights = tuple(weight_of(name, candidates.source_weights) for name in names)
    diversity, share = Diversity(**candidates.diversity.model_dump()), candidates.explore.share
    fusion = None
    if candidates.method == "scores":
        own = {
            row["source"]
            for row in source_candidates.where(F.col("user_idx").isNotNull()).select("source").distinct().collect()
        }
        # A list for many is no user's own opinion: it counts where somebody says so.
        of_scores = [weight_of(name, _with_segments(candidates.score_weights), float(name in own)) for name in names]
        of_new = [candidates.score_weights.get(f"{name}/new", one) for name, one in zip(names, of_scores, strict=True)]
        fusion = Fusion(np.array(of_scores) * weights, candidates.score_scaling)
        if of_new != of_scores:
            fusion = replace(fusion, of_new=np.array(of_new) * weights)
    return Settings(
        tuple(names), weights, candidates.rrf_k, candidates.k, diversity=diversity, explore_share=share, fusion=fusion
    )


def _with_segments(weights: Mapping[str, float]) -> Mapping[str, float]:
    """The weights, where a segment's popular list that has none counts as that of everybody."""
    return {"popular/segment": weights.get("popular/global", 0.0), **weights}


def active_users(inputs: Mapping[str, DataFrame], candidates: Candidates, cutoff: datetime) -> DataFrame:
    """Users who get a list of their own: user_idx, user_id, `features_of_lists`, excluded (array<int>, ascending).

    Active is who has an interaction within `active_within_days` before `cutoff`, 0 = ever.
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

    Only those whom the catalogue gives a time of sign-up: of others nobody knows whether they are new or gone.
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


def variant_of(candidates: Candidates) -> Column:
    """The variant of a user, by the hash of `user_id`: the same on every date while the shares are the same."""
    place = F.pmod(F.xxhash64("user_id", F.lit("variant")), F.lit(_PLACES)) / F.lit(float(_PLACES))
    found, ends = F.lit(MAIN), sum(one.share for one in candidates.variants.values())
    for name, one in sorted(candidates.variants.items(), reverse=True):
        found = F.when((place < ends) & (place >= ends - one.share), F.lit(name)).otherwise(found)
        ends -= one.share
    return found


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


def own_lists(source_candidates: DataFrame) -> DataFrame:
    """One row per user with lists of their own: user_idx, own (by source: source, item_idx and score, best first,
    n_own, mean and deviation).
    """
    of_users = source_candidates.where(F.col("user_idx").isNotNull())
    mine = of_users.select("user_idx", F.struct(*list_columns()).alias("one"))
    return mine.groupBy("user_idx").agg(F.sort_array(F.collect_list("one")).alias("own"))


def shown_items(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> DataFrame:
    """The items that may be shown, (item_idx, item_id): anybody, known or not, engaged with them within
    `available_within_days` before `cutoff`, or they were created then; with 0 every indexed item.

    Where a source can propose what nobody has had, so may be shown what nobody has had and has no time of creation.
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


def _proposes_new(config: Config) -> bool:
    enabled = set(config.sources.enabled)
    return bool(_PROPOSE_NEW & enabled) or ("als" in enabled and bool(config.als.item_attributes))


def fit_shown_idx(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> np.ndarray:
    """item_idx of the items that may be shown, on the driver, int32; KernelError if they are beyond MAX_ID_BYTES."""
    shown = shown_items(inputs, config, cutoff).select("item_idx").persist()
    check_bytes("blend", "items that may be shown", shown.count() * 4, MAX_ID_BYTES, "available_within_days")
    found: np.ndarray = shown.toArrow()["item_idx"].to_numpy()
    return found


def fit_shown(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> Shown:
    """The items that may be shown, on the driver.  Raises KernelError if their ids have more than MAX_ID_BYTES."""
    shown = shown_items(inputs, config, cutoff).persist()
    size: Any = shown.agg(F.sum(F.octet_length("item_id")).alias("n_bytes")).first()
    check_bytes("blend", "ids of items that may be shown", size["n_bytes"] or 0, MAX_ID_BYTES, "available_within_days")
    table = shown.toArrow().sort_by("item_idx").combine_chunks()
    return Shown(table["item_idx"].to_numpy(), table["item_id"].combine_chunks())


def fit_had(interactions: DataFrame, n_items: int) -> np.ndarray:
    """Whether anybody has had an item, or disliked it, bool (n_items,), on the driver."""
    found = np.zeros(n_items, bool)
    found[interactions.select("item_idx").distinct().toArrow()["item_idx"].to_numpy()] = True
    return found


def fit_shared(source_candidates: DataFrame, settings: Settings, shown: Shown) -> Shared:
    """The lists for segments and for everybody, ready to be broadcast.

    Raises KernelError if they have more than MAX_SHARED_BYTES.
    """
    lists = source_candidates.where(F.col("user_idx").isNull()).select("source", "segment", "items")
    size: Any = lists.agg(F.sum(F.size("items").cast("long") * _ENTRY_BYTES).alias("n_bytes")).first()
    check_bytes(
        "blend", "lists for segments and everybody", size["n_bytes"] or 0, MAX_SHARED_BYTES, "max_items of a source"
    )
    return shared_lists(lists.toArrow(), settings, shown)
