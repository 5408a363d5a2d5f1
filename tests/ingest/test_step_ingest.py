"""Snapshots become a history of changes that is right as of every day, in whatever order they are delivered."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.failpoint import FailpointReached
from recsys_spark.ingest.accounting import IngestReport
from recsys_spark.ingest.step_ingest import ingest_catalogue
from tests.event_files import RECEIVED_AT, jsonl
from tests.ingest_world import batch_states, drop, file_rows, make_world, rows_of

ITEMS = [
    {"item_id": "tea", "title": "Tea", "price": 3},
    {"item_id": "mug", "title": "Mug", "price": 5, "colour": "red"},
]


def _at(day: int) -> datetime:
    return datetime(2025, 1, day, tzinfo=UTC)


def _history(config: Config, table: str = "items") -> dict[str, list[tuple[datetime, Any]]]:
    """(valid_from, price) of every row by item, in order."""
    found: dict[str, list[tuple[datetime, Any]]] = {}
    for row in sorted(rows_of(config, table), key=lambda row: row["valid_from"]):
        found.setdefault(row["item_id"], []).append((row["valid_from"], row["price"]))
    return found


@dataclass(frozen=True)
class Snapshots:
    """A catalogue with dated and undated files, then a late snapshot of items and an undated one of users.

    before: the history of items after the first command.
    """

    config: Config
    first: IngestReport
    before: dict[str, list[tuple[datetime, Any]]]
    late: IngestReport


@pytest.fixture(scope="module")
def snapshots(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    config = make_world(tmp_path_factory.mktemp("world"), "items.columns.valid_from=since")
    drop(config, "2025-01-05/items.jsonl", jsonl(ITEMS), "items")
    drop(config, "2025-01-20/items.jsonl.gz", jsonl(ITEMS), "items")
    undated = [{"item_id": "pot", "price": 3}, {"item_id": "pan", "price": 5, "since": "2025-01-03"}]
    drop(config, "items.jsonl", jsonl(undated), "items")
    drop(config, "2025-01-05/users.csv", b"user_id,country,created_at\nu1,France,2024-12-01\nu2,,\n,x,\n", "users")
    first = ingest_catalogue(spark, config, received_at=RECEIVED_AT)
    before = _history(config)
    # A snapshot of the 10th comes late: dearer tea. The 20th had said 3 again, without a row of its own.
    drop(config, "2025-01-10/items.jsonl", jsonl([ITEMS[0] | {"price": 4}, ITEMS[1]]), "items")
    drop(config, "users-new.csv", b"user_id,country\nu1,Spain\n", "users")
    return Snapshots(config, first, before, ingest_catalogue(spark, config, received_at=RECEIVED_AT))


def test_ingest_catalogue_stores_changes_as_of_their_day_in_any_order(snapshots: Snapshots) -> None:
    config, late = snapshots.config, snapshots.late
    assert snapshots.before["tea"] == [(_at(5), 3.0)]
    assert snapshots.before["mug"] == [(_at(5), 5.0)]
    rows = file_rows(config, 1)
    assert (rows["2025-01-05/items.jsonl"]["n_new"], rows["2025-01-20/items.jsonl.gz"]["n_duplicate"]) == (2, 2)
    mug = next(row for row in rows_of(config, "items") if row["item_id"] == "mug")
    assert (mug["title"], mug["attributes"], mug["tags"]) == ("Mug", {"colour": "red"}, None)
    france = next(row for row in rows_of(config, "users") if row["user_id"] == "u1" and row["batch_seq"] == 2)
    assert france["attributes"] == {"country": "France"}
    assert france["created_at"] == datetime(2024, 12, 1, tzinfo=UTC)
    assert file_rows(config, 2)["2025-01-05/users.csv"]["n_quarantined"] == 1

    assert _history(config)["tea"] == [(_at(5), 3.0), (_at(10), 4.0), (_at(20), 3.0)]
    assert _history(config)["mug"] == [(_at(5), 5.0)]
    items = late.batches[0]
    assert (items.kind, items.total("n_new"), items.total("n_duplicate")) == ("items", 1, 1)
    assert (items.first_time, items.last_time) == (_at(10), _at(20))


def test_ingest_catalogue_dates_rows_without_a_date(snapshots: Snapshots) -> None:
    assert snapshots.before == {
        "tea": [(_at(5), 3.0)],
        "mug": [(_at(5), 5.0)],
        "pot": [(datetime(1970, 1, 1, tzinfo=UTC), 3.0)],
        "pan": [(_at(3), 5.0)],
    }
    (warning,) = snapshots.first.warnings
    assert "hold from 1970 on" in warning

    users = [row for row in rows_of(snapshots.config, "users") if row["user_id"] == "u1"]
    newest = max(users, key=lambda row: row["valid_from"])
    assert (newest["valid_from"], newest["attributes"]) == (RECEIVED_AT, {"country": "Spain"})
    assert snapshots.late.warnings == ()


@pytest.mark.parametrize("others", [[], ["2025-01-06/items.jsonl"]])
def test_ingest_catalogue_goes_on_when_a_stored_snapshot_was_overwritten_before_the_replay(
    spark: SparkSession, tmp_path: Path, failpoint: Callable[[str], None], others: list[str]
) -> None:
    config = make_world(tmp_path)
    drop(config, "2025-01-05/items.jsonl", jsonl(ITEMS), "items")
    for path in others:
        drop(config, path, jsonl([ITEMS[0], {"item_id": "jug", "price": 7}]), "items")
    failpoint("ingest.after_events")
    with pytest.raises(FailpointReached):
        ingest_catalogue(spark, config, received_at=RECEIVED_AT)
    failpoint("none")
    drop(config, "2025-01-05/items.jsonl", jsonl([ITEMS[0] | {"price": 4}]), "items")
    report = ingest_catalogue(spark, config, received_at=RECEIVED_AT)
    assert [(batch.batch_seq, batch.replayed) for batch in report.batches] == [(1, True), (2, False)]
    assert report.batches[0].total("n_new") == 2 + len(others)
    assert (report.batches[0].first_time, report.batches[0].last_time) == (_at(5), _at(6 if others else 5))
    assert f"expected the {2 + len(others)} rows that were stored before a crash" in report.warnings[0]
    assert file_rows(config, 1)["2025-01-05/items.jsonl"]["reason"] == "changed_after_storing"
    assert batch_states(config)[-1] == (2, "done")
