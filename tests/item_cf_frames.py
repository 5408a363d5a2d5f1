"""Small logs for item-item CF through Spark, and the lists that one process makes of them."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.item_cf.neighbors import Limits
from recsys_spark.validation import whole_fits
from tests.local_frame import local_frame
from tests.sparse import csr_of_pairs

N_USERS, N_ITEMS = 60, 40
NOW = datetime(2025, 3, 1, tzinfo=UTC)
WIDE = Limits(max_row=1000, block_bytes=1 << 28)


def similarity_with(name: str = "cosine", num_neighbors: int = 10, min_co_occurrence: int = 1) -> Similarity:
    return Similarity(name, 0.7, 0.4, 0.6, 0.5, min_co_occurrence, num_neighbors, 2.0)  # type: ignore[arg-type]


def rows_of_seed(seed: int) -> list[tuple[int, int, float, datetime]]:
    """Long-tailed: item 0 is in nearly every row."""
    rng = random.Random(seed)
    cells = {(user, int(N_ITEMS * rng.random() ** 3)) for user in range(N_USERS) for _ in range(rng.randint(1, 15))}
    cells |= {(user, 0) for user in range(0, N_USERS, 10) for _ in range(9)}
    weighted = [(user, item, rng.choice([0.5, 1.0, 2.25, 3.1])) for user, item in sorted(cells)]
    return [(user, item, weight, NOW - timedelta(hours=rng.randint(0, 999))) for user, item, weight in weighted]


def frame_of(spark: SparkSession, rows: list, n_partitions: int = 2) -> DataFrame:
    frame = local_frame(spark, rows, "row_idx int, col_idx int, weight float, last_time timestamp")
    return frame.repartition(n_partitions)


def lists_of_frame(frame: DataFrame) -> dict[int, tuple[list[int], list[float]]]:
    return {row.col_idx: (row.neighbors, row.scores) for row in frame.collect() if row.neighbors}


def expected_lists(rows: list, similarity: Similarity) -> dict[int, tuple[list[int], list[float]]]:
    users, items, weights, _ = (np.array(column) for column in zip(*rows, strict=True))
    matrix = csr_of_pairs(users, items, weights, N_USERS, N_ITEMS)
    lists = whole_fits.fit_neighbors(matrix, similarity, np.ones(N_ITEMS, bool))
    cuts = range(N_ITEMS)
    return {
        item: (lists.indices[slice(*lists.indptr[item : item + 2])].tolist(),
               lists.scores[slice(*lists.indptr[item : item + 2])].tolist())
        for item in cuts
        if lists.indptr[item] < lists.indptr[item + 1]
    }  # fmt: skip
