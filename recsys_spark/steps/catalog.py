"""Ingest of catalogue snapshots: a row for every change of an item or a user, valid from a time on.

Owns: how snapshots are read, dated and stored.  Called by the command line, the job `catalog` and the demo, which hold
the lock of the warehouse.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.adapters.history import judge_rows
from recsys_spark.adapters.ingest import Landed
from recsys_spark.config import Config, Items, Users
from recsys_spark.errors import ContractError
from recsys_spark.kernels.decode import PlannedFile
from recsys_spark.kernels.parse_catalogue import CatalogueSpec, catalogue_columns, catalogue_parser
from recsys_spark.kernels.read_file import PARSED, Reading
from recsys_spark.kernels.records import Fields
from recsys_spark.kernels.timestamps import to_datetime, to_us
from recsys_spark.steps.accounting import BatchReport, IngestReport
from recsys_spark.steps.batch import Batch
from recsys_spark.steps.take_in import Feed, Intake, Observer, Request, Stored, ignore_progress, take_in
from recsys_spark.tables.arrow import arrow_schema
from recsys_spark.tables.catalog import INGEST_FILES, ITEMS, USERS
from recsys_spark.tables.contract import Table
from recsys_spark.tables.delta import append_once, read_table
from recsys_spark.tables.ledger import read_rows

_TABLES = {"items": ITEMS, "users": USERS}
_DATE = re.compile(r"(?<![0-9])([12][0-9]{3})-([01][0-9])-([0-3][0-9])(?![0-9])")


def ingest_catalogue(
    spark: SparkSession,
    config: Config,
    received_at: datetime | None = None,
    progress: Observer | None = None,
) -> IngestReport:
    """What was taken in of the snapshots in `landing.items` and `landing.users`.

    A row holds from its valid_from on; without one, from the date in the file's path; without that, from 1970 in the
    first catalogue and from received_at (now by default) later.  Raises GateRefused if too much is damaged.
    """
    # An open batch may be one of events; `steps.ingest` imports this module.
    from recsys_spark.steps.ingest import ALL_FEEDS

    intake = Intake(spark, config, ALL_FEEDS, progress or ignore_progress)
    return take_in(intake, Request(("items", "users"), False, received_at or datetime.now(UTC)))


def date_of_path(path: str) -> datetime | None:
    """00:00 UTC of the first YYYY-MM-DD in `path`, None if it has none."""
    for found in _DATE.finditer(path):
        try:
            return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
        except ValueError:  # 2024-02-30
            continue
    return None


def _valid_from(batch: Batch, path: str) -> datetime:
    """When a row of the file begins to hold, if the row itself does not say."""
    undated = datetime(1970, 1, 1, tzinfo=UTC) if batch.watermark is None else batch.received_at
    return date_of_path(path) or undated


def _reading(batch: Batch) -> Reading:
    """How the snapshots of a batch are read."""
    feed, table = batch.feed, _TABLES[batch.kind]
    assert isinstance(feed, Items | Users)  # noqa: S101 - the kind decides the model
    spec = CatalogueSpec(feed, table.key[0])
    id_column = feed.columns.model_dump()[spec.key]
    schema = arrow_schema(table)
    fields = [
        pa.field(name, pa.bool_()) if name == "dated_by_file" else schema.field(name)
        for name in catalogue_columns(spec.key)
    ]

    def make_parse(planned: PlannedFile, as_text: bool) -> Callable[[Fields], tuple[Any, ...]]:
        return catalogue_parser(spec, as_text, to_us(_valid_from(batch, planned.path)))

    return Reading(
        folder=str(batch.folder),
        wanted_format=feed.format,
        limits=batch.limits,
        schema=pa.schema(fields),
        make_parse=make_parse,
        required=frozenset({id_column}),
        expected=frozenset(),
        known=None,
        first=id_column,
    )


def _store(spark: SparkSession, root: Path, batch: Batch, landed: Landed, replayed: bool) -> Stored:
    """Appends the rows that change what is known, and counts them in storage against what was decided."""
    warnings = _warn_of_undated(batch)
    if not landed.n_parsed:
        return Stored({}, BatchReport(batch.batch_seq, batch.kind, replayed, (), warnings=warnings), {})
    table = _TABLES[batch.kind]
    key = table.key[0]
    parsed = landed.rows(PARSED)
    stored = read_table(spark, root, table).where(F.col("batch_seq") < batch.batch_seq)
    verdicts = judge_rows(parsed, stored, key, _snapshot_times(root, batch)).persist(StorageLevel.DISK_ONLY)
    try:
        grouped = verdicts.groupBy("file_index", "verdict").agg(
            F.count(F.lit(1)).alias("n_rows"), F.min("time_us").alias("first"), F.max("time_us").alias("last")
        )
        found = grouped.collect()
        kept = [row for row in found if row.verdict != "duplicate"]
        if kept:
            append_once(_changes(parsed, stored, verdicts, batch, table), root, table, batch.batch_seq)
    finally:
        verdicts.unpersist()
    n_kept = sum(row.n_rows for row in kept)
    _check_storage(spark, root, table, batch, n_kept)
    counts = {(row.file_index, row.verdict): row.n_rows for row in found}
    report = BatchReport(
        batch.batch_seq,
        batch.kind,
        replayed,
        (),
        to_datetime(min(row.first for row in kept)) if kept else None,
        to_datetime(max(row.last for row in kept)) if kept else None,
        warnings=warnings,
    )
    per_file = {
        one.index: (counts.get((one.index, "new"), 0), 0, counts.get((one.index, "duplicate"), 0))
        for one in landed.summaries
    }
    return Stored(per_file, report, {})


def _changes(parsed: DataFrame, stored: DataFrame, verdicts: DataFrame, batch: Batch, table: Table) -> DataFrame:
    """The rows to append: new ones, and stored ones that hold again."""
    key = table.key[0]
    sequence = F.lit(batch.batch_seq).cast("long")
    time = F.timestamp_micros("time_us").alias("valid_from")
    columns = [name for name in table.names if name not in ("valid_from", "batch_seq")]
    new = verdicts.where(F.col("verdict") == "new").select("file_index", "line", time)
    arrived = parsed.drop("valid_from").join(new, ["file_index", "line"], how="inner")
    again = verdicts.where(F.col("verdict") == "restored").select(F.col("row_id").alias(key), time, "source_us")
    source = stored.withColumn("source_us", F.unix_micros("valid_from")).drop("valid_from")
    restored = source.join(again, [key, "source_us"], how="inner")
    rows = [frame.select(*columns, "valid_from") for frame in (arrived, restored)]
    return rows[0].unionByName(rows[1]).withColumn("batch_seq", sequence)


def _snapshot_times(root: Path, batch: Batch) -> list[int]:
    """Times of the snapshots of this feed that earlier batches brought, in microseconds, ascending."""
    times = {
        to_us(dated)
        for row in read_rows(root, INGEST_FILES)
        if row["kind"] == batch.kind and row["state"] == "ingested" and row["batch_seq"] < batch.batch_seq
        if (dated := date_of_path(row["path"])) is not None
    }
    return sorted(times)


def _check_storage(spark: SparkSession, root: Path, table: Table, batch: Batch, expected: int) -> None:
    """Raises ContractError unless storage holds exactly the decided rows of the batch."""
    held = read_table(spark, root, table).where(F.col("batch_seq") == batch.batch_seq).count()
    if held != expected:
        raise ContractError(
            f"{table.name} batch {batch.batch_seq}: expected {expected} rows in storage, got {held}; if a file changed "
            "since the batch was planned, put the original back and run ingest again"
        )


def _warn_of_undated(batch: Batch) -> tuple[str, ...]:
    undated = [one.path for one in batch.files if date_of_path(one.path) is None]
    if batch.watermark is not None or not undated:
        return ()
    return (
        f"{batch.kind}: expected a date in the path, such as {batch.kind}/2026-01-31/, got {undated[0]} in the "
        f"first catalogue; its rows without a {batch.kind}.columns.valid_from hold from 1970 on, so an evaluation of "
        "the past sees titles and prices of today",
    )


CATALOGUE_FEEDS = {kind: Feed(table, _reading, _store) for kind, table in _TABLES.items()}
