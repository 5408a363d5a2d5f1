"""A plan is read back as it was written, and closed once."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import DamagedError
from recsys_spark.ingest.accounting import BatchReport, FileAccount
from recsys_spark.ingest.batches import (
    Batch,
    has_earlier,
    hash_mapping,
    make_mapping,
    read_open,
    record_done,
    record_files,
    record_plans,
    record_refused,
)
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES

NOON = datetime(2025, 1, 15, 12, tzinfo=UTC)
FILE = PlannedFile(0, "a/b.jsonl", "f" * 64, 17, 1_736_942_400_000_000_123)


def _batch(config: Config, batch_seq: int = 1, kind: str = "events") -> Batch:
    mapping = make_mapping(config, kind, Path("/landing"))
    return Batch(batch_seq, kind, NOON, False, None, (FILE,), mapping)


def test_read_open_gives_the_plan_as_it_was_written(root: Path, make_config: Callable[..., Config]) -> None:
    config = make_config("events.time_format=epoch_ms", "ingest.max_line_bytes=1000")
    record_plans(root, [_batch(config)])
    (batch,) = read_open(root)
    assert batch == _batch(config)
    assert batch.files == (FILE,)
    assert (batch.folder, batch.limits.max_line_bytes) == ("/landing", 1000)
    assert batch.feed.time_format == "epoch_ms"
    assert batch.feed.columns == config.events.columns


@pytest.mark.parametrize("kind", ["events", "items", "users"])
def test_batch_reads_its_settings_from_the_plan(make_config: Callable[..., Config], kind: str) -> None:
    config = make_config('items.vectors=["v"]')
    assert _batch(config, kind=kind).feed.columns == getattr(config, kind).columns
    assert _batch(config, kind=kind).bounds == config.ingest


def test_read_open_leaves_out_what_was_closed(root: Path, make_config: Callable[..., Config]) -> None:
    batches = [_batch(make_config(), batch_seq) for batch_seq in (1, 2, 3)]
    record_plans(root, batches)
    record_refused(root, batches[0], "why")
    record_done(root, batches[2], BatchReport(3, "events", False, (), NOON, NOON, (NOON.date(),)))
    assert [batch.batch_seq for batch in read_open(root)] == [2]
    done = next(row for row in read_rows(root, INGEST_BATCHES) if row["state"] == "done")
    assert (done["max_event_time"], done["affected_dates"]) == (NOON, [NOON.date()])


def test_has_earlier_knows_batches_of_the_same_feed_that_stored_rows(
    root: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config()
    record_done(root, _batch(config, 1), BatchReport(1, "events", False, ()))
    record_done(root, _batch(config, 2, "items"), BatchReport(2, "items", False, (), NOON, NOON))
    assert not has_earlier(root, _batch(config, 5))
    record_done(root, _batch(config, 3), BatchReport(3, "events", False, (), NOON, NOON))
    assert has_earlier(root, _batch(config, 5))
    assert not has_earlier(root, _batch(config, 3))


def test_record_files_writes_once_when_replayed(root: Path, make_config: Callable[..., Config]) -> None:
    batch = _batch(make_config())
    account = FileAccount(FILE, "ingested", None, 10, 5, 2, 1, 2, 1, {"foo": 3})
    for _ in range(2):
        record_files(root, batch, [account])
    (row,) = read_rows(root, INGEST_FILES)
    assert (row["path"], row["bytes"], row["mtime_ns"], row["state"]) == (FILE.path, 17, FILE.mtime_ns, "ingested")
    assert (row["lines_in"], row["n_new"], row["n_anonymous"], row["n_duplicate"], row["n_quarantined"]) == (
        10,
        5,
        2,
        1,
        2,
    )
    assert row["unknown_columns"] == {"foo": 3}
    assert row["mapping_hash"] == hash_mapping(batch.mapping)


def test_hash_mapping_changes_only_with_what_decides_how_lines_are_read(make_config: Callable[..., Config]) -> None:
    def hash_of(*sets: str) -> str:
        return hash_mapping(make_mapping(make_config(*sets), "events", Path("/any")))

    plain = hash_of()
    for same in ("events.types.purchase.weight=2.0", "ingest.max_bad_row_ratio=0.5", "storage.root=/x", "run.seed=1"):
        assert hash_of(same) == plain
    for other in (
        "events.time_format=epoch_s",
        "events.types.view={}",
        "ingest.max_file_bytes=5",
        "events.columns.value=v",
    ):
        assert hash_of(other) != plain


def test_batch_of_settings_that_this_version_does_not_know_is_named(make_config: Callable[..., Config]) -> None:
    batch = _batch(make_config())
    older = Batch(1, "events", NOON, False, None, (), batch.mapping.replace('"time_format"', '"time_pattern"'))
    with pytest.raises(DamagedError, match="ingest batch 1: expected a plan of this version"):
        _ = older.feed
