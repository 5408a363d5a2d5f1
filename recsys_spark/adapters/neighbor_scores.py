"""Lists of single users from what is near, over the cluster, around `kernels.neighbor_scores`.

Owns: the users' rows with what may not be shown to them.  Called by the sources `item_cf`, `successors`
and `user_cf`.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.adapters.blend import is_hidden
from recsys_spark.adapters.csr import Blocks, RowBlock, blocks_for, csr_blocks, even_starts
from recsys_spark.adapters.source_lists import USER_LISTS, user_lists
from recsys_spark.kernels.csr import Csr
from recsys_spark.kernels.neighbor_scores import score_neighbors
from recsys_spark.kernels.newest import newest_entries
from recsys_spark.kernels.ranked import Ranked
from recsys_spark.kernels.successors import place_weights
from recsys_spark.list_settings import Candidates

_BLOCK_BYTES = 256 << 20  # what a task may take to make a block of users: some 2.5 million interactions

_COLUMNS = {"weight": "float32", "time": "int64", "hidden": "bool"}

_DAY_US = 86_400_000_000

# What a user is scored by: keys (items, or users) with weights above 0, one row per row of the block.
History = Callable[[RowBlock], Csr]


def user_blocks(interactions: DataFrame, n_users: int, candidates: Candidates, cutoff: datetime) -> Blocks:
    """Blocks of users' rows: weight (0: only disliked, or returned), time (us since 1970), hidden (not to be shown)."""
    pairs = interactions.select(
        "user_idx",
        "item_idx",
        "weight",
        F.unix_micros("last_time").alias("time"),
        is_hidden(candidates, cutoff).alias("hidden"),
    )
    n_blocks = blocks_for(interactions.sparkSession, interactions.count(), _BLOCK_BYTES)
    return csr_blocks(pairs, "user_idx", "item_idx", _COLUMNS, even_starts(n_users, n_blocks))


def newest_weighted(n_items: int, n_newest: int, half_life_days: float, cutoff: datetime) -> History:
    """The `n_newest` items of each user that have a weight, times 0.5^(age / half_life_days), 0 = no decay."""
    cutoff_us = int(cutoff.timestamp()) * 1_000_000

    def history(block: RowBlock) -> Csr:
        weighted = block.kept(block.columns["weight"] > 0)
        newest = weighted.kept(newest_entries(weighted.indptr, weighted.cols, weighted.columns["time"], n_newest))
        weights = newest.columns["weight"]
        if half_life_days:
            age_days = (cutoff_us - newest.columns["time"]) / _DAY_US
            weights = (weights * 0.5 ** (age_days / half_life_days)).astype(np.float32)
        return Csr(newest.indptr, newest.cols, weights, n_items)

    return history


def newest_placed(n_items: int, n_newest: int, half_life_items: float) -> History:
    """The `n_newest` items of each user that have a weight, each 0.5^(places before the last / half_life_items)."""

    def history(block: RowBlock) -> Csr:
        weighted = block.kept(block.columns["weight"] > 0)
        newest = weighted.kept(newest_entries(weighted.indptr, weighted.cols, weighted.columns["time"], n_newest))
        weights = place_weights(newest.indptr, newest.columns["time"], half_life_items)
        return Csr(newest.indptr, newest.cols, weights, n_items)

    return history


def rows_of_block(lists: Ranked, spark: SparkSession) -> History:
    """The lists of the block's own users: `lists` has one per user."""
    sent = spark.sparkContext.broadcast(lists)

    def history(block: RowBlock) -> Csr:
        near = sent.value
        indptr = near.indptr[block.first : block.first + block.n_rows + 1]
        entries = slice(indptr[0], indptr[-1])
        return Csr(indptr - indptr[0], near.indices[entries], near.scores[entries], len(near.indptr) - 1)

    return history


def score_users(
    blocks: Blocks, history: History, neighbors: Ranked, n_items: int, source: str, k: int, normalize: bool = False
) -> DataFrame:
    """Rows of `source_candidates`: at most `k` items of every user for whom any is found.

    neighbors: of every key of a history its items and similarities, without what nobody is shown.
    """
    sent = blocks.frame.sparkSession.sparkContext.broadcast(neighbors)
    return blocks.frame.mapInArrow(_score(blocks, history, sent, n_items, source, k, normalize), USER_LISTS)


def _score(
    blocks: Blocks, history: History, sent: Any, n_items: int, source: str, k: int, normalize: bool
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    read = blocks.read

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in read(batches):
            hidden = block.kept(block.columns["hidden"]).csr("weight", n_items)
            lists = score_neighbors(history(block), sent.value, hidden, k, normalize)
            yield user_lists(source, block.first + np.arange(block.n_rows), lists)

    return score
