"""Staging of the two-tower training: users with their histories, and items, encoded and written as shards.

Owns: which engagements are examples and what they weigh, and the spread of users over shards.  A worker encodes and
writes one shard at a time; nothing comes back to the driver but counts.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.config.models import TwoTower
from recsys_spark.numeric.ragged import offsets
from recsys_spark.signals.engagement import engaged_pairs
from recsys_spark.signals.event_weights import age_days
from recsys_spark.spark.arrow_vectors import Batches, map_rows
from recsys_spark.spark.sparse_blocks import even_starts
from recsys_spark.two_tower.kernels.batches import NONE, Shard
from recsys_spark.two_tower.kernels.inputs import TowerInputs
from recsys_spark.two_tower.training_shards import write_items, write_users
from recsys_spark.warehouse.scratch import Scratch

_ENTRY_BYTES = 16  # of a history, in memory
_ROW_BYTES = 512  # of what a user, or an item, has besides numbers and history
_SHOWN = 20  # newest items shown and not engaged with that are kept of each user

_COUNTS = "shard int, n_rows long"


def histories(interactions: DataFrame, settings: TwoTower, cutoff: datetime) -> DataFrame:
    """user_idx and `entries`, the newest engagements with their time and weight as examples, newest first.

    The weight is r_ui, decayed by [two_tower] half_life_days, and 0 for what is older than training_days.
    """
    age = age_days("last_time", cutoff)
    decay = F.pow(F.lit(0.5), age / F.lit(settings.half_life_days)) if settings.half_life_days else F.lit(1.0)
    weight = F.when(age <= F.lit(settings.training_days), F.col("weight") * decay).otherwise(F.lit(0.0))
    newest_first = Window.partitionBy("user_idx").orderBy(F.desc("last_time"), F.asc("item_idx"))
    engaged = (
        interactions.where(F.col("n_events") > 0)
        .select(
            "user_idx",
            (-F.unix_micros("last_time")).alias("newest"),
            "item_idx",
            weight.cast("float").alias("weight"),
            F.row_number().over(newest_first).alias("place"),
        )
        .where(F.col("place") <= settings.max_items_per_user)
    )
    listed = F.collect_list(F.struct("newest", "item_idx", "weight"))
    return engaged.groupBy("user_idx").agg(F.array_sort(listed).alias("entries"))


def shown_not_engaged(exposures: DataFrame, interactions: DataFrame, cutoff: datetime) -> DataFrame | None:
    """user_idx and `shown`, the items shown last that the user did not engage with; None if nothing was shown."""
    if exposures.isEmpty():
        return None
    engaged = engaged_pairs(interactions, cutoff).select("user_idx", "item_idx")
    pairs = exposures.groupBy("user_idx", "item_idx").agg(F.max("event_time").alias("last_time"))
    newest_first = Window.partitionBy("user_idx").orderBy(F.desc("last_time"), F.asc("item_idx"))
    newest = (
        pairs.join(engaged, on=["user_idx", "item_idx"], how="left_anti")
        .withColumn("place", F.row_number().over(newest_first))
        .where(F.col("place") <= _SHOWN)
    )
    listed = F.array_sort(F.collect_list(F.struct("place", "item_idx")))
    return newest.groupBy("user_idx").agg(listed["item_idx"].alias("shown"))


def stage_users(
    entries: DataFrame, shown: DataFrame | None, columns: DataFrame, inputs: TowerInputs, size: int, scratch: Scratch
) -> int:
    """Stores the shards of users; how many.  size: bytes of a shard in memory, at most about that.

    entries: of `histories`.  shown: of `shown_not_engaged`.  columns: user_idx and what `inputs` name.
    """
    entries = entries.persist()
    counted: Any = entries.agg(F.count("*").alias("n_users"), F.sum(F.size("entries")).alias("n_entries")).first()
    n_bytes = (counted["n_entries"] or 0) * _ENTRY_BYTES + counted["n_users"] * (_ROW_BYTES + inputs.width * 4)
    n_shards = max(1, -(-n_bytes // size))
    joined = entries.join(columns, on="user_idx", how="left")
    width = 0
    if shown is not None:
        joined, width = joined.join(shown, on="user_idx", how="left"), _SHOWN
    shard = F.pmod(F.xxhash64("user_idx"), F.lit(n_shards)).cast("int")
    placed = joined.withColumn("shard", shard).repartitionById(n_shards, F.col("shard"))
    written = map_rows(placed, _write_users(inputs, width, scratch), _COUNTS).toArrow()
    entries.unpersist()
    for number in set(range(n_shards)) - set(written["shard"].to_pylist()):
        write_users(scratch, number, _shard(joined.limit(0).toArrow(), inputs, width))
    return int(n_shards)


def stage_items(columns: DataFrame, n_items: int, inputs: TowerInputs, size: int, scratch: Scratch) -> int:
    """Stores the shards of items, in the order of their idx; how many.  columns: item_idx and what `inputs` name."""
    starts = even_starts(n_items, max(1, -(-n_items * (_ROW_BYTES + inputs.width * 4) // size)))
    n_shards = len(starts) - 1
    shard = F.lit(0)
    for start in starts[1:-1]:
        shard = shard + (F.col("item_idx") >= int(start)).cast("int")
    placed = columns.withColumn("shard", shard).repartitionById(n_shards, F.col("shard"))
    map_rows(placed, _write_items(inputs, scratch), _COUNTS).toArrow()
    return n_shards


def _write_users(inputs: TowerInputs, width: int, scratch: Scratch) -> Batches:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, table in _by_shard(batches):
            write_users(scratch, number, _shard(table.sort_by("user_idx"), inputs, width))
            yield _counts(number, table)

    return write


def _write_items(inputs: TowerInputs, scratch: Scratch) -> Batches:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, table in _by_shard(batches):
            write_items(scratch, number, inputs.encode(table.sort_by("item_idx")))
            yield _counts(number, table)

    return write


def _by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of the one shard that a partition holds; nothing if it holds none."""
    held = [batch for batch in batches if batch.num_rows]
    if held:
        yield held[0]["shard"][0].as_py(), pa.Table.from_batches(held).combine_chunks()


def _counts(number: int, table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"shard": pa.array([number], pa.int32()), "n_rows": [table.num_rows]})


def _shard(table: pa.Table, inputs: TowerInputs, width: int) -> Shard:
    """Rows as a shard; width: columns of `shown`."""
    entries = table["entries"].combine_chunks() if table.num_rows else pa.array([], table.schema.field("entries").type)
    indptr = offsets(entries.value_lengths().to_numpy())
    flat = entries.flatten()
    newest, items, weights = (flat.field(name).to_numpy() for name in ("newest", "item_idx", "weight"))
    shown = np.full((table.num_rows, width), NONE, np.int32)
    if width:
        lists = table["shown"].combine_chunks()
        lengths = np.nan_to_num(lists.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
        shown[np.arange(width)[None] < lengths[:, None]] = lists.flatten().to_numpy()
    users = table["user_idx"].to_numpy().astype(np.int32)
    return Shard(users, indptr, items.astype(np.int32), -newest, weights, shown, inputs.encode(table))
