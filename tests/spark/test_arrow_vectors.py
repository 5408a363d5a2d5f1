"""Vectors reach the block of their row as they were."""

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.spark.arrow_vectors import CHUNK, cut_vectors, matrix_of, read_chunk
from tests.als_oracle import normal_factors


def test_cut_vectors_brings_every_vector_to_its_block_once(spark: SparkSession) -> None:
    vectors = normal_factors(1, 20, 3)
    rows = [(idx, vectors[idx].tolist()) for idx in range(20) if idx != 6]
    frame = spark.createDataFrame(rows[::-1], "user_idx int, vector array<float>").repartition(3)
    chunks = cut_vectors(frame, "user_idx", np.array([0, 6, 7, 15, 20]))
    found: dict[int, tuple[int, list[float]]] = {}
    batch = chunks.toArrow().combine_chunks().to_batches()[0]
    assert batch.schema.names == [name.split()[0] for name in CHUNK.split(", ")]
    for at, block in enumerate(batch["block"].to_pylist()):
        for row, vector in zip(*read_chunk(batch, at, 3), strict=True):
            assert int(row) not in found
            found[int(row)] = (block, vector.tolist())
    assert {row: vector for row, (_, vector) in found.items()} == {idx: vectors[idx].tolist() for idx, _ in rows}
    assert {row: block for row, (block, _) in found.items()} == {
        row: 0 if row < 6 else 2 if row < 15 else 3 for row in found
    }


def test_cut_vectors_of_nothing_are_none(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], "user_idx int, vector array<float>")
    assert cut_vectors(frame, "user_idx", np.array([0, 0])).collect() == []


def test_matrix_of_is_that_of_the_rows_in_a_slice() -> None:
    lists = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32()))
    found = matrix_of(lists[1:])
    assert (found.dtype, found.tolist()) == (np.float32, [[3.0, 4.0], [5.0, 6.0]])
