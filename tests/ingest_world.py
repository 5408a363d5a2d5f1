"""A warehouse with a landing folder, and what ingest made of it, read without Spark."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES
from tests.empty_warehouse import copy_empty_warehouse
from tests.event_files import TYPES, write_file


def make_world(folder: Path, *sets: str) -> Config:
    """Settings of a warehouse in `folder`, its tables and its landing folder created."""
    landing = [f"landing.{feed}={folder / 'landing' / feed}" for feed in ("events", "items", "users")]
    config = load_config(sets=(f"storage.root={folder / 'warehouse'}", *landing, TYPES, *sets))
    copy_empty_warehouse(config.root)
    Path(config.landing.events).mkdir(parents=True, exist_ok=True)
    return config


def with_sets(config: Config, *sets: str) -> Config:
    """The settings with others laid over them."""
    changed = load_config(sets=(TYPES, *sets))
    return config.model_copy(update={"ingest": changed.ingest, "events": changed.events})


def drop(config: Config, path: str, data: bytes, feed: str = "events") -> Path:
    """Drops a file into the landing folder of a feed, compressed as its name says."""
    return write_file(Path(getattr(config.landing, feed)) / path, data)


def rows_of(config: Config, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    frame: pa.Table = DeltaTable(table_path(config.root, table)).to_pyarrow_table()
    rows: list[dict[str, Any]] = frame.to_pylist(maps_as_pydicts="strict")
    return rows


def file_rows(config: Config, batch_seq: int | None = None) -> dict[str, dict[str, Any]]:
    """Ledger rows by path, of one batch or the newest of each path."""
    rows = sorted(read_rows(config.root, INGEST_FILES), key=lambda row: int(row["batch_seq"]))
    return {row["path"]: row for row in rows if batch_seq in (None, row["batch_seq"])}


def batch_states(config: Config) -> list[tuple[int, str]]:
    """(batch_seq, state) of every row of the ledger of batches, in the order of writing."""
    rows = sorted(read_rows(config.root, INGEST_BATCHES), key=lambda row: row["recorded_at"])
    return [(row["batch_seq"], row["state"]) for row in rows]


def refused_lines(config: Config, path: str) -> dict[int | None, str]:
    """Reason by line of what was quarantined of a file."""
    return {row["line"]: row["reason"] for row in rows_of(config, "quarantine") if row["path"] == path}


def check_accounts(config: Config) -> None:
    """Asserts for every file that its lines are accounted for, and that storage holds what the ledger says."""
    stored = Counter(
        (row["batch_seq"], row["file_sha256"], row["user_id"] is None) for row in rows_of(config, "events")
    )
    aside = Counter((row["batch_seq"], row["path"]) for row in rows_of(config, "quarantine") if row["line"] is not None)
    for row in read_rows(config.root, INGEST_FILES):
        if row["state"] not in ("ingested", "quarantined") or row["kind"] != "events":
            continue
        sums = row["n_new"] + row["n_anonymous"] + row["n_duplicate"] + row["n_quarantined"] + row["n_continued"]
        assert row["lines_in"] == sums, row
        assert stored[(row["batch_seq"], row["sha256"], False)] == row["n_new"], row
        assert stored[(row["batch_seq"], row["sha256"], True)] == row["n_anonymous"], row
        if row["state"] == "ingested":
            assert aside[(row["batch_seq"], row["path"])] == row["n_quarantined"], row
    keys = [row["event_key"] for row in rows_of(config, "events")]
    assert len(keys) == len(set(keys))
