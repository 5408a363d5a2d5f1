"""Fresh items of exploration: which items are new on a date, their showings and successes, and the day's samples.

Owns: the age of an item, showings and successes.

A showing is a user to whom the item was shown; a success is one who engaged with it then or later, and kept it.  A log
without impressions has no showings: all fresh items are then equally unknown, and are explored evenly.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.kernels.exploration import Drawing, FreshItems, Samples, draw_samples, global_prior
from recsys_spark.config.lists import Explore
from recsys_spark.signals.event_weights import known_events
from recsys_spark.signals.exposures import shown_pairs

# The samples of so many items are 64 MiB.  Of more, the newest are explored: showings are few for each anyway.
MAX_FRESH_ITEMS = 1 << 16

_ANY_AGE = 36_500  # days; exposures are those of [interactions] window_days already

# An item stays if at least one in twenty of its draws reaches the floor.
_MIN_CHANCE = 0.05


def fit_samples(
    inputs: Mapping[str, DataFrame], shown: np.ndarray, explore: Explore, cutoff: datetime, seed: int
) -> tuple[Samples, int]:
    """The day's samples of the fresh items among `shown`, int32 item_idx, and how many are fresh, explored or not.

    inputs: events, items, item_index, interactions, exposures.
    """
    pairs = shown_pairs(inputs["exposures"], inputs["interactions"], cutoff, _ANY_AGE)
    counts = (F.count(F.lit(1)).alias("n_shown"), F.count_if("converted").alias("n_engaged"))
    judged = pairs.groupBy("item_idx").agg(*counts).persist()
    total: Any = judged.agg(F.sum("n_shown").alias("n"), F.sum("n_engaged").alias("engaged")).first()
    prior = global_prior(total["engaged"] or 0, total["n"] or 0, explore.prior_showings)
    fresh = fresh_items(inputs, cutoff, explore.fresh_days).join(judged, on="item_idx", how="left")
    table = fresh.na.fill(0, ["n_shown", "n_engaged"]).toArrow()
    judged.unpersist()
    item_idx, born, successes, trials = (
        table[name].to_numpy().astype(np.int64) for name in ("item_idx", "born", "n_engaged", "n_shown")
    )
    kept = np.flatnonzero(np.isin(item_idx, shown))
    n_fresh = len(kept)
    kept = kept[np.lexsort((item_idx[kept], -born[kept]))][:MAX_FRESH_ITEMS]
    kept = kept[np.argsort(item_idx[kept])]
    floor = min(1.0, explore.quality_floor * prior.a / (prior.a + prior.b))
    drawing = Drawing(prior, floor, _MIN_CHANCE, mode=explore.mode)
    known = FreshItems(item_idx[kept].astype(np.int32), successes[kept], trials[kept])
    return draw_samples(known, drawing, np.random.default_rng(seed)), n_fresh


def fresh_items(inputs: Mapping[str, DataFrame], cutoff: datetime, days: int) -> DataFrame:
    """item_idx and born (s since 1970) of items that are at most `days` old: since they were created, or first seen."""
    first = known_events(inputs["events"], cutoff).groupBy("item_id").agg(F.min("event_time").alias("first"))
    created = inputs["items"].select("item_id", "created_at")
    born: Column = F.coalesce("created_at", "first")
    return (
        inputs["item_index"]
        .select("item_idx", "item_id")
        .join(first, on="item_id", how="left")
        .join(created, on="item_id", how="left")
        .where((born >= F.lit(cutoff - timedelta(days=days))) & (born < F.lit(cutoff)))
        .select("item_idx", born.cast("long").alias("born"))
    )
