"""Exposures of users to items: what was shown, whether an engagement followed, and inverse-propensity weights.

Owns: showings of pairs of user and item, of an event log and of the last days, and what an engagement counts for by its
propensities.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.schema import EventType
from recsys_spark.signals.engagement import engaged_pairs
from recsys_spark.signals.event_weights import (
    FOREVER,
    event_weight,
    exact_sum,
    has_role,
    is_positive,
    lengths,
    needs_length,
)
from recsys_spark.signals.kernels.propensity import (
    ExposureCounts,
    Harvest,
    PositionCounts,
    fit_positions,
    harvest,
    shown_propensity,
)

# Positions beyond it count as the last: lists are seldom looked at so far down, and the sums of pairs stay small.
N_POSITIONS = 50

_MIN_SHOWINGS = 1000  # of items that were shown at several positions; fewer tell too little of positions
_LEAST = 1e-6  # lower bound of a logged propensity, so that no sum of inverses overflows
_FLOOR = 0.01  # lower bound of every estimated propensity

_HARVEST = "engaged array<double>, shared array<boolean>, n_usable long"
_PARTS = pa.schema({"engaged": pa.list_(pa.float64()), "shared": pa.list_(pa.bool_()), "n_usable": pa.int64()})


def exposed_pairs(events: DataFrame, items: DataFrame, types: Mapping[str, EventType]) -> DataFrame:
    """One row per user and item of `events` that were shown or engaged with.

    user_id, item_id; of the first showing shown_at, position (from 1, at most N_POSITIONS), propensity (as logged, null
    if it is not above 0) and surface, all null if it was not shown; engaged_at and last_engaged_at, of engagements of a
    weight above 0, null for none; value, what these count for at their time.
    """
    shown, engaged = has_role(types, "impression"), is_positive(types)
    events = events.where(F.col("user_id").isNotNull() & (shown | engaged))
    if needs_length(types):
        events = events.join(lengths(items), on="item_id", how="left")
    logged = F.when(F.col("propensity") > 0, F.col("propensity"))
    position = F.when(F.col("position") >= 1, F.least("position", F.lit(N_POSITIONS)))
    one = F.struct("event_time", position.alias("position"), logged.alias("propensity"), "surface")
    pairs = events.groupBy("user_id", "item_id").agg(
        F.min(F.when(shown, one)).alias("first"),
        F.min(F.when(engaged, F.col("event_time"))).alias("engaged_at"),
        F.max(F.when(engaged, F.col("event_time"))).alias("last_engaged_at"),
        exact_sum(F.when(engaged, event_weight(types, FOREVER, half_life_days=0.0))).alias("value"),
    )
    first = [F.col("first")[name].alias(name) for name in ("position", "propensity", "surface")]
    return pairs.select(
        "user_id",
        "item_id",
        F.col("first")["event_time"].alias("shown_at"),
        *first,
        "engaged_at",
        "last_engaged_at",
        "value",
    )


def was_followed() -> Column:
    """Whether a row of `exposed_pairs` was engaged with when it was shown or later."""
    return F.coalesce(F.col("last_engaged_at") >= F.col("shown_at"), F.lit(False))


@dataclass(frozen=True)
class InverseWeights:
    """weights: user_id, item_id, shown_at and inverse, of pairs that were shown.  examined: float64 (N_POSITIONS,)."""

    weights: DataFrame
    examined: np.ndarray


def fit_inverse_weights(pairs: DataFrame, clip: float) -> InverseWeights:
    """Inverse weights of engagements that followed a showing: 1 / the chance that the item was shown and looked at.

    pairs: as `exposed_pairs` gives them.  clip: the largest weight, >= 1.
    """
    shown = pairs.where(F.col("shown_at").isNotNull()).persist()
    examined = fit_examination(shown)
    chances = shown_chances(shown)
    # A showing without a position counts as looked at.
    looked_at = F.coalesce(F.get(F.lit(examined.tolist()), F.col("position") - 1), F.lit(1.0))
    weight = inverse(F.col("chance") * looked_at, clip)
    rows = shown.join(chances, on="item_id", how="inner")
    return InverseWeights(rows.select("user_id", "item_id", "shown_at", weight.alias("inverse")), examined)


def inverse(chance: Column, clip: float) -> Column:
    """1 / chance, at most `clip`, which lowers the variance; null for null."""
    return F.when(chance.isNotNull(), F.least(1 / chance, F.lit(clip)))


def fit_examination(shown: DataFrame) -> np.ndarray:
    """Chance that each position is looked at, relative to the first, float64 (N_POSITIONS,); 1 without enough data."""
    cells = (
        shown.where(F.col("position").isNotNull())
        .groupBy("item_id", "position")
        .agg(F.count(F.lit(1)).alias("n_shown"), F.count_if(was_followed()).alias("n_engaged"))
    )
    # An item's cells have to meet in one task.
    parts = cells.repartition("item_id").mapInArrow(_harvest_partition, _HARVEST).toArrow().to_pylist()
    nothing = np.zeros((N_POSITIONS, N_POSITIONS))
    total = Harvest(nothing, nothing > 0, 0)
    for part in parts:
        square = (N_POSITIONS, N_POSITIONS)
        engaged, shared = np.array(part["engaged"]).reshape(square), np.array(part["shared"]).reshape(square)
        total += Harvest(engaged, shared, part["n_usable"])
    found: np.ndarray = fit_positions(total, _MIN_SHOWINGS, _FLOOR).propensity
    return found


def shown_chances(shown: DataFrame) -> DataFrame:
    """item_id and chance: that a user who is shown anything is shown the item."""
    exposed: Any = shown.agg(F.count_distinct("user_id").alias("n")).first()
    counts = shown.groupBy("item_id").agg(
        F.count(F.lit(1)).alias("n_users"),
        F.count("propensity").alias("n_logged"),
        exact_sum(1 / F.greatest("propensity", F.lit(_LEAST))).alias("inverse_logged"),
    )
    return counts.mapInArrow(_chance_of(exposed["n"]), "item_id string, chance double")


def _harvest_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held = [batch for batch in batches if batch.num_rows]
    if not held:
        return
    # Sorted, so that sums have the same bits in whatever order the rows came.
    table = pa.Table.from_batches(held).sort_by([("item_id", "ascending"), ("position", "ascending")])
    items = table[0].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    position, n_shown, n_engaged = (table[at].to_numpy().astype(np.int64) for at in (1, 2, 3))
    found = harvest(PositionCounts(items.astype(np.int64), position, n_shown, n_engaged), N_POSITIONS)
    rows = {"engaged": [found.engaged.ravel()], "shared": [found.shared.ravel()], "n_usable": [found.n_usable]}
    yield pa.RecordBatch.from_pydict(rows, _PARTS)


def _chance_of(n_users: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def chances(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            n_shown, n_logged, inverse = (batch[at].to_numpy(zero_copy_only=False) for at in (1, 2, 3))
            counts = ExposureCounts(n_users, n_shown, n_shown, n_logged, inverse)
            chance = pa.array(shown_propensity(counts, _FLOOR))
            yield pa.RecordBatch.from_arrays([batch["item_id"], chance], names=["item_id", "chance"])

    return chances


def shown_pairs(exposures: DataFrame, interactions: DataFrame, cutoff: datetime, n_days: int) -> DataFrame:
    """One row per user and item shown in the `n_days` days before `cutoff`: user_idx, item_idx, n_exposures, converted.

    converted: the user's last engagement with the item was at or after its first showing in these days, and the user
    did not return all of it: the pair has a weight.
    """
    shown = (
        exposures.where(F.col("event_time") >= F.lit(cutoff - timedelta(days=n_days)))
        .groupBy("user_idx", "item_idx")
        .agg(F.count(F.lit(1)).alias("n_exposures"), F.min("event_time").alias("first_shown"))
    )
    kept = engaged_pairs(interactions.where(F.col("weight") > 0), cutoff)
    engaged = kept.select("user_idx", "item_idx", "last_time")
    return shown.join(engaged, on=["user_idx", "item_idx"], how="left").select(
        "user_idx",
        "item_idx",
        "n_exposures",
        F.coalesce(F.col("last_time") >= F.col("first_shown"), F.lit(False)).alias("converted"),
    )
