"""Item transitions over the cluster: histories of blocks of users to sums of pairs, sums to lists of successors.

Owns: which events are a history, what travels, and what bounds a task's memory.

1. Events become blocks of users' histories, each cut to the newest (`spark.sparse_blocks`).
2. Each block's pairs are summed, cut by ranges of source items, and travel as arrays, once each.
3. A task adds up the sums of its range, exactly, and writes lists: the same for any blocks, tasks and retries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.sequence.kernels.successors import (
    Transitions,
    TransitionSettings,
    added,
    newest_histories,
    successors,
    transitions,
)
from recsys_spark.spark.broadcast import LISTED_BYTES, MAX_LISTS_BYTES, check_bytes
from recsys_spark.spark.sparse_blocks import blocks_for, cut_pairs, even_starts, read_array

_PARTS = (("sources", "int32"), ("targets", "int32"), ("sums", "int64"))
_CHUNK = "range int, sources binary, targets binary, sums binary"

SUCCESSORS = "idx int, indices array<int>, scores array<float>"


@dataclass(frozen=True)
class Limits:
    """max_row: newest events kept of a user.  block_bytes: what a task may hold of pairs and their sums, about."""

    max_row: int
    block_bytes: int


def fit_successors(
    engaged: DataFrame, n_users: int, listed: np.ndarray, following: TransitionSettings, limits: Limits
) -> DataFrame:
    """The likeliest successors of each item: idx, indices (best first), scores; an item without any has no row.

    engaged: user_idx, item_idx (int), event_time, any number of each.  listed: bool (n_items,), what lists may hold.
    Raises KernelError if the users of each item are too many to be sent to every worker.
    """
    spark, n_items = engaged.sparkSession, len(listed)
    events = engaged.select("user_idx", "item_idx", F.unix_micros("event_time").alias("time")).persist()
    check_bytes("retrieve", "users of items", n_items * LISTED_BYTES, MAX_LISTS_BYTES, "interactions.window_days")
    counted = events.groupBy("item_idx").agg(
        F.count_distinct("user_idx").alias("n_users"), F.count(F.lit(1)).alias("n_events")
    )
    table = counted.toArrow()
    n_events, users_of = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
    at = table["item_idx"].to_numpy()
    n_events[at], users_of[at] = table["n_events"].to_numpy(), table["n_users"].to_numpy()
    n_blocks = blocks_for(spark, int(n_events.sum()) * following.window, limits.block_bytes)
    starts = even_starts(n_users, n_blocks)
    ranges = _ranges(n_events, n_blocks)
    broadcast = spark.sparkContext.broadcast((users_of, listed))
    return (
        cut_pairs(events, "user_idx", "item_idx", {"time": "int64"}, starts)
        .repartitionById(n_blocks, F.col("block"))
        .mapInArrow(_sum(starts, ranges, following, n_items, limits.max_row), _CHUNK)
        .repartitionById(len(ranges), F.col("range"))
        .mapInArrow(_list(ranges, broadcast, following, n_items), SUCCESSORS)
    )


def _ranges(n_events: np.ndarray, n_ranges: int) -> list[range]:
    """Ranges of items, in their order, all items once, with about as many events each."""
    before = np.cumsum(n_events) - n_events
    of_item = before * n_ranges // max(1, int(n_events.sum()))
    cuts = [0, *(np.flatnonzero(np.diff(of_item)) + 1).tolist(), len(n_events)]
    return [range(first, end) for first, end in pairwise(cuts) if end > first]


def _sum(
    starts: np.ndarray, ranges: list[range], following: TransitionSettings, n_items: int, max_row: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The chunks of a block of users, which are all that a partition holds, to the sums of each range of sources."""
    edges = np.array([one.start for one in ranges] + [n_items])

    def sum_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        table = pa.Table.from_batches(held)
        users, items, times = (
            np.concatenate([read_array(table[name], at, dtype) for at in range(table.num_rows)])
            for name, dtype in (("user_idx", "int32"), ("item_idx", "int32"), ("time", "int64"))
        )
        block = table["block"][0].as_py()
        n_users = int(starts[block + 1] - starts[block])
        mine = newest_histories(users - starts[block], items, times, n_users, max_row)
        found = transitions(mine, following, n_items)
        cuts = np.searchsorted(found.sources, edges)
        for number, (first, end) in enumerate(pairwise(cuts)):
            if end > first:
                fields = {"range": pa.array([number], pa.int32())}
                fields |= {
                    name: pa.array([getattr(found, name)[first:end].tobytes()], pa.binary()) for name, _ in _PARTS
                }
                yield pa.RecordBatch.from_pydict(fields)

    return sum_up


def _list(
    ranges: list[range], broadcast: Any, following: TransitionSettings, n_items: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The sums of a range of sources, which are all that a partition holds, to their lists."""

    def make_lists(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        parts = [
            Transitions(*(read_array(batch[name], at, dtype) for name, dtype in _PARTS))
            for batch in held
            for at in range(batch.num_rows)
        ]
        users_of, listed = broadcast.value
        sources = ranges[held[0]["range"][0].as_py()]
        lists = successors(added(parts, n_items), sources, users_of, following, listed)
        lengths = np.diff(lists.indptr)
        filled = np.flatnonzero(lengths)
        offsets = pa.array(np.append(lists.indptr[:-1][filled], lists.indptr[-1]).astype(np.int32))
        yield pa.RecordBatch.from_arrays(
            [
                pa.array((filled + sources.start).astype(np.int32)),
                pa.ListArray.from_arrays(offsets, pa.array(lists.indices)),
                pa.ListArray.from_arrays(offsets, pa.array(lists.scores)),
            ],
            names=["idx", "indices", "scores"],
        )

    return make_lists
