"""The protocol is the same for all feeds: what is open goes first, whatever was asked for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest.accounting import BatchReport, IngestReport
from recsys_spark.ingest.batches import Batch, make_mapping, record_done
from recsys_spark.ingest.step_ingest import ingest, ingest_catalogue
from recsys_spark.ingest.take_in import Intake, Request, _divide, ignore_progress
from tests.death import dies_at
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import batch_states, check_accounts, drop, file_rows, make_world, rows_of

LINES = jsonl([*(event(number) for number in range(20)), b"bad"])


@pytest.fixture(scope="module")
def replayed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, IngestReport]:
    """A batch of events that was left open, and what the ingest of a catalogue did after that."""
    config = make_world(tmp_path_factory.mktemp("world"))
    drop(config, "a.jsonl", LINES)
    with dies_at("ingest.after_events"):
        ingest(spark, config, received_at=RECEIVED_AT)
    drop(config, "2025-01-01.jsonl", jsonl([{"item_id": "i1", "title": "Tea"}, {"item_id": None}]), "items")
    return config, ingest_catalogue(spark, config, received_at=RECEIVED_AT)


def test_take_in_replays_an_open_batch_of_another_feed_before_its_own(replayed: tuple[Config, IngestReport]) -> None:
    # Both feeds write to the same table of quarantine, in the order of batches: a later batch must not overtake.
    config, report = replayed
    assert [(batch.batch_seq, batch.kind, batch.replayed) for batch in report.batches] == [
        (1, "events", True),
        (2, "items", False),
    ]
    assert batch_states(config)[:4] == [(1, "planned"), (1, "done"), (2, "planned"), (2, "done")]
    assert sorted((row["batch_seq"], row["reason"]) for row in rows_of(config, "quarantine")) == [
        (1, "bad_json"),
        (2, "bad_item_id"),
    ]
    check_accounts(config)


def test_a_batch_is_late_by_the_times_of_its_own_feed(root: Path, make_config: Callable[..., Config]) -> None:
    config, noon = make_config(), datetime(2025, 1, 5, 12, tzinfo=UTC)
    for number, kind, last in ((1, "events", noon), (2, "items", noon + timedelta(days=999))):
        closed = Batch(number, kind, RECEIVED_AT, False, None, (), make_mapping(config, kind, Path("/landing")))
        record_done(root, closed, BatchReport(number, kind, False, (), last, last))
    intake = Intake(None, config, {}, ignore_progress)  # type: ignore[arg-type]
    (planned,) = _divide(intake, Request(("events",), False, RECEIVED_AT), "events", "{}", ())
    assert (planned.batch_seq, planned.watermark) == (3, noon)


def test_take_in_records_a_copy_that_comes_alone(spark: SparkSession, replayed: tuple[Config, IngestReport]) -> None:
    config, _ = replayed
    drop(config, "b.jsonl", LINES)
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert report.lines() == ["events batch 3: 1 files, 0 lines = 0 new + 0 anonymous + 0 duplicate + 0 quarantined"]
    assert file_rows(config)["b.jsonl"]["state"] == "duplicate"
    assert ingest(spark, config, received_at=RECEIVED_AT).batches == ()
