"""Through Spark the lists are those of one process, bit by bit, for any partitions, blocks and bounds on memory."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.adapters import item_cf
from recsys_spark.adapters.item_cf import Limits, fit_neighbors, similarity_of
from recsys_spark.errors import KernelError
from recsys_spark.kernels.item_cf import Similarity, entry_values, item_parts, nearest_items, sums_of_parts
from tests.engagement import settings
from tests.local_frame import local_frame
from tests.sparse import csr_of_pairs

N_USERS, N_ITEMS = 60, 40
NOW = datetime(2025, 3, 1, tzinfo=UTC)
WIDE = Limits(max_row=1000, block_bytes=1 << 28)


def _similarity(name: str = "cosine", num_neighbors: int = 10, min_co_occurrence: int = 1) -> Similarity:
    return Similarity(name, 0.7, 0.4, 0.6, 0.5, min_co_occurrence, num_neighbors)  # type: ignore[arg-type]


def _rows(seed: int) -> list[tuple[int, int, float, datetime]]:
    """Long-tailed: item 0 is in nearly every row."""
    rng = random.Random(seed)
    cells = {(user, int(N_ITEMS * rng.random() ** 3)) for user in range(N_USERS) for _ in range(rng.randint(1, 15))}
    cells |= {(user, 0) for user in range(0, N_USERS, 10) for _ in range(9)}
    weighted = [(user, item, rng.choice([0.5, 1.0, 2.25, 3.1])) for user, item in sorted(cells)]
    return [(user, item, weight, NOW - timedelta(hours=rng.randint(0, 999))) for user, item, weight in weighted]


def _frame(spark: SparkSession, rows: list, n_partitions: int = 2) -> DataFrame:
    frame = local_frame(spark, rows, "row_idx int, col_idx int, weight float, last_time timestamp")
    return frame.repartition(n_partitions)


def _lists(frame: DataFrame) -> dict[int, tuple[list[int], list[float]]]:
    return {row.col_idx: (row.neighbors, row.scores) for row in frame.collect() if row.neighbors}


def _expected(rows: list, similarity: Similarity) -> dict[int, tuple[list[int], list[float]]]:
    users, items, weights, _ = (np.array(column) for column in zip(*rows, strict=True))
    matrix = csr_of_pairs(users, items, weights, N_USERS, N_ITEMS)
    sums = sums_of_parts(item_parts(matrix), int(np.count_nonzero(matrix.lengths)))
    lists = nearest_items(entry_values(matrix, similarity), range(N_ITEMS), None, sums, similarity)
    cuts = range(N_ITEMS)
    return {
        item: (lists.indices[slice(*lists.indptr[item : item + 2])].tolist(),
               lists.scores[slice(*lists.indptr[item : item + 2])].tolist())
        for item in cuts
        if lists.indptr[item] < lists.indptr[item + 1]
    }  # fmt: skip


@pytest.mark.parametrize("name", ["cosine", "jaccard", "conditional", "pearson", "rp3beta"])
def test_fit_neighbors_gives_the_lists_of_one_process(spark: SparkSession, name: str) -> None:
    rows, similarity = _rows(1), _similarity(name)
    assert _lists(fit_neighbors(_frame(spark, rows), similarity, WIDE)) == _expected(rows, similarity)


def test_fit_neighbors_gives_the_same_bits_whatever_the_partitions_and_blocks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, similarity = _rows(2), _similarity(min_co_occurrence=2)
    expected = _expected(rows, similarity)
    monkeypatch.setattr(item_cf, "blocks_for", lambda spark, n_pairs, n_bytes: 5)
    random.Random(7).shuffle(rows)
    with settings(spark, spark__sql__shuffle__partitions=7):
        assert _lists(fit_neighbors(_frame(spark, rows, 7), similarity, WIDE)) == expected


@pytest.mark.parametrize("min_co_occurrence", [1, 2])
def test_fit_neighbors_gives_the_same_bits_when_rows_pass_by_in_chunks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, min_co_occurrence: int
) -> None:
    rows, similarity = _rows(3), _similarity(min_co_occurrence=min_co_occurrence)
    # Four blocks of rows, some eighty of three hundred pairs each, and room for one of them beside a block of items.
    monkeypatch.setattr(item_cf, "blocks_for", lambda spark, n_pairs, n_bytes: 4)
    chunked = _lists(fit_neighbors(_frame(spark, rows), similarity, Limits(1000, 80 * 8)))
    assert chunked == _expected(rows, similarity)


def test_fit_neighbors_counts_the_newest_of_a_row_alone(spark: SparkSession) -> None:
    times = {1: 3, 2: 2, 3: 1, 4: 0}  # hours ago
    rows = [(0, item, 1.0, NOW - timedelta(hours=hours)) for item, hours in times.items()]
    lists = _lists(fit_neighbors(_frame(spark, rows), _similarity(), Limits(2, 1 << 28)))
    assert {item: neighbors for item, (neighbors, _) in lists.items()} == {3: [4], 4: [3]}


def test_fit_neighbors_lists_what_may_be_listed_and_keeps_the_rows_of_the_others(spark: SparkSession) -> None:
    rows, similarity = _rows(4), _similarity(num_neighbors=N_ITEMS)
    every = _expected(rows, similarity)
    listed = np.array([0, 3, 5, N_ITEMS + 7])
    some = _lists(fit_neighbors(_frame(spark, rows), similarity, WIDE, listed))
    expected = {item: [(n, s) for n, s in zip(*lists, strict=True) if n in {0, 3, 5}] for item, lists in every.items()}
    assert {item: list(zip(*lists, strict=True)) for item, lists in some.items()} == {
        item: pairs for item, pairs in expected.items() if pairs
    }


def test_fit_neighbors_of_nothing_is_nothing(spark: SparkSession) -> None:
    assert fit_neighbors(_frame(spark, []), _similarity(), WIDE).collect() == []


def test_fit_neighbors_refuses_more_items_than_it_can_send(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_cf, "MAX_SUMS_BYTES", 2 * 48 - 1)
    with pytest.raises(KernelError, match="item_cf: expected at most 95 bytes of sums per item, got 96; lower inter"):
        fit_neighbors(_frame(spark, [(0, 1, 1.0, NOW)]), _similarity(), WIDE)


def test_similarity_of_takes_every_setting(make_config) -> None:
    config = make_config(
        "item_cf.similarity=rp3beta",
        "item_cf.alpha=0.3",
        "item_cf.beta=0.2",
        "item_cf.gamma=0.5",
        "item_cf.shrinkage=4.0",
    )
    fields = config.item_cf
    assert similarity_of(fields) == Similarity(
        "rp3beta", 0.3, 0.2, 0.5, 4.0, fields.min_co_occurrence, fields.num_neighbors
    )
