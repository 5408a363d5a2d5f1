"""Indices are dense, in byte order, and the same however Spark divides the work."""

import random

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.signals.dense_index import MAX_IDS, fit_index, range_starts
from tests.engagement import settings
from tests.local_frame import local_frame

# Byte order differs from that of letters, of UTF-16 (the last two) and of normal forms; none may be lost or joined.
STRANGE = [
    "a", "B", "caf\u00e9", "cafe\u0301", "\u05d0\u05d1", "x\x00y", "x", "line\nbreak", 'quo"te', "it's", "../../etc",
    " lead", "10", "9", "\uff5e", "\U0001f600",
]  # fmt: skip


def _positions(spark: SparkSession, ids: list[str | None]) -> dict[str, int]:
    frame = local_frame(spark, [(one,) for one in ids], "user_id string")
    fitted = fit_index(frame, "user_id", "user_idx")
    rows = fitted.frame.collect()
    assert fitted.frame.columns == ["user_idx", "user_id"]
    assert fitted.frame.schema["user_idx"].dataType.simpleString() == "int"
    assert fitted.n_ids == len(rows)
    return {row.user_id: row.user_idx for row in rows}


def _byte_order(ids: list[str]) -> dict[str, int]:
    return {one: position for position, one in enumerate(sorted(set(ids), key=lambda text: text.encode()))}


def test_fit_index_orders_ids_by_their_bytes_and_counts_repeated_ids_once_and_nulls_never(spark: SparkSession) -> None:
    assert _positions(spark, [*STRANGE, None, "a", "B", "a", None]) == _byte_order(STRANGE)


def test_fit_index_of_no_ids_is_empty(spark: SparkSession) -> None:
    assert _positions(spark, []) == {}
    assert _positions(spark, [None]) == {}


@pytest.mark.parametrize("n_partitions", [1, 3, 7])
def test_fit_index_is_the_same_for_every_partitioning(spark: SparkSession, n_partitions: int) -> None:
    ids = [f"u{number}" for number in range(3000)]
    random.Random(n_partitions).shuffle(ids)
    partitioned = {"spark__sql__shuffle__partitions": n_partitions}
    # Coalescing would make one range of so few ids.
    with settings(spark, spark__sql__adaptive__coalescePartitions__enabled="false", **partitioned):
        assert _positions(spark, ids) == _byte_order(ids)


def test_fit_index_frame_keeps_its_ranges_when_settings_change(spark: SparkSession) -> None:
    ids = [f"u{number}" for number in range(2000)]
    frame = local_frame(spark, [(one,) for one in ids], "user_id string")
    with settings(spark, spark__sql__adaptive__coalescePartitions__enabled="false"):
        with settings(spark, spark__sql__shuffle__partitions=7):
            fitted = fit_index(frame, "user_id", "user_idx")
        with settings(spark, spark__sql__shuffle__partitions=3):
            spark.catalog.clearCache()
            found = {row.user_id: row.user_idx for row in fitted.frame.collect()}
    assert found == _byte_order(ids)


def test_range_starts_adds_up_the_ranges_before() -> None:
    assert range_starts({2: 5, 0: 3, 7: 1}, "item_id") == {0: 0, 2: 3, 7: 3 + 5}


def test_range_starts_refuses_more_ids_than_an_int32_counts() -> None:
    assert range_starts({0: MAX_IDS - 1, 1: 1}, "item_id") == {0: 0, 1: MAX_IDS - 1}
    with pytest.raises(KernelError, match="index item_id: expected at most 2147483647 distinct ids, got 2147483648"):
        range_starts({0: MAX_IDS, 1: 1}, "item_id")
