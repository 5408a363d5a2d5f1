"""Who gets a list, what may not be in it, and what the lists of all sources are.

Owns: the policies (seen, dislikes, availability, activity) as Spark columns and joins.

What many users share travels by broadcast: the lists for segments and for everybody, and the ids of the items that may
be shown.  Both are collected on the driver, bounded by MAX_SHARED_BYTES and MAX_ID_BYTES; beyond a bound the step ends
with an error that names the setting to change.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.adapters.blend_scopes import Settings, Shared, Shown, shared_lists
from recsys_spark.config.lists import MAIN, Candidates
from recsys_spark.config.schema import Config
from recsys_spark.kernels.diversify import Diversity
from recsys_spark.kernels.score_fusion import Fusion
from recsys_spark.signals.visibility import shown_items
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

# Twenty million entries of shared lists; a worker holds 28 bytes for each.
MAX_SHARED_BYTES = 256 << 20


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


def variant_of(candidates: Candidates) -> Column:
    """The variant of a user, by the hash of `user_id`: the same on every date while the shares are the same."""
    place = F.pmod(F.xxhash64("user_id", F.lit("variant")), F.lit(_PLACES)) / F.lit(float(_PLACES))
    found, ends = F.lit(MAIN), sum(one.share for one in candidates.variants.values())
    for name, one in sorted(candidates.variants.items(), reverse=True):
        found = F.when((place < ends) & (place >= ends - one.share), F.lit(name)).otherwise(found)
        ends -= one.share
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
