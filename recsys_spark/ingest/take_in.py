"""Ingest protocol, the same for every feed: replay what is open, plan, read, gate, store, account, close.

Owns: the order of writes, and which files with refused lines are read again, because other settings may accept those
lines.  A kill at any point leaves an open plan, and the next ingest replays it to the same rows: data tables skip a
batch that they hold, and the ledgers are read before they are written.  The caller holds the lock of the warehouse and
has created its tables.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.schema import Config, Events
from recsys_spark.errors import GateRefused
from recsys_spark.failpoint import failpoint
from recsys_spark.ingest.accounting import (
    BatchReport,
    FileAccount,
    IngestReport,
    account_for,
    count_reasons,
    gate_faults,
)
from recsys_spark.ingest.batches import (
    Batch,
    hash_mapping,
    make_mapping,
    read_open,
    record_done,
    record_files,
    record_plans,
    record_refused,
)
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.landing import list_landing, sort_listed
from recsys_spark.ingest.parse_event import type_names
from recsys_spark.ingest.read_file import Reading
from recsys_spark.ingest.spark_read import Landed, files_frame, read_landed, refused_rows
from recsys_spark.plan import Observer
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.spark_tables import append_once, read_table
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES, QUARANTINE

_TYPES = {"types", "unknown_types", "default_type"}
_VALUES = {"value_min", "value_max", "on_bad_value"}


_LOG = logging.getLogger(__name__)
_QUARANTINE_ROWS = 100_000


def reread_mappings(root: Location, kind: str, mapping: str, history: bool) -> frozenset[str]:
    """Hashes of the mappings whose files are read again, under `mapping`, if lines of theirs were refused.

    These are the mappings under which a stored event has the same key as under `mapping`, so that a second reading
    finds it as a duplicate; `mapping` itself only with `history`, which accepts what was too late.  Snapshots are never
    read again: an old one would be dated anew, and the next one brings all of its rows.
    """
    if kind != "events":
        return frozenset()
    current = hash_mapping(mapping)
    earlier = {hash_mapping(row["mapping"]): row["mapping"] for row in read_rows(root, INGEST_BATCHES)
               if row["kind"] == kind}  # fmt: skip
    alike = {one for one, text in earlier.items() if one != current and keeps_identity(text, mapping)}
    return frozenset(alike | ({current} if history else set()))


def keeps_identity(old: str, new: str) -> bool:
    """Whether every event that mapping `old` accepted has the same event_key under `new`; both are JSON of a batch."""
    try:
        before, after = (Events.model_validate(json.loads(text)["feed"]) for text in (old, new))
    except ValidationError:
        return False  # settings of another version, whose keys are not known
    # Types may be added, but none may change its meaning; the same holds for the type of lines without one.
    if not type_names(before).items() <= type_names(after).items():
        return False
    if before.default_type not in ("", after.default_type):
        return False
    return _keyed_parts(before) == _keyed_parts(after)


def _keyed_parts(events: Events) -> dict[str, Any]:
    """The settings that decide the fields of an accepted event, beside its type."""
    # Bounds that refuse do not change the values that they accept; bounds that cap do.
    left_out = _TYPES | (_VALUES if events.on_bad_value == "quarantine" else set())
    return events.model_dump(mode="json", exclude=left_out)


@dataclass(frozen=True)
class Stored:
    """What a feed stored of a batch.

    counts: per file index, rows that were new with a user, new without one, and known (a missing file: none).
    report: the batch without its files.  lost: accounts of files that changed after their rows had been stored.
    """

    counts: Mapping[int, tuple[int, int, int]]
    report: BatchReport
    lost: Mapping[int, FileAccount]


@dataclass(frozen=True)
class Feed:
    """What differs between feeds: how a batch's files are read, into which table, and how its rows are stored."""

    table: Table
    reading: Callable[[Batch, Location], Reading]
    store: Callable[[SparkSession, Location, Batch, Landed, bool], Stored]


@dataclass(frozen=True)
class Intake:
    """The session, settings, feeds and observer of an ingest."""

    spark: SparkSession
    config: Config
    feeds: Mapping[str, Feed]
    observe: Observer

    @property
    def root(self) -> Location:
        """The warehouse."""
        return self.config.root


@dataclass(frozen=True)
class Request:
    """What a command asks for.  kinds: the feeds that it looks at; history: accept events of any age."""

    kinds: tuple[str, ...]
    history: bool
    received_at: datetime


def ignore_progress(step: str, phase: str, figures: dict[str, float]) -> None:
    """An observer that shows nothing."""


def take_in(intake: Intake, request: Request) -> IngestReport:
    """Replays open batches of any feed, then takes in what is new of the requested ones.

    Raises GateRefused if a batch has too much damage; only its quarantine is stored then.
    """
    # All feeds share the batch numbers and the table of quarantine: an open batch is settled before any newer one.
    reports = [_settle(intake, batch, (), replayed=True) for batch in read_open(intake.root)]
    warnings: list[str] = []
    for kind in request.kinds:
        batches, copies, warned = _plan(intake, kind, request)
        warnings += warned
        for batch in batches:
            mine = copies if batch is batches[-1] else ()
            reports.append(_settle(intake, batch, mine, replayed=False))
    warnings += [warning for report in reports for warning in report.warnings]
    return IngestReport(request.kinds, tuple(reports), tuple(warnings))


def _plan(intake: Intake, kind: str, request: Request) -> tuple[list[Batch], tuple[PlannedFile, ...], list[str]]:
    """Lists and hashes the landing folder, records batches of new files; returns these, known copies and warnings."""
    folder = intake.config.landing_place(kind)
    if not folder or not folder.is_dir():
        # A catalogue is optional; without a feed of events the product has nothing to work on.
        missing = f"[landing] {kind}: expected a folder, got none at {folder}; put files there, or correct the setting"
        return [], (), [missing] if folder and kind == "events" else []
    started = time.perf_counter()
    listing = list_landing(folder)
    ledger = [row for row in read_rows(intake.root, INGEST_FILES) if row["kind"] == kind]
    mapping = make_mapping(intake.config, kind, folder)
    threads = intake.spark.sparkContext.defaultParallelism
    reread = reread_mappings(intake.root, kind, mapping, request.history)
    found = sort_listed(folder, listing.files, ledger, hash_mapping(mapping), threads, reread)
    batches = _divide(intake, request, kind, mapping, found.new) if found.new or found.copies else []
    if batches:
        record_plans(intake.root, batches)
        failpoint("ingest.after_plan")
    _log("plan", kind, started, listed=len(listing.files), new=len(found.new), copies=len(found.copies))
    return batches, found.copies, [*listing.warnings, *found.warnings]


def _divide(intake: Intake, request: Request, kind: str, mapping: str, files: Sequence[PlannedFile]) -> list[Batch]:
    """Batches of at most max_files_per_batch, all with the watermark of the command; one batch also without a file."""
    rows = read_rows(intake.root, INGEST_BATCHES)
    last_seq = max((int(row["batch_seq"]) for row in rows), default=0)
    times = [row["max_event_time"] for row in rows if row["kind"] == kind and row["max_event_time"]]
    size = intake.config.ingest.max_files_per_batch
    batches = []
    for number, start in enumerate(range(0, max(1, len(files)), size), start=1):
        mine = tuple(replace(one, index=at) for at, one in enumerate(files[start : start + size]))
        watermark = max(times, default=None)
        batches.append(Batch(last_seq + number, kind, request.received_at, request.history, watermark, mine, mapping))
    return batches


def _settle(intake: Intake, batch: Batch, copies: Sequence[PlannedFile], replayed: bool) -> BatchReport:
    """Reads and stores a planned batch and closes it."""
    started = time.perf_counter()
    step = f"{batch.kind} {batch.batch_seq}"
    intake.observe(step, "start", {})
    if batch.files:
        report = _store_files(intake, batch, replayed)
    else:
        report = BatchReport(batch.batch_seq, batch.kind, replayed, ())
    # A copy is recorded once and never read.
    accounts = [*report.files, *(FileAccount(one, "duplicate", "known_content") for one in copies)]
    report = replace(report, files=tuple(accounts))
    record_files(intake.root, batch, accounts)
    failpoint("ingest.after_files")
    record_done(intake.root, batch, report)
    figures = {f"rows:{name}": float(report.total(name)) for name in ("lines_in", "n_new", "n_anonymous")}
    intake.observe(step, "done", figures)
    _log("settle", batch.kind, started, batch_seq=batch.batch_seq, files=len(accounts), lines=report.total("lines_in"))
    return report


def _store_files(intake: Intake, batch: Batch, replayed: bool) -> BatchReport:
    """Reads the files, passes the gates, stores rows and quarantine, and accounts for every line."""
    feed = intake.feeds[batch.kind]
    started = time.perf_counter()
    landed = read_landed(intake.spark, batch.files, feed.reading(batch, intake.config.locate(batch.folder)), feed.table)
    _log("read", batch.kind, started, batch_seq=batch.batch_seq, rows=landed.n_parsed)
    try:
        faults = gate_faults(batch.files, landed.summaries, batch.bounds)
        # Rows that were stored before a crash passed the gate then, even if the files have changed since.
        if faults and not (replayed and _holds_rows(intake, feed.table, batch)):
            _refuse(intake, batch, landed, faults)
        started = time.perf_counter()
        stored = feed.store(intake.spark, intake.root, batch, landed, replayed)
        _log("store", batch.kind, started, batch_seq=batch.batch_seq)
        failpoint("ingest.after_events")
        _append_quarantine(intake, batch, landed)
        failpoint("ingest.after_quarantine")
    finally:
        landed.release()
    accounts = tuple(
        stored.lost.get(one.index) or account_for(batch.files[one.index], one, stored.counts.get(one.index, (0, 0, 0)))
        for one in landed.summaries
    )
    warnings = (*stored.report.warnings, *_warn_of_files(batch, accounts))
    return replace(stored.report, files=accounts, reasons=count_reasons(landed.summaries), warnings=warnings)


def _holds_rows(intake: Intake, table: Table, batch: Batch) -> bool:
    rows = read_table(intake.spark, intake.root, table).where(F.col("batch_seq") == batch.batch_seq)
    return not rows.isEmpty()


def _refuse(intake: Intake, batch: Batch, landed: Landed, faults: list[str]) -> None:
    """Stores the quarantine, closes the batch without its rows, and raises GateRefused."""
    detail = "; ".join(faults)
    _append_quarantine(intake, batch, landed)
    accounts = [account_for(batch.files[one.index], one, (0, 0, 0), refused=True) for one in landed.summaries]
    record_files(intake.root, batch, accounts)
    record_refused(intake.root, batch, detail)
    raise GateRefused(
        f"ingest of {batch.kind}, batch {batch.batch_seq}: {detail}; every refused line is in the table quarantine "
        "with its reason and place, and nothing else of the batch was stored: the next ingest tries its files again"
    )


def _append_quarantine(intake: Intake, batch: Batch, landed: Landed) -> None:
    """Stores quarantined lines and files with their places; starts no job if there are none."""
    n_rows = sum(one.n_quarantined if one.state == "read" else 1 for one in landed.summaries)
    if not n_rows:
        return
    received = F.lit(batch.received_at)
    rows = refused_rows(landed, files_frame(intake.spark, batch.files))
    rows = rows.withColumns(
        {
            "batch_seq": F.lit(batch.batch_seq).cast("long"),
            "kind": F.lit(batch.kind),
            "quarantined_at": received,
            "ds": F.to_date(received),
        }
    )
    # Few lines are one small file; a refused batch may have as many lines here as any batch.
    n_parts = 1 + n_rows // _QUARANTINE_ROWS
    append_once(rows.coalesce(n_parts), intake.root, QUARANTINE, batch.batch_seq)


def _warn_of_files(batch: Batch, accounts: Sequence[FileAccount]) -> list[str]:
    """One warning if any file was quarantined whole; columns without a mapping are in the report's own lines."""
    bad = [one for one in accounts if one.state == "quarantined"]
    warnings = []
    if bad:
        shown = ", ".join(f"{one.path} ({one.reason})" for one in bad[:3])
        warnings.append(
            f"{batch.kind} batch {batch.batch_seq}: {len(bad)} of {len(accounts)} files were quarantined: {shown}; "
            "deliver them again, corrected"
        )
    return warnings


def _log(phase: str, kind: str, started: float, **figures: int) -> None:
    shown = " ".join(f"{name}={value}" for name, value in figures.items())
    _LOG.info("phase=ingest.%s kind=%s seconds=%.2f %s", phase, kind, time.perf_counter() - started, shown)
