"""Item-item CF over the cluster: rows of users to the blocks of items that they touch, then row products in each block.

Owns: what travels, in which order it is summed, what bounds a task's memory, and the ids of the items in lists.

1. Pairs become blocks of users' rows, each row cut to the newest items (`spark.sparse_blocks`).
2. One job sums a few integers per item; they are collected (MAX_SUMS_BYTES) and sent to every task.
3. Items are cut into blocks of equal work.  Each row travels to every item block that it touches, once.
4. A task reads the rows for its items in the order of the users, in chunks of at most `block_bytes`, and writes lists.

So every c_ij is a sum over users in their order, with the same bits for every number of blocks, tasks and retries, and
no partial sums travel.  For `ridge` step 4 writes the sums with all items too, and `item_cf.ridge` goes on.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.models import SimilaritySettings
from recsys_spark.item_cf.kernels.ridge import near_of_block
from recsys_spark.item_cf.kernels.row_products import CoOccurrences, item_blocks
from recsys_spark.item_cf.kernels.similarity import (
    MAX_WEIGHT,
    ItemSums,
    Similarity,
    co_occurrences,
    entry_values,
    item_parts,
    nearest_items,
    sums_of_parts,
)
from recsys_spark.item_cf.ridge import NEAR_SCHEMA, near_batches, regressed
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, rows_of, stacked
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes
from recsys_spark.spark.sparse_blocks import Blocks, Newest, blocks_for, csr_blocks, even_starts, read_array
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.spark_check import spark_type
from recsys_spark.warehouse.tables import NEIGHBORS

_log = logging.getLogger(__name__)

# Sums of five million items; the driver and every worker hold one copy.
MAX_SUMS_BYTES = 256 << 20
SUM_BYTES = 48

_COLUMNS = {"weight": "float32", "time": "int64"}
# Per column: products in its row (see `item_blocks`), and the rows of `item_parts`.
_SUMS = ("products", "n", "total", "total_rest", "squares", "squares_rest")


NEIGHBORS_SCHEMA = "col_idx int, neighbors array<int>, scores array<float>"
_ROUTED_SCHEMA = "block int, first int, indptr binary, cols binary, value binary"


@dataclass(frozen=True)
class Limits:
    """max_row: newest columns kept of a row.  block_bytes: what a task may hold of rows, or of sums, at once."""

    max_row: int
    block_bytes: int


def similarity_of(settings: SimilaritySettings) -> Similarity:
    """The settings in the kernel's own form."""
    return Similarity(
        settings.similarity,
        settings.alpha,
        settings.beta,
        settings.gamma,
        settings.shrinkage,
        settings.min_co_occurrence,
        settings.num_neighbors,
        settings.ridge,
    )


def fit_neighbors(
    pairs: DataFrame, similarity: Similarity, limits: Limits, listed: np.ndarray | None = None
) -> DataFrame:
    """The nearest columns of each column: col_idx, neighbors (array<int>, best first), scores.

    pairs: row_idx, col_idx (int), weight (float, above 0), last_time (timestamp).  listed: idx of the columns that may
    stand in a list, None for all.  Blocks of rows stay in the cache until the caller clears it.
    Raises KernelError if there are too many columns for MAX_SUMS_BYTES or, with `ridge`, too many pairs of columns for
    MAX_GRAM_BYTES.
    """
    spark = pairs.sparkSession
    size: Any = pairs.agg(
        F.count(F.lit(1)).alias("n_pairs"), F.max("row_idx").alias("row"), F.max("col_idx").alias("col")
    ).first()
    if not size["n_pairs"]:
        return spark.createDataFrame([], NEIGHBORS_SCHEMA)
    n_rows, n_cols = size["row"] + 1, size["col"] + 1
    check_bytes("item_cf", "sums per item", n_cols * SUM_BYTES, MAX_SUMS_BYTES, "interactions.window_days")
    n_blocks = blocks_for(spark, size["n_pairs"], limits.block_bytes)
    blocks = _row_blocks(pairs, n_rows, n_blocks, limits.max_row)
    fitted = _fit_sums(blocks, n_cols)
    keeps_sums = similarity.name == "ridge"
    ranges = item_blocks(
        fitted.products, fitted.n_entries, similarity.num_neighbors, n_blocks, limits.block_bytes, keeps_sums
    )
    _log.info("phase=plan n_pairs=%d n_kept=%d n_blocks=%d", size["n_pairs"], fitted.n_entries, len(ranges))
    broadcast = spark.sparkContext.broadcast((fitted.sums, _mask(listed, n_cols)))
    starts = np.array([items.start for items in ranges] + [n_cols])
    made = (
        blocks.frame.mapInArrow(_route(blocks, starts, similarity, n_cols), _ROUTED_SCHEMA)
        .repartitionById(len(ranges), F.col("block"))
        .sortWithinPartitions("block", "first")
        .mapInArrow(
            _made_of_blocks(broadcast, starts, similarity, limits.block_bytes),
            NEAR_SCHEMA if keeps_sums else NEIGHBORS_SCHEMA,
        )
    )
    return regressed(made.persist(StorageLevel.DISK_ONLY), broadcast, similarity, n_blocks) if keeps_sums else made


def _row_blocks(pairs: DataFrame, n_rows: int, n_blocks: int, max_row: int) -> Blocks:
    """Blocks of rows with their weights, each row cut to its newest columns; kept, because they are read twice.

    A weight above MAX_WEIGHT counts as that: one bot must not end the day for everybody.
    """
    bounded = pairs.select(
        "row_idx",
        "col_idx",
        F.least("weight", F.lit(MAX_WEIGHT)).cast("float").alias("weight"),
        F.unix_micros("last_time").alias("time"),
    )
    blocks = csr_blocks(bounded, "row_idx", "col_idx", _COLUMNS, even_starts(n_rows, n_blocks), Newest("time", max_row))
    blocks.frame.persist(StorageLevel.MEMORY_AND_DISK)
    return blocks


@dataclass(frozen=True)
class _Fitted:
    """products: int64 (n_cols,), see `item_blocks`.  n_entries: pairs that were kept."""

    sums: ItemSums
    products: np.ndarray
    n_entries: int


def _mask(listed: np.ndarray | None, n_cols: int) -> np.ndarray | None:
    if listed is None:
        return None
    mask = np.zeros(n_cols, bool)
    mask[listed[listed < n_cols]] = True
    return mask


def _fit_sums(blocks: Blocks, n_cols: int) -> _Fitted:
    """What is known of each column over all rows; one record per block and column is shuffled."""
    parts = blocks.frame.mapInArrow(_column_parts(blocks, n_cols), "col_idx int, " + " long, ".join(_SUMS) + " long")
    table = parts.groupBy("col_idx").agg(*[F.sum(name).alias(name) for name in _SUMS]).toArrow()
    filled = np.zeros((len(_SUMS), n_cols), np.int64)
    filled[:, table["col_idx"].to_numpy()] = [table[name].to_numpy() for name in _SUMS]
    totals: Any = blocks.frame.agg(F.sum("n_filled").alias("rows"), F.sum("n_entries").alias("entries")).first()
    return _Fitted(sums_of_parts(filled[1:], totals["rows"]), filled[0], totals["entries"])


def _column_parts(blocks: Blocks, n_cols: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    read = blocks.read

    def column_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in read(batches):
            weights = block.csr("weight", n_cols)
            lengths = np.repeat(weights.lengths, weights.lengths)
            products = np.bincount(weights.indices, weights=lengths, minlength=n_cols).astype(np.int64)
            columns = np.vstack([products, item_parts(weights)])
            touched = np.flatnonzero(products)
            fields = {"col_idx": pa.array(touched.astype(np.int32))}
            fields |= {name: pa.array(column[touched]) for name, column in zip(_SUMS, columns, strict=True)}
            yield pa.RecordBatch.from_pydict(fields)

    return column_parts


def _route(
    blocks: Blocks, starts: np.ndarray, similarity: Similarity, n_cols: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Every block of rows to one record per block of columns, with the rows that have any of these columns, whole."""
    read = blocks.read

    def route(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in read(batches):
            values = entry_values(block.csr("weight", n_cols), similarity)
            rows, target = values.rows, np.searchsorted(starts, values.indices, side="right") - 1
            for number in np.unique(target).tolist():
                chosen = np.unique(rows[target == number])
                yield _routed_batch(number, block.first, rows_of(values, chosen))

    return route


def _routed_batch(number: int, first: int, rows: Csr) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "block": pa.array([number], pa.int32()),
            "first": pa.array([first], pa.int32()),
            "indptr": pa.array([rows.indptr.tobytes()], pa.binary()),
            "cols": pa.array([rows.indices.tobytes()], pa.binary()),
            "value": pa.array([rows.values.tobytes()], pa.binary()),
        }
    )


def _made_of_blocks(
    broadcast: Any, starts: np.ndarray, similarity: Similarity, block_bytes: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The rows for a block of columns, in the order of the rows, to the lists of its columns.

    For `ridge` to its sums and its nearest columns, whatever may be listed (NEAR_SCHEMA).
    """

    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums, listed = broadcast.value
        for items, rows, known in _blocks(batches, starts, similarity, len(sums.n), block_bytes):
            if similarity.name == "ridge":
                yield from near_batches(items.start, near_of_block(rows, items, known, sums, similarity))
            else:
                yield _lists_batch(items, nearest_items(rows, items, known, sums, similarity, listed))

    return made


def _blocks(
    batches: Iterator[pa.RecordBatch], starts: np.ndarray, similarity: Similarity, n_cols: int, block_bytes: int
) -> Iterator[tuple[range, Csr, CoOccurrences | None]]:
    """The block of columns of a task, if it has one: its last chunk of rows, and the sums of those before."""
    known, items, n_bytes = None, None, 0
    held: list[Csr] = []
    for number, rows in _routed(batches, n_cols):
        items = range(int(starts[number]), int(starts[number + 1]))
        if held and n_bytes + rows.indices.nbytes * 2 > block_bytes:
            known = co_occurrences(stacked(*held), items, known, similarity)
            held, n_bytes = [], 0
        held.append(rows)
        n_bytes += rows.indices.nbytes * 2
    if items is not None:
        yield items, stacked(*held), known


def _routed(batches: Iterator[pa.RecordBatch], n_cols: int) -> Iterator[tuple[int, Csr]]:
    for batch in batches:
        for at, number in enumerate(batch["block"].to_pylist()):
            yield (
                number,
                Csr(
                    read_array(batch["indptr"], at, "int64"),
                    read_array(batch["cols"], at, "int32"),
                    read_array(batch["value"], at, "float32"),
                    n_cols,
                ),
            )


def _lists_batch(items: range, lists: Ranked) -> pa.RecordBatch:
    """Records of NEIGHBORS_SCHEMA for the columns of a block."""
    offsets = pa.array(lists.indptr.astype(np.int32))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(items.start, items.stop, dtype=np.int32)),
            pa.ListArray.from_arrays(offsets, pa.array(lists.indices)),
            pa.ListArray.from_arrays(offsets, pa.array(lists.scores)),
        ],
        names=["col_idx", "neighbors", "scores"],
    )


def fit_item_ids(item_index: DataFrame) -> pa.Array:
    """The id of every item, by item_idx, on the driver.  Raises KernelError if they have more than MAX_ID_BYTES."""
    size: Any = item_index.selectExpr("sum(octet_length(item_id)) AS n_bytes").first()
    check_bytes("item_cf", "ids of items", size["n_bytes"] or 0, MAX_ID_BYTES, "interactions.window_days")
    table = item_index.select("item_idx", "item_id").toArrow().sort_by("item_idx")
    return table["item_id"].combine_chunks()


def with_item_ids(neighbors: DataFrame, ids: pa.Array) -> DataFrame:
    """item_id, item_idx, neighbors as in `item_neighbors`; neighbors: col_idx, neighbors (array<int>), scores."""
    broadcast = neighbors.sparkSession.sparkContext.broadcast(ids)
    schema = f"item_id string, item_idx int, neighbors {spark_type(NEIGHBORS).simpleString()}"
    return neighbors.select("col_idx", "neighbors", "scores").mapInArrow(_name(broadcast), schema)


def _name(broadcast: Any) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def name(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ids = broadcast.value
        listed = arrow_type(NEIGHBORS)
        for batch in batches:
            indices = batch["neighbors"].flatten()
            entries = pa.StructArray.from_arrays(
                [ids.take(indices), indices, batch["scores"].flatten()], fields=list(listed.value_type)
            )
            offsets = batch["neighbors"].offsets
            offsets = pa.compute.subtract(offsets, offsets[0])
            yield pa.RecordBatch.from_arrays(
                [ids.take(batch["col_idx"]), batch["col_idx"], pa.ListArray.from_arrays(offsets, entries, type=listed)],
                names=["item_id", "item_idx", "neighbors"],
            )

    return name
