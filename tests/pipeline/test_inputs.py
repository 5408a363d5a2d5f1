"""What a step reads: nothing at or after D 00:00 UTC, its own run's tables, and those of the run before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.pipeline.inputs import as_of, read_inputs
from recsys_spark.pipeline.run_ledger import OpenRun
from recsys_spark.plan import Step
from recsys_spark.warehouse.run_files import last_version
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import EVENTS, ITEMS
from tests.made_warehouse import RUN_A, RUN_B, make_rows, stage_rows
from tests.one_event import append_event

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
        ("d", CUT - timedelta(days=1), 7.0, 1),
        ("d", CUT - timedelta(days=9), 8.0, 2),  # an old snapshot that came late
    ]
    rows = [
        dict.fromkeys(ITEMS.names)
        | {"item_id": item, "valid_from": valid_from, "price": price, "content_sha256": "c", "batch_seq": batch}
        for item, valid_from, price, batch in versions
    ]
    frame = spark.createDataFrame(rows, spark_schema(ITEMS))
    kept = as_of(frame, ITEMS, _context(spark, make_config()))
    assert {row.item_id: row.price for row in kept.collect()} == {"a": 2.0, "c": 6.0, "d": 7.0}


STEP = Step("als", "als.step_als", ("user_index",), ("item_factors",), base_reads=("item_features",))
RUN = OpenRun(RUN_B, DAY, {}, RUN_A, 1, "hash", "code", frozenset())


def test_read_inputs_gives_pinned_tables_as_they_were_and_those_of_the_run_and_of_its_base(
    spark: SparkSession, root: Path, make_config: Callable[..., Config]
) -> None:
    for run_id, users in ((RUN_A, ["a"]), (RUN_B, ["b", "c"])):
        stage_rows(root, run_id, make_rows(run_id, users, {}))
    append_event(root, DAY - timedelta(days=1))
    pinned = replace(RUN, pins={"events": last_version(root, "events")})
    append_event(root, DAY - timedelta(days=2))  # ingested while the run is on its way
    step = replace(STEP, reads=("events", "user_index"))
    inputs = read_inputs(_context(spark, make_config()), pinned, step)
    assert set(inputs) == {"events", "user_index", "base_item_features"}
    assert [row.ds for row in inputs["events"].select("ds").collect()] == [DAY - timedelta(days=1)]
    assert sorted(row.user_id for row in inputs["user_index"].collect()) == ["b", "c"]
    titles = {row.title for row in inputs["base_item_features"].collect()}
    assert titles == {f"Title i{number} of {RUN_A}" for number in range(1, 21)}


def test_read_inputs_without_a_base_gives_none_of_its_tables_and_empty_ones_of_a_collected_one(
    spark: SparkSession, root: Path, make_config: Callable[..., Config]
) -> None:
    stage_rows(root, RUN_B, make_rows(RUN_B, ["b"], {}))
    context = _context(spark, make_config())
    assert set(read_inputs(context, replace(RUN, base_run_id=None), STEP)) == {"user_index"}
    assert read_inputs(context, RUN, STEP)["base_item_features"].collect() == []
