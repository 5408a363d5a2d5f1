"""Through Spark the lists of `ridge` are those of one process, bit by bit, and bounded by what can be sent."""

import random

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.item_cf import neighbors, ridge
from recsys_spark.item_cf.neighbors import fit_neighbors
from tests.engagement import settings
from tests.item_cf_frames import N_ITEMS, WIDE, expected_lists, frame_of, lists_of_frame, rows_of_seed, similarity_with


def test_the_lists_are_those_of_one_process_whatever_the_partitions_blocks_and_records(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, similarity = rows_of_seed(2), similarity_with("ridge", min_co_occurrence=2)
    expected = expected_lists(rows, similarity)
    assert lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity, WIDE)) == expected
    monkeypatch.setattr(neighbors, "blocks_for", lambda spark, n_pairs, n_bytes: 5)
    monkeypatch.setattr(ridge, "_ITEMS_PER_RECORD", 3)
    random.Random(7).shuffle(rows)
    with settings(spark, spark__sql__shuffle__partitions=7):
        assert lists_of_frame(fit_neighbors(frame_of(spark, rows, 7), similarity, WIDE)) == expected


def test_it_tells_of_what_may_be_listed_and_refuses_more_pairs_than_it_can_send(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, similarity = rows_of_seed(5), similarity_with("ridge", num_neighbors=N_ITEMS)
    some = lists_of_frame(fit_neighbors(frame_of(spark, rows), similarity, WIDE, np.array([0, 3, 5])))
    assert {item for items, _ in some.values() for item in items} == {0, 3, 5}
    assert len(some) > 3
    monkeypatch.setattr(ridge, "MAX_GRAM_BYTES", 99)
    with pytest.raises(KernelError, match=r"at most 99 bytes of sums of pairs .* choose another item_cf.similarity"):
        fit_neighbors(frame_of(spark, rows), similarity, WIDE)
