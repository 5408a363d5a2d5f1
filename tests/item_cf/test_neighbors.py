"""Through Spark the lists are those of one process, bit by bit, for any partitions, blocks and bounds on memory."""

import random
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.item_cf import neighbors as module
from recsys_spark.item_cf.kernels.similarity import Similarity
from recsys_spark.item_cf.neighbors import Limits, fit_neighbors, similarity_of
from tests.engagement import settings
from tests.item_cf_frames import (
    N_ITEMS,
    NOW,
    WIDE,
    expected_lists,
    frame_of,
    lists_of_frame,
    rows_of_seed,
    similarity_with,
)  # fmt: skip


@pytest.mark.parametrize("name", ["cosine", "jaccard", "conditional", "pearson", "rp3beta"])
def test_fit_neighbors_gives_the_lists_of_one_process(spark: SparkSession, name: str) -> None:
    rows, similarity = rows_of_seed(1), similarity_with(name)
    assert lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity, WIDE)) == expected_lists(rows, similarity)


def test_fit_neighbors_gives_the_same_bits_whatever_the_partitions_and_blocks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, similarity = rows_of_seed(2), similarity_with(min_co_occurrence=2)
    expected = expected_lists(rows, similarity)
    monkeypatch.setattr(module, "blocks_for", lambda spark, n_pairs, n_bytes: 5)
    random.Random(7).shuffle(rows)
    with settings(spark, spark__sql__shuffle__partitions=7):
        assert lists_of_frame(fit_neighbors(frame_of(spark, rows, 7), similarity, WIDE)) == expected


@pytest.mark.parametrize("min_co_occurrence", [1, 2])
def test_fit_neighbors_gives_the_same_bits_when_rows_pass_by_in_chunks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, min_co_occurrence: int
) -> None:
    rows, similarity = rows_of_seed(3), similarity_with(min_co_occurrence=min_co_occurrence)
    # Four blocks of rows, some eighty of three hundred pairs each, and room for one of them beside a block of items.
    monkeypatch.setattr(module, "blocks_for", lambda spark, n_pairs, n_bytes: 4)
    chunked = lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity, Limits(1000, 80 * 8)))
    assert chunked == expected_lists(rows, similarity)


def test_fit_neighbors_counts_the_newest_of_a_row_alone(spark: SparkSession) -> None:
    times = {1: 3, 2: 2, 3: 1, 4: 0}  # hours ago
    rows = [(0, item, 1.0, NOW - timedelta(hours=hours)) for item, hours in times.items()]
    lists = lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity_with(), Limits(2, 1 << 28)))
    assert {item: neighbors for item, (neighbors, _) in lists.items()} == {3: [4], 4: [3]}


def test_fit_neighbors_lists_what_may_be_listed_and_keeps_the_rows_of_the_others(spark: SparkSession) -> None:
    rows, similarity = rows_of_seed(4), similarity_with(num_neighbors=N_ITEMS)
    every = expected_lists(rows, similarity)
    listed = np.array([0, 3, 5, N_ITEMS + 7])
    some = lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity, WIDE, listed))
    expected = {item: [(n, s) for n, s in zip(*lists, strict=True) if n in {0, 3, 5}] for item, lists in every.items()}
    assert {item: list(zip(*lists, strict=True)) for item, lists in some.items()} == {
        item: pairs for item, pairs in expected.items() if pairs
    }


def test_fit_neighbors_of_nothing_is_nothing(spark: SparkSession) -> None:
    assert fit_neighbors(frame_of(spark, []), similarity_with(), WIDE).collect() == []


def test_fit_neighbors_refuses_more_items_than_it_can_send(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SUMS_BYTES", 2 * 48 - 1)
    with pytest.raises(KernelError, match="item_cf: expected at most 95 bytes of sums per item, got 96; lower inter"):
        fit_neighbors(frame_of(spark, [(0, 1, 1.0, NOW)]), similarity_with(), WIDE)


def test_similarity_of_takes_every_setting(make_config) -> None:
    config = make_config(
        "item_cf.similarity=rp3beta",
        "item_cf.alpha=0.3",
        "item_cf.beta=0.2",
        "item_cf.gamma=0.5",
        "item_cf.shrinkage=4.0",
        "item_cf.ridge=7.0",
    )
    fields = config.item_cf
    assert similarity_of(fields) == Similarity(
        "rp3beta", 0.3, 0.2, 0.5, 4.0, fields.min_co_occurrence, fields.num_neighbors, 7.0
    )
