"""The factors of items that a fit starts from: those of an earlier one, or small random numbers.

Owns: what an item starts from.  Called by `adapters.als`.

Items alone: the first half-iteration solves users from them.  An item that the earlier fit did not have starts from a
tenth of the random numbers of a cold start: next to nothing for its users, and yet not zero, where users and items that
only have each other would stay for good.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.adapters.als_exchange import Factors, store_factors
from recsys_spark.kernels.als import initial_factors
from recsys_spark.spark.arrow_vectors import cut_vectors, read_chunk
from recsys_spark.warehouse.scratch import Scratch

_NEW = np.float32(0.1)  # of a cold start's numbers: what an item has that a warm start lacks


def store_start(
    spark: SparkSession, items: Factors, factors: int, seed: int, start: DataFrame | None, scratch: Scratch
) -> bool:
    """Stores the start of every block of `items`; whether it is that of `start` (see `adapters.als.fit_factors`)."""
    if not items.side.n_blocks:
        return False
    if start is None or not _fits(start, factors):
        for block in range(items.side.n_blocks):
            first, end = items.side.starts[block], items.side.starts[block + 1]
            store_factors(scratch, items, block, initial_factors(first, end, factors, seed))
        return False
    blocks = spark.range(0, items.side.n_blocks, 1, items.side.n_blocks)
    none = blocks.select(F.col("id").cast("int").alias("block"), F.lit(b"").alias("rows"), F.lit(b"").alias("vectors"))
    known = cut_vectors(start, "item_idx", np.array(items.side.starts)).unionByName(none)
    placed = known.repartitionById(items.side.n_blocks, F.col("block"))
    placed.mapInArrow(_place(items, factors, seed, scratch), "block int").toArrow()
    return True


def _fits(start: DataFrame, factors: int) -> bool:
    """Whether there is a vector, of this length."""
    lengths = start.select(F.size("vector").alias("length")).limit(1).toArrow()["length"].to_pylist()
    return bool(lengths == [factors])


def _place(
    items: Factors, factors: int, seed: int, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """All records of one block, which are all that a partition holds, to its factors."""

    def place(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        block, vectors = -1, np.empty((0, factors), np.float32)
        for batch in batches:
            for at, number in enumerate(batch["block"].to_pylist()):
                first, end = items.side.starts[number], items.side.starts[number + 1]
                if block < 0:
                    block, vectors = number, _NEW * initial_factors(first, end, factors, seed)
                rows, known = read_chunk(batch, at, factors)
                vectors[rows - first] = known
        if block >= 0:
            store_factors(scratch, items, block, vectors)
            yield pa.RecordBatch.from_pydict({"block": pa.array([block], pa.int32())})

    return place
