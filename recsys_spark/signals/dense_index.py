"""Dense run-local indices of ids, in the byte order of the ids.

Owns: how positions are given out without one task that sees every id.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import KernelError

MAX_IDS = 2**31 - 1  # an index is an int32 everywhere, and so is the number of indices

# monotonically_increasing_id holds the partition in its upper 31 bits and the row of that partition in the lower 33.
_ROW_MASK = (1 << 33) - 1


@dataclass(frozen=True)
class FittedIndex:
    """An index: one row per id with its position from 0, and the number of ids."""

    frame: DataFrame
    n_ids: int


def fit_index(ids: DataFrame, id_column: str, idx_column: str) -> FittedIndex:
    """The position of each distinct non-null id of `ids` in UTF-8 byte order, from 0, int32.

    ids: any frame with the string column `id_column`, repeated ids allowed.  The frame has (idx_column, id_column).
    Positions depend on the set of ids alone.  Ids are sorted inside ranges; the driver sees one count per range.
    Raises KernelError if there are more than MAX_IDS ids.
    """
    placed = (
        ids.select(id_column)
        .where(F.col(id_column).isNotNull())
        .distinct()
        .repartitionByRange(F.col(id_column))
        .sortWithinPartitions(id_column)
        .select(
            id_column,
            F.spark_partition_id().alias("_range"),
            F.monotonically_increasing_id().bitwiseAND(F.lit(_ROW_MASK)).alias("_row"),
        )
        # The bounds of the ranges are sampled: in a second evaluation an id may fall into another range than the one
        # that it was counted in.  A checkpoint, unlike a cache, is never evaluated a second time.
        .localCheckpoint()
    )
    counts = {row["_range"]: row["n"] for row in placed.groupBy("_range").agg(F.count(F.lit(1)).alias("n")).collect()}
    starts = range_starts(counts, id_column)
    frame = (
        placed.join(
            F.broadcast(ids.sparkSession.createDataFrame(list(starts.items()), "_range int, _start long")),
            on="_range",
            how="inner",
        )
        .withColumn(idx_column, (F.col("_start") + F.col("_row")).cast("int"))
        .select(idx_column, id_column)
    )
    return FittedIndex(frame, sum(counts.values()))


def range_starts(counts: Mapping[int, int], id_column: str) -> dict[int, int]:
    """Position of the first id of each range, from the number of ids in each.

    Raises KernelError if there are more than MAX_IDS ids.
    """
    starts = {}
    total = 0
    for number in sorted(counts):
        starts[number] = total
        total += counts[number]
    if total > MAX_IDS:
        raise KernelError(
            f"index {id_column}: expected at most {MAX_IDS} distinct ids, got {total}; "
            "an index is an int32: ingest fewer, or coarser, ids"
        )
    return starts
