"""Ledger of ingest batches: plans are recorded before they are read, as in a write-ahead log.

Owns: the rows of `ingest_batches` and `ingest_files`.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from recsys_spark.config.schema import Config, Events, Ingest, Items, Users
from recsys_spark.errors import DamagedError
from recsys_spark.ingest.accounting import BatchReport, FileAccount
from recsys_spark.ingest.decode import Limits, PlannedFile
from recsys_spark.warehouse.ledger import append_rows, read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES

_FEEDS: dict[str, type[Events] | type[Items] | type[Users]] = {"events": Events, "items": Items, "users": Users}
# Settings that do not change how a line is read: a quarantined file is not tried again because of them.
_GATES = ("max_bad_row_ratio", "max_bad_file_ratio", "max_files_per_batch")


@dataclass(frozen=True)
class Batch:
    """A planned batch.  watermark: latest event_time (catalogue: valid_from) before the command; None: the first.

    mapping: JSON of what decides how the files are read, so that a replay reads them as they were planned.
    """

    batch_seq: int
    kind: str
    received_at: datetime
    history: bool
    watermark: datetime | None
    files: tuple[PlannedFile, ...]
    mapping: str

    @property
    def folder(self) -> str:
        """The landing folder or prefix that the paths are relative to; a plan does not say how it is reached."""
        return str(json.loads(self.mapping)["folder"])

    @property
    def feed(self) -> Events | Items | Users:
        """The settings of the feed; raises DamagedError if this version of the program does not know them."""
        try:
            return _FEEDS[self.kind].model_validate(json.loads(self.mapping)["feed"])
        except ValidationError as err:
            raise DamagedError(
                f"ingest batch {self.batch_seq}: expected a plan of this version, got settings that it does not know; "
                "run ingest once with the version that planned the batch"
            ) from err

    @property
    def bounds(self) -> Ingest:
        """The bounds of what ingest accepts."""
        return Ingest.model_validate(json.loads(self.mapping)["ingest"])

    @property
    def limits(self) -> Limits:
        """The bounds of one file."""
        bounds = self.bounds
        return Limits(bounds.max_file_bytes, bounds.max_decompressed_bytes, bounds.max_expansion, bounds.max_line_bytes)


def make_mapping(config: Config, kind: str, folder: Location) -> str:
    """JSON of what decides how files of `kind` are read, and of the gates."""
    feed = getattr(config, kind).model_dump(mode="json")
    # The weight of a type does not change how it is read.
    for declared in feed.get("types", {}).values():
        for name in set(declared) - {"raw"}:
            del declared[name]
    return json.dumps({"folder": str(folder), "feed": feed, "ingest": config.ingest.model_dump()}, sort_keys=True)


def hash_mapping(mapping: str) -> str:
    """Hash of what decides how a line is read."""
    parts = json.loads(mapping)
    bounds = {name: value for name, value in parts["ingest"].items() if name not in _GATES}
    return sha256(json.dumps([parts["feed"], bounds], sort_keys=True).encode()).hexdigest()


def read_open(root: Location) -> list[Batch]:
    """Batches that were planned and neither done nor refused, in their order."""
    rows = read_rows(root, INGEST_BATCHES)
    settled = {row["batch_seq"] for row in rows if row["state"] != "planned"}
    planned = (row for row in rows if row["state"] == "planned" and row["batch_seq"] not in settled)
    return [_batch_of(row) for row in sorted(planned, key=lambda row: int(row["batch_seq"]))]


def _batch_of(row: dict[str, Any]) -> Batch:
    files = tuple(
        PlannedFile(index, file["path"], file["sha256"], file["bytes"], file["mtime_ns"])
        for index, file in enumerate(row["files"])
    )
    return Batch(
        row["batch_seq"], row["kind"], row["received_at"], row["history"], row["watermark"], files, row["mapping"]
    )


def has_earlier(root: Location, batch: Batch) -> bool:
    """Whether an earlier batch of the same feed stored any row; batches are settled in their order."""
    return any(
        row["kind"] == batch.kind and row["batch_seq"] < batch.batch_seq and row["max_event_time"] is not None
        for row in read_rows(root, INGEST_BATCHES)
    )


def record_plans(root: Location, batches: list[Batch]) -> None:
    """Writes the plans in one commit, before a row of any is read."""
    append_rows(root, INGEST_BATCHES, [_row(batch, "planned") for batch in batches])


def record_files(root: Location, batch: Batch, accounts: list[FileAccount]) -> None:
    """Writes one row per file of the batch, unless that was done before."""
    if not accounts or any(row["batch_seq"] == batch.batch_seq for row in read_rows(root, INGEST_FILES)):
        return
    mapping_hash = hash_mapping(batch.mapping)
    rows = [
        {
            "batch_seq": batch.batch_seq,
            "kind": batch.kind,
            "path": one.planned.path,
            "sha256": one.planned.sha256,
            "bytes": one.planned.n_bytes,
            "mtime_ns": one.planned.mtime_ns,
            "mapping_hash": mapping_hash,
            # An Arrow map is a list of pairs.
            "unknown_columns": sorted(one.unknown_columns.items()),
            **{name: getattr(one, name) for name in _FIGURES},
        }
        for one in accounts
    ]
    append_rows(root, INGEST_FILES, rows)


_FIGURES = (
    "state", "reason", "lines_in", "n_new", "n_anonymous", "n_duplicate", "n_quarantined", "n_malformed", "n_continued",
)  # fmt: skip


def record_done(root: Location, batch: Batch, report: BatchReport) -> None:
    """Closes the batch."""
    append_rows(
        root,
        INGEST_BATCHES,
        [
            _row(batch, "done")
            | {
                "min_event_time": report.first_time,
                "max_event_time": report.last_time,
                "affected_dates": list(report.affected_dates),
            }
        ],
    )


def record_refused(root: Location, batch: Batch, detail: str) -> None:
    """Closes the batch without its rows; its files are tried again by the next ingest."""
    append_rows(root, INGEST_BATCHES, [_row(batch, "refused") | {"detail": detail}])


def _row(batch: Batch, state: str) -> dict[str, Any]:
    return {
        "batch_seq": batch.batch_seq,
        "kind": batch.kind,
        "state": state,
        "received_at": batch.received_at,
        "history": batch.history,
        "watermark": batch.watermark,
        "files": [
            {"path": one.path, "sha256": one.sha256, "bytes": one.n_bytes, "mtime_ns": one.mtime_ns}
            for one in batch.files
        ],
        "mapping": batch.mapping,
        "affected_dates": [],
        "recorded_at": datetime.now(UTC),
    }
