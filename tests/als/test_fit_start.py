"""A fit starts from numbers of its own seed, or from the vectors that it is given."""

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.als.blocks import Side
from recsys_spark.als.exchange import Factors, read_factors, sum_gramians
from recsys_spark.als.fit import store_start
from recsys_spark.als.kernels.objective import initial_factors
from recsys_spark.warehouse.scratch import Scratch, scratch_of
from tests.als_oracle import normal_factors

SIZE = 3
ITEMS = Factors(Side("items", (0, 4, 5, 11), 11, {}), 0)


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return scratch_of(tmp_path, "run", "als")


def _start(spark: SparkSession, vectors: dict[int, np.ndarray]) -> DataFrame:
    rows = [(idx, vector.tolist()) for idx, vector in vectors.items()]
    return spark.createDataFrame(rows, "item_idx int, vector array<float>").repartition(3)


def _assert_gramians(scratch: Scratch, vectors: np.ndarray) -> None:
    wide = vectors.astype(np.float64)
    expected = wide.T @ wide
    # Sums of a few products of float32.
    found = sum_gramians(scratch, ITEMS, False, SIZE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


def test_store_start_is_of_the_seed_and_the_row_alone(spark: SparkSession, scratch: Scratch) -> None:
    store_start(spark, ITEMS, SIZE, 7, None, scratch)
    found = read_factors(scratch, ITEMS, SIZE)
    np.testing.assert_array_equal(found, initial_factors(0, 11, SIZE, 7))
    _assert_gramians(scratch, found)


def test_store_start_takes_the_vectors_of_known_items_and_next_to_nothing_for_new_ones(
    spark: SparkSession, scratch: Scratch
) -> None:
    known = {idx: vector for idx, vector in enumerate(normal_factors(1, 11, SIZE)) if idx not in (0, 4, 9)}
    assert store_start(spark, ITEMS, SIZE, 7, _start(spark, known), scratch)
    found = read_factors(scratch, ITEMS, SIZE)  # item 4 has a block of its own
    random = initial_factors(0, 11, SIZE, 7)
    np.testing.assert_array_equal(found, [known.get(idx, np.float32(0.1) * random[idx]) for idx in range(11)])
    _assert_gramians(scratch, found)


@pytest.mark.parametrize("vectors", [{}, {2: np.ones(SIZE + 1)}], ids=["no-vector", "other-length"])
def test_store_start_ignores_vectors_that_do_not_fit(
    spark: SparkSession, scratch: Scratch, vectors: dict[int, np.ndarray]
) -> None:
    assert not store_start(spark, ITEMS, SIZE, 7, _start(spark, vectors), scratch)
    np.testing.assert_array_equal(read_factors(scratch, ITEMS, SIZE), initial_factors(0, 11, SIZE, 7))


def test_store_start_of_no_items_is_nothing(spark: SparkSession, scratch: Scratch) -> None:
    store_start(spark, Factors(Side("items", (0,), 0, {}), 0), SIZE, 7, None, scratch)
    assert not scratch.folder.exists()
