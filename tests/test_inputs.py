"""The cut at the date: nothing at or after D 00:00 UTC gets through."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.inputs import as_of
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import EVENTS, ITEMS
from recsys_spark.tables.spark import spark_schema

DAY = date(2025, 2, 1)
CUT = datetime(2025, 2, 1, tzinfo=UTC)


def _context(spark: SparkSession, config: Config) -> Context:
    return Context(config, DAY, "20250201-001-9f2c81aa", 1, spark)


def test_as_of_keeps_events_before_midnight_of_the_date(
    spark: SparkSession, make_config: Callable[..., Config]
) -> None:
    times = [CUT - timedelta(microseconds=1), CUT, CUT + timedelta(days=1), CUT - timedelta(days=400)]
    rows = [
        dict.fromkeys(EVENTS.names)
        | {"event_key": str(at), "item_id": "i", "event_type": "t", "event_time": time, "ds": time.date()}
        | {"batch_seq": 1, "file_sha256": "f", "line": 1}
        for at, time in enumerate(times)
    ]
    frame = spark.createDataFrame(rows, spark_schema(EVENTS))
    kept = as_of(frame, EVENTS, _context(spark, make_config()))
    assert sorted(row.event_key for row in kept.collect()) == ["0", "3"]
    assert kept.columns == list(EVENTS.names)


def test_as_of_takes_the_newest_catalogue_row_that_was_valid(
    spark: SparkSession, make_config: Callable[..., Config]
) -> None:
    versions = [
        ("a", CUT - timedelta(days=9), 1.0, 1),
        ("a", CUT - timedelta(days=1), 2.0, 1),
        ("a", CUT, 3.0, 1),
        ("b", CUT, 4.0, 1),
        ("c", CUT - timedelta(days=1), 5.0, 1),
        ("c", CUT - timedelta(days=1), 6.0, 2),  # a correction of the same moment, in a later batch
    ]
    rows = [
        dict.fromkeys(ITEMS.names)
        | {"item_id": item, "valid_from": valid_from, "price": price, "content_sha256": "c", "batch_seq": batch}
        for item, valid_from, price, batch in versions
    ]
    frame = spark.createDataFrame(rows, spark_schema(ITEMS))
    kept = as_of(frame, ITEMS, _context(spark, make_config()))
    assert {row.item_id: row.price for row in kept.collect()} == {"a": 2.0, "c": 6.0}
