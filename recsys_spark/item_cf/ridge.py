"""Ridge regression of items on their nearest items, over the cluster: sums go to every task, weights make the lists.

Owns: what is collected and sent, and how the regressions are shared out.  `item_cf.neighbors` makes the sums.

The driver collects the sums of all pairs of items (MAX_GRAM_BYTES) and sends them to every task; records of nearest
items are spread evenly and regressed.  The weights of one item come from many records; a shuffle of n_items x
num_neighbors weights brings them together.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.item_cf.kernels.ridge import Near, added_by_neighbors, ridge_of
from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.broadcast import check_bytes
from recsys_spark.spark.sparse_blocks import read_array

# Sums of 67 million pairs of items, for the regressions of `ridge`; the driver and every worker hold one copy.
MAX_GRAM_BYTES = 512 << 20
PAIR_BYTES = 8

# Of some columns of a block: sums with all columns, float32, and the nearest columns; lengths are of each column.
_SUMS_COLUMNS = ("sums_lengths", "sums_cols", "sums_values")
_LISTS_COLUMNS = ("near_lengths", "near_cols")
NEAR_SCHEMA = "first int, " + ", ".join(f"{name} binary" for name in _SUMS_COLUMNS + _LISTS_COLUMNS)
_ITEMS_PER_RECORD = 256  # so that regressions, which cost the same an item, are spread evenly over the tasks
_ADDED_SCHEMA = "source int, target int, weight float"


def near_batches(first: int, found: Near) -> Iterator[pa.RecordBatch]:
    """Records of NEAR_SCHEMA for the block of columns that begins at `first`."""
    n = len(found.lists.indptr) - 1
    for start in range(0, n, _ITEMS_PER_RECORD):
        yield _near_batch(first, start, min(start + _ITEMS_PER_RECORD, n), found)


def _near_batch(first: int, start: int, end: int, found: Near) -> pa.RecordBatch:
    """One record of the columns from `start` to `end` (exclusive) of a block that begins at `first`."""
    (sums, lists), rows = found, slice(start, end + 1)
    of_sums, of_lists = (slice(one.indptr[start], one.indptr[end]) for one in (sums, lists))
    arrays = (
        np.diff(sums.indptr[rows]), sums.indices[of_sums], sums.sums[of_sums].astype(np.float32),
        np.diff(lists.indptr[rows]), lists.indices[of_lists],
    )  # fmt: skip
    fields = {"first": pa.array([first + start], pa.int32())}
    for name, array in zip(_SUMS_COLUMNS + _LISTS_COLUMNS, arrays, strict=True):
        fields[name] = pa.array([array.tobytes()], pa.binary())
    return pa.RecordBatch.from_pydict(fields)


def regressed(near: DataFrame, broadcast: Any, similarity: Similarity, n_tasks: int) -> DataFrame:
    """The lists by the regressions of all columns; near: records of NEAR_SCHEMA, persisted."""
    spark = near.sparkSession
    size: Any = near.agg(F.sum(F.octet_length("sums_cols") + F.octet_length("sums_values")).alias("n_bytes")).first()
    check_bytes(
        "item_cf", "sums of pairs of items for similarity = ridge", size["n_bytes"], MAX_GRAM_BYTES,
        "interactions.window_days, or choose another item_cf.similarity",
    )  # fmt: skip
    gram = spark.sparkContext.broadcast(
        _gram(near.select("first", *_SUMS_COLUMNS).toArrow(), len(broadcast.value[0].n))
    )
    lists = near.select("first", *_LISTS_COLUMNS).repartition(n_tasks)
    added = lists.mapInArrow(_added(broadcast, gram, similarity), _ADDED_SCHEMA)
    # Best first, ties by the smaller index: the order of all lists.
    entry = F.struct((-F.col("weight")).alias("below"), F.col("target"), F.col("weight"))
    best = F.slice(F.sort_array(F.collect_list(entry)), 1, similarity.num_neighbors)
    listed = added.groupBy(F.col("source").alias("col_idx")).agg(best.alias("best"))
    return listed.select("col_idx", F.col("best.target").alias("neighbors"), F.col("best.weight").alias("scores"))


def _gram(table: pa.Table, n_cols: int) -> Csr:
    """The sums of all pairs on the driver, from the blocks of columns; a block whose columns nobody has is missing."""
    table = table.sort_by("first").combine_chunks()
    lengths, parts = np.zeros(n_cols, np.int64), []
    for at, first in enumerate(table["first"].to_pylist()):
        of_block = read_array(table["sums_lengths"], at, "int64")
        lengths[first : first + len(of_block)] = of_block
        parts.append(
            [read_array(table[name], at, kind) for name, kind in (("sums_cols", "int32"), ("sums_values", "float32"))]
        )
    cols, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Csr(offsets(lengths), cols, values, n_cols)


def _added(
    broadcast: Any, gram: Any, similarity: Similarity
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Records of nearest columns to the weights that each of these adds to the columns of the block."""

    def added(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums, listed = broadcast.value
        ridge = ridge_of(similarity, sums)
        for batch in batches:
            for at, first in enumerate(batch["first"].to_pylist()):
                lengths = read_array(batch["near_lengths"], at, "int64")
                cols = read_array(batch["near_cols"], at, "int32")
                near = Ranked(offsets(lengths), cols, np.empty(0, np.float32))
                found = added_by_neighbors(gram.value, near, range(first, first + len(lengths)), ridge, listed)
                yield pa.RecordBatch.from_arrays([pa.array(array) for array in found], names=list(found._fields))

    return added
