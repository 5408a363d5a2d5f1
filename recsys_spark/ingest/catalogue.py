"""The feeds of catalogue snapshots: a row for every change of an item or a user, valid from a time on.

Owns: how snapshots are read, dated and stored.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.schema import Items, Users
from recsys_spark.errors import ContractError
from recsys_spark.ingest.accounting import BatchReport, FileAccount
from recsys_spark.ingest.batches import Batch
from recsys_spark.ingest.catalogue_history import judge_rows
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.parse_catalogue import CatalogueSpec, catalogue_columns, catalogue_parser
from recsys_spark.ingest.read_file import PARSED, Reading
from recsys_spark.ingest.records import Fields
from recsys_spark.ingest.spark_read import Landed
from recsys_spark.ingest.take_in import Feed, Stored
from recsys_spark.ingest.values import to_datetime, to_us
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.spark_tables import append_once, read_table
from recsys_spark.warehouse.tables import INGEST_FILES, ITEMS, USERS

_TABLES = {"items": ITEMS, "users": USERS}
_DATE = re.compile(r"(?<![0-9])([12][0-9]{3})-([01][0-9])-([0-3][0-9])(?![0-9])")


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


def _reading(batch: Batch, folder: Location) -> Reading:
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

    def make_parse(planned: PlannedFile, as_text: bool) -> Callable[[Fields, int], tuple[Any, ...]]:
        return catalogue_parser(spec, as_text, to_us(_valid_from(batch, planned.path)))

    return Reading(
        folder=folder,
        wanted_format=feed.format,
        limits=batch.limits,
        schema=pa.schema(fields),
        make_parse=make_parse,
        tells_rows=False,
        required=frozenset({id_column}),
        expected=frozenset(),
        known=None,
        first=id_column,
    )


def _store(spark: SparkSession, root: Location, batch: Batch, landed: Landed, replayed: bool) -> Stored:
    """Appends the rows that change what is known, and checks their number in storage against the verdicts.

    In a replay whose rows were stored before, storage decides: a snapshot that was overwritten in place since gives
    other verdicts.  Raises ContractError if the numbers differ in any other case.
    """
    warnings = _warn_of_undated(batch)
    if not landed.n_parsed and not replayed:
        return Stored({}, BatchReport(batch.batch_seq, batch.kind, replayed, (), warnings=warnings), {})
    found = _append_changes(spark, root, batch, landed) if landed.n_parsed else []
    n_kept = sum(row.n_rows for row in found if row.verdict != "duplicate")
    held = _read_back(spark, root, batch)
    if held.n_rows != n_kept and not (replayed and held.n_rows):
        raise ContractError(
            f"{batch.kind} batch {batch.batch_seq}: expected {n_kept} rows in storage, got {held.n_rows}; this is a "
            "fault of the program"
        )
    if held.n_rows != n_kept:
        warnings += (
            f"{batch.kind} batch {batch.batch_seq}: expected the {held.n_rows} rows that were stored before a crash, "
            f"got {n_kept} from its files as they are now; the stored rows stay, and changed files are read anew",
        )
    counts = {(row.file_index, row.verdict): row.n_rows for row in found}
    per_file = {
        one.index: (counts.get((one.index, "new"), 0), 0, counts.get((one.index, "duplicate"), 0))
        for one in landed.summaries
    }
    first, last = (None if time_us is None else to_datetime(time_us) for time_us in (held.first, held.last))
    report = BatchReport(batch.batch_seq, batch.kind, replayed, (), first, last, warnings=warnings)
    return Stored(per_file, report, _account_lost(batch, landed, held.n_rows - n_kept))


def _append_changes(spark: SparkSession, root: Location, batch: Batch, landed: Landed) -> list[Row]:
    """Appends the rows of the batch; returns the verdicts, counted as (file_index, verdict, n_rows)."""
    table = _TABLES[batch.kind]
    parsed = landed.rows(PARSED)
    stored = read_table(spark, root, table).where(F.col("batch_seq") < batch.batch_seq)
    verdicts = judge_rows(parsed, stored, table.key[0], _snapshot_times(root, batch)).persist(StorageLevel.DISK_ONLY)
    try:
        found = verdicts.groupBy("file_index", "verdict").agg(F.count(F.lit(1)).alias("n_rows")).collect()
        if any(row.verdict != "duplicate" for row in found):
            append_once(_changes(parsed, stored, verdicts, batch, table), root, table, batch.batch_seq)
    finally:
        verdicts.unpersist()
    return found


def _read_back(spark: SparkSession, root: Location, batch: Batch) -> Row:
    """Rows of the batch in storage: n_rows, and their first and last valid_from in microseconds, None without rows."""
    rows = read_table(spark, root, _TABLES[batch.kind]).where(F.col("batch_seq") == batch.batch_seq)
    # Times are collected as numbers: PySpark returns timestamps in the zone of the host.
    time_us = F.unix_micros("valid_from")
    figures = (F.count(F.lit(1)).alias("n_rows"), F.min(time_us).alias("first"), F.max(time_us).alias("last"))
    return rows.agg(*figures).collect()[0]


def _account_lost(batch: Batch, landed: Landed, n_rows: int) -> dict[int, FileAccount]:
    """The accounts of files that changed after `n_rows` of theirs had been stored.

    A row of the catalogue does not say which file brought it: all are counted for the first of several such files.
    """
    changed = [batch.files[one.index] for one in landed.summaries if one.reason == "mutated"] if n_rows > 0 else []
    return {
        one.index: FileAccount(one, "ingested", "changed_after_storing", n_lines, n_lines)
        for one, n_lines in zip(changed, (n_rows, *[0] * len(changed)), strict=False)
    }


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


def _snapshot_times(root: Location, batch: Batch) -> list[int]:
    """Times of the snapshots of this feed that earlier batches brought, in microseconds, ascending."""
    times = {
        to_us(dated)
        for row in read_rows(root, INGEST_FILES)
        if row["kind"] == batch.kind and row["state"] == "ingested" and row["batch_seq"] < batch.batch_seq
        if (dated := date_of_path(row["path"])) is not None
    }
    return sorted(times)


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
