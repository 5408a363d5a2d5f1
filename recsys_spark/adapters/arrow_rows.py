"""Rows to a Python function and back, whatever their columns are called.

Owns: a way round `DataFrame.mapInArrow`, which takes a dot in the name of a column for a path into it.  Called by the
adapters of the towers, whose features have names such as `vectors.text`.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

Batches = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def map_rows(frame: DataFrame, function: Batches, schema: str) -> DataFrame:
    """`frame.mapInArrow(function, schema)`."""
    columns = [F.col(f"`{name}`") for name in frame.columns]
    return frame.select(F.struct(*columns).alias("row")).mapInArrow(_unpacked(function), schema)


def _unpacked(function: Batches) -> Batches:
    def unpacked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return function(pa.RecordBatch.from_struct_array(batch["row"]) for batch in batches)

    return unpacked
