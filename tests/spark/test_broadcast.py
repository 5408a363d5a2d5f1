"""What is collected for a broadcast is whole, in its order, and bounded."""

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.spark import broadcast
from recsys_spark.spark.broadcast import check_bytes, fit_lists
from tests.local_frame import local_frame

SCHEMA = "idx int, indices array<int>, scores array<float>"


def test_fit_lists_puts_every_list_at_its_index(spark: SparkSession) -> None:
    rows = [(3, [7, 1], [0.5, 0.25]), (0, [2], [1.0]), (2, [], [])]
    lists = fit_lists(local_frame(spark, rows, SCHEMA).repartition(3), 5, "k")
    assert lists.indptr.tolist() == [0, 1, 1, 1, 3, 3]
    assert lists.indices.tolist() == [2, 7, 1]
    assert lists.scores.tolist() == [1.0, 0.5, 0.25]


def test_fit_lists_of_nothing_are_empty(spark: SparkSession) -> None:
    lists = fit_lists(local_frame(spark, [], SCHEMA), 2, "k")
    assert (lists.indptr.tolist(), lists.indices.tolist()) == ([0, 0, 0], [])


def test_fit_lists_refuses_more_than_it_can_send(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "MAX_LISTS_BYTES", 15)
    with pytest.raises(
        KernelError, match=r"retrieve: expected at most 15 bytes of lists .*, got 16; lower num_things,"
    ):
        fit_lists(local_frame(spark, [(0, [1, 2], [1.0, 1.0])], SCHEMA), 1, "num_things")


def test_check_bytes_accepts_its_bound() -> None:
    check_bytes("here", "things", 15, 15, "nothing")
