"""Arrow transport of vectors and rows: vectors shuffled as binary chunks per block, rows mapped by a function.

Owns: the form in which vectors are shuffled, and how rows with columns of any name reach a Python function.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.spark.sparse_blocks import read_array

CHUNK = "block int, rows binary, vectors binary"


Batches = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def cut_vectors(vectors: DataFrame, row: str, starts: np.ndarray) -> DataFrame:
    """Records of CHUNK, one per block that a batch has rows of; block b begins at row starts[b].

    vectors: int column `row`, and `vector` (array<float>, all of one length, at least 1).
    """
    return vectors.select(F.col(row).alias("row"), "vector").mapInArrow(_cut(starts), CHUNK)


def _cut(starts: np.ndarray) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield _chunks(batch["row"].to_numpy(), matrix_of(batch["vector"]), starts)

    return cut


def _chunks(rows: np.ndarray, vectors: np.ndarray, starts: np.ndarray) -> pa.RecordBatch:
    target = np.searchsorted(starts, rows, side="right") - 1
    blocks = np.unique(target)
    places = [np.flatnonzero(target == block) for block in blocks]
    return pa.RecordBatch.from_pydict(
        {
            "block": pa.array(blocks.astype(np.int32)),
            "rows": pa.array([rows[at].astype(np.int32).tobytes() for at in places], pa.binary()),
            "vectors": pa.array([vectors[at].tobytes() for at in places], pa.binary()),
        }
    )


def matrix_of(vectors: pa.ListArray) -> np.ndarray:
    """The lists, all of one length, as rows, float32 (n, f)."""
    flat: np.ndarray = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return flat.reshape(len(vectors), -1)


def read_chunk(batch: pa.RecordBatch, at: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, int32 (n,), and vectors, float32 (n, size), of the record at place `at`; not to be written to."""
    return read_array(batch["rows"], at, "int32"), read_array(batch["vectors"], at, "float32").reshape(-1, size)


def map_rows(frame: DataFrame, function: Batches, schema: str) -> DataFrame:
    """`frame.mapInArrow(function, schema)`, for columns of any name, such as `vectors.text`."""
    columns = [F.col(f"`{name}`") for name in frame.columns]
    return frame.select(F.struct(*columns).alias("row")).mapInArrow(_unpacked(function), schema)


def _unpacked(function: Batches) -> Batches:
    def unpacked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return function(pa.RecordBatch.from_struct_array(batch["row"]) for batch in batches)

    return unpacked
