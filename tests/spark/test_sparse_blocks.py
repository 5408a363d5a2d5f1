"""Blocks of rows hold every pair once, sorted, whatever partitions they came in."""

import random

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.spark import sparse_blocks
from recsys_spark.spark.sparse_blocks import (
    Newest,
    RowBlock,
    block_batch,
    blocks_for,
    csr_blocks,
    even_starts,
    n_blocks_for,
    read_blocks,
)
from tests.local_frame import local_frame

COLUMNS = {"weight": "float32", "time": "int64", "hidden": "bool"}


def _pairs(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    return local_frame(spark, rows, "user int, item int, weight float, time long, hidden boolean")


def _blocks(frame: DataFrame, columns: dict[str, str]) -> list[RowBlock]:
    blocks = [block for batch in frame.toArrow().to_batches() for block in read_blocks(batch, columns)]
    return sorted(blocks, key=lambda block: block.first)


@pytest.mark.parametrize("n_blocks", [1, 3, 7, 40])
def test_csr_blocks_hold_every_pair_once_in_the_order_of_rows_and_columns(spark: SparkSession, n_blocks: int) -> None:
    rng = random.Random(n_blocks)
    cells = rng.sample([(user, item) for user in range(23) for item in range(11) if user != 5], 120)
    rows = [(user, item, float(item), user * 10**12, item % 2 == 0) for user, item in cells]
    pairs = _pairs(spark, rows).repartition(3)
    found = _blocks(csr_blocks(pairs, "user", "item", COLUMNS, even_starts(23, n_blocks)).frame, COLUMNS)
    per_block = -(-23 // n_blocks)
    flat = []
    for block in found:
        assert block.first % per_block == 0
        assert block.n_rows == min(per_block, 23 - block.first)
        users = block.first + np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
        columns = [block.columns[name].tolist() for name in COLUMNS]
        flat += list(zip(users.tolist(), block.cols.tolist(), *columns, strict=True))
    assert flat == sorted(rows)


def test_csr_blocks_counts_rows_and_entries_and_leaves_empty_blocks_out(spark: SparkSession) -> None:
    pairs = _pairs(spark, [(0, 1, 1.0, 1, False), (0, 2, 1.0, 1, False), (9, 1, 1.0, 1, False)])
    rows = (
        csr_blocks(pairs, "user", "item", COLUMNS, even_starts(10, 5))
        .frame.select("first", "n_filled", "n_entries")
        .collect()
    )
    assert sorted(tuple(row) for row in rows) == [(0, 1, 2), (8, 1, 1)]


@pytest.mark.parametrize("n_at_once", [2, 1 << 20])
def test_csr_blocks_keeps_the_newest_of_each_row(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    monkeypatch.setattr(sparse_blocks, "_PAIRS_AT_ONCE", n_at_once)
    rows = [(0, item, float(item), time, False) for item, time in ((1, 5), (2, 9), (3, 7), (4, 7))]
    pairs = _pairs(spark, [*rows, (1, 8, 8.0, 1, False)]).repartition(2)
    left = {"weight": "float32", "hidden": "bool"}
    (block,) = _blocks(csr_blocks(pairs, "user", "item", COLUMNS, even_starts(2, 1), Newest("time", 2)).frame, left)
    assert (block.indptr.tolist(), block.cols.tolist()) == ([0, 2, 3], [2, 3, 8])
    assert block.columns["weight"].tolist() == [2.0, 3.0, 8.0]


def test_csr_blocks_of_nothing_are_none(spark: SparkSession) -> None:
    assert csr_blocks(_pairs(spark, []), "user", "item", COLUMNS, even_starts(0, 4)).frame.collect() == []


def test_block_batch_is_read_back_as_it_was() -> None:
    block = RowBlock(6, np.array([0, 2, 2, 3]), np.array([1, 4, 0], np.int32), {"weight": np.ones(3, np.float32)})
    (found,) = read_blocks(block_batch(block), {"weight": "float32"})
    assert found.first == 6
    assert found.indptr.tolist() == [0, 2, 2, 3]
    assert found.csr("weight", 5).indices.tolist() == [1, 4, 0]


def test_kept_drops_entries_and_keeps_rows() -> None:
    block = RowBlock(0, np.array([0, 2, 3]), np.array([1, 4, 0], np.int32), {"weight": np.arange(3, dtype=np.float32)})
    kept = block.kept(np.array([False, True, False]))
    assert (kept.indptr.tolist(), kept.cols.tolist()) == ([0, 1, 1], [4])
    assert kept.columns["weight"].tolist() == [1.0]


def test_blocks_for_are_few_for_a_small_log_and_more_where_memory_asks_for_it(spark: SparkSession) -> None:
    cores = spark.sparkContext.defaultParallelism
    assert blocks_for(spark, 10**6, 1 << 30) == n_blocks_for(cores, 10**6, 1 << 30) == 2 * cores
    assert n_blocks_for(2, 0, 1 << 20) == 1
    assert n_blocks_for(2, 150_000, 1 << 30) == 3
    assert n_blocks_for(2, 10**6, 1 << 30) == 2 * 2
    assert n_blocks_for(2, 10**6, 104 * 10**4) == 100
