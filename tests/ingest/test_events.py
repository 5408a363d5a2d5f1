"""Logs become events once each, in batches of bounded size, whatever their order."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.errors import GateRefused
from recsys_spark.failpoint import FailpointReached
from recsys_spark.ingest.accounting import IngestReport
from recsys_spark.ingest.batches import read_open
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.ingest.values import US_PER_DAY
from recsys_spark.warehouse.location import ObjectPath
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import batch_states, check_accounts, drop, file_rows, make_world, rows_of, with_sets
from tests.s3_server import copy_to


@dataclass(frozen=True)
class Loads:
    """What ingest said: of a first load, of a file that is too old, of nothing, with --history, with one type more."""

    config: Config
    first: IngestReport
    shown: list[tuple[str, str]]
    too_old: IngestReport
    idle: IngestReport
    history: IngestReport
    wider: IngestReport
    wider_again: IngestReport


@pytest.fixture(scope="module")
def loads(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Loads:
    config = make_world(tmp_path_factory.mktemp("loads"), "ingest.max_files_per_batch=2", "ingest.late_days=7")
    # Newest first: a bound that moved with the batches of one command would set the oldest aside.
    for number in range(3):
        time = f"2025-01-{30 - 14 * number:02d}T00:00:00Z"
        drop(config, f"{number}.jsonl", jsonl(event(10 * number + one, event_time=time) for one in range(10)))
    newest = {"event_time": "2025-01-30T00:00:00Z"}
    drop(config, "3.jsonl", jsonl([event(1, **newest), event(99, **newest), event(5, event_type="gift", **newest)]))
    shown: list[tuple[str, str]] = []

    def load(config: Config, history: bool = False) -> IngestReport:
        return ingest(
            spark, config, history, RECEIVED_AT, progress=lambda step, phase, figures: shown.append((step, phase))
        )

    first, shown_first = load(config), [*shown]
    old = jsonl(event(200 + number, event_time="2025-01-20T00:00:00Z") for number in range(5))
    drop(config, "old.jsonl", old)
    too_old, idle, history = load(config), load(config), load(config, history=True)
    wider = with_sets(config, "ingest.late_days=7", 'events.types={gift={raw=["gift"]}}')
    return Loads(config, first, shown_first, too_old, idle, history, load(wider), load(wider))


def test_ingest_divides_a_first_load_and_bounds_only_what_comes_later(loads: Loads) -> None:
    first = loads.first
    assert [len(batch.files) for batch in first.batches] == [2, 2]
    assert (first.total("n_new"), first.total("n_duplicate")) == (31, 1)
    assert [batch.reasons for batch in first.batches] == [{}, {"unknown_type": 1}]
    assert loads.shown == [("events 1", "start"), ("events 1", "done"), ("events 2", "start"), ("events 2", "done")]

    assert loads.too_old.batches[0].reasons == {"too_late": 5}
    assert loads.idle.batches == ()
    assert loads.history.total("n_new") == 5
    check_accounts(loads.config)


def test_ingest_takes_the_refused_lines_in_once_their_type_is_declared(loads: Loads) -> None:
    # With --history the file is read again too, and its line refused again; without, nothing was.
    assert (loads.history.total("n_duplicate"), loads.history.total("n_quarantined")) == (2, 1)
    assert loads.history.batches[0].reasons == {"unknown_type": 1}
    wider = loads.wider
    assert (wider.total("n_new"), wider.total("n_duplicate"), wider.total("n_quarantined")) == (1, 2, 0)
    assert loads.wider_again.batches == ()
    check_accounts(loads.config)


def test_ingest_tries_files_again_that_another_mapping_may_read(spark: SparkSession, tmp_path: Path) -> None:
    config = make_world(tmp_path, "events.columns.item_id=sku")
    drop(config, "a.jsonl", jsonl(event(number) for number in range(5)))
    report = ingest(spark, config, received_at=RECEIVED_AT)
    assert file_rows(config)["a.jsonl"]["reason"] == "missing_column"
    assert "1 of 1 files were quarantined: a.jsonl (missing_column)" in report.warnings[0]
    report = ingest(spark, with_sets(config), received_at=RECEIVED_AT)
    assert report.total("n_new") == 5
    assert batch_states(config)[-1] == (2, "done")


def test_ingest_keeps_the_order_of_lines_that_have_no_time(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the order of their paths, batches in that of their arrival; a longer file brings what is new in it."""
    monkeypatch.setattr("recsys_spark.ingest.events._BATCH_US", US_PER_DAY)  # batches under days of their own
    config = make_world(tmp_path, "events.clock=order", "ingest.late_days=1")
    undated = [event(number, user_id="u", event_time=...) for number in range(9)]
    drop(config, "b.jsonl", jsonl(undated[2:4]))
    drop(config, "a.jsonl", jsonl([undated[1], undated[0]]))
    assert ingest(spark, config, received_at=RECEIVED_AT).total("n_new") == 4
    drop(config, "b.jsonl", jsonl(undated[2:6]))
    drop(config, "0.jsonl", jsonl([undated[7]]))
    later = ingest(spark, config, received_at=RECEIVED_AT)
    assert (later.total("n_new"), later.total("n_duplicate"), later.late_rows) == (3, 2, {})
    ordered = sorted(rows_of(config, "events"), key=lambda row: row["event_time"])
    assert [row["item_id"] for row in ordered] == ["i1", "i0", "i2", "i3", "i7", "i4", "i5"]
    check_accounts(config)


def test_ingest_refuses_a_wrong_mapping_with_its_place(spark: SparkSession, tmp_path: Path) -> None:
    config = make_world(tmp_path, "events.time_format=epoch_s")
    drop(config, "2025/a.jsonl.gz", jsonl(event(number) for number in range(5)))
    with pytest.raises(
        GateRefused, match=r"events, batch 1: .*got 5 of 5 \(bad_time 5\), e\.g\. 2025/a\.jsonl\.gz line 1"
    ):
        ingest(spark, config, received_at=RECEIVED_AT)
    assert rows_of(config, "events") == []
    assert len(rows_of(config, "quarantine")) == 5


def test_ingest_replays_what_landed_in_a_bucket_by_the_endpoint_that_is_set_now(
    spark: SparkSession, tmp_path: Path, s3_root: ObjectPath, failpoint: Callable[[str], None]
) -> None:
    """What was planned at one address of a bucket is read at another; what is known is not fetched again."""
    config = make_world(tmp_path)
    drop(config, "2025/a.jsonl.gz", jsonl(event(number) for number in range(5)))
    drop(config, "b.jsonl", jsonl([*(event(number) for number in range(4, 9)), b"{"]))
    copy_to(tmp_path / "landing", s3_root)
    failpoint("ingest.after_plan")
    with pytest.raises(FailpointReached):
        ingest(spark, _in_bucket(config, s3_root, s3_root.endpoint), received_at=RECEIVED_AT)
    failpoint("none")
    assert [batch.folder for batch in read_open(config.root)] == [f"{s3_root}/events"]
    moved = _in_bucket(config, s3_root, s3_root.endpoint.replace("127.0.0.1", "localhost"))
    report = ingest(spark, moved, received_at=RECEIVED_AT)
    assert [batch.replayed for batch in report.batches] == [True]
    assert (report.total("n_new"), report.total("n_duplicate"), report.total("n_quarantined")) == (9, 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_spark.ingest.landing._hash", None)
        assert ingest(spark, moved, received_at=RECEIVED_AT).batches == (), "what is known is not fetched"
    assert ingest(spark, config, received_at=RECEIVED_AT).batches == (), "content is known wherever it lands"
    check_accounts(config)


def _in_bucket(config: Config, root: ObjectPath, endpoint: str) -> Config:
    """The settings with events that land below `root`."""
    server = config.storage.model_copy(update={"endpoint": endpoint, "region": root.region})
    landing = config.landing.model_copy(update={"events": f"{root}/events"})
    return config.model_copy(update={"landing": landing, "storage": server})


def test_ingest_says_when_there_is_no_folder(spark: SparkSession, tmp_path: Path) -> None:
    config = make_world(tmp_path)
    Path(config.landing.events).rmdir()
    report = ingest(spark, config, received_at=RECEIVED_AT + timedelta(days=1))
    assert report.batches == ()
    assert report.warnings[0].startswith("[landing] events: expected a folder, got none at ")
