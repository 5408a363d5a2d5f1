"""Ingest of event logs: every event once, under the day on which it happened.

Owns: how event files are read and stored.
"""

from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.schema import Events
from recsys_spark.errors import ContractError
from recsys_spark.ingest.accounting import BatchReport, FileAccount
from recsys_spark.ingest.batches import Batch, has_earlier
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.parse_event import EVENT_COLUMNS, UNDATED_US, EventSpec, event_parser
from recsys_spark.ingest.read_file import Reading
from recsys_spark.ingest.spark_read import Landed, count_first, files_frame, first_events
from recsys_spark.ingest.take_in import Feed, Stored
from recsys_spark.ingest.values import US_PER_DAY, to_datetime, to_us
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.spark_tables import append_once, read_table
from recsys_spark.warehouse.tables import EVENTS

# Clocks of clients run ahead: times up to this much after the arrival are accepted, later ones are in the future.
FUTURE_BOUND = timedelta(hours=1)

# Batches that come every quarter of an hour reach the present after 26 years; each of ten thousand files has 90,000
# lines.
_BATCH_US = US_PER_DAY // 96

_EPOCH_DAY = date(1970, 1, 1).toordinal()


def _reading(batch: Batch, folder: Location) -> Reading:
    """How the files of an event batch are read."""
    events = batch.feed
    assert isinstance(events, Events)  # noqa: S101 - the kind decides the model
    columns, bounds = events.columns, batch.bounds
    earliest = None
    if batch.watermark is not None and not batch.history:
        earliest = to_us(batch.watermark - timedelta(days=bounds.late_days))
    spec = EventSpec(events, to_us(batch.received_at + FUTURE_BOUND), earliest)
    types = () if events.default_type else (columns.event_type,)
    times = (columns.event_time,) if events.is_timed else ()
    lines_us = [_lines_us(batch, planned) for planned in batch.files]
    schema = arrow_schema(EVENTS)
    return Reading(
        folder=folder,
        wanted_format=events.format,
        limits=batch.limits,
        schema=pa.schema([schema.field(name) for name in EVENT_COLUMNS]),
        make_parse=lambda planned, as_text: event_parser(replace(spec, lines_us=lines_us[planned.index]), as_text),
        required=frozenset({columns.item_id, *times, *types}),
        expected=frozenset({columns.user_id}),
        known=frozenset({*columns.model_dump().values(), *events.attributes}),
        first=columns.item_id,
        tells_rows=events.is_timed or not events.default_type,
    )


def _lines_us(batch: Batch, planned: PlannedFile) -> range:
    """The times that stand for the lines of a file without times: a part of a day per batch, divided among its files.

    Files are in their order.  If a file has more lines than its share has times, its last lines have the same time.
    """
    share = _BATCH_US // len(batch.files)
    first = UNDATED_US + batch.batch_seq * _BATCH_US + planned.index * share
    return range(first, first + share)


def _store(spark: SparkSession, root: Location, batch: Batch, landed: Landed, replayed: bool) -> Stored:
    """Appends the new events, and checks their number in storage against what was decided."""
    counts: dict[int, tuple[int, int, int]] = {}
    if landed.n_parsed:
        known = _known_keys(spark, root, batch, landed)
        counts = count_first(landed, known)
        rows = first_events(landed, known, files_frame(spark, batch.files))
        append_once(rows.withColumn("batch_seq", F.lit(batch.batch_seq).cast("long")), root, EVENTS, batch.batch_seq)
    if not landed.n_parsed and not replayed:
        return Stored({}, BatchReport(batch.batch_seq, batch.kind, replayed, ()), {})
    held, report = _read_back(spark, root, batch, replayed)
    changed = [one.index for one in landed.summaries if one.reason == "mutated"]
    if replayed and any(batch.files[index].sha256 in held for index in changed):
        return _account_from_storage(batch, landed, held, report)
    for index, planned in enumerate(batch.files):
        decided = counts.get(index, (0, 0, 0))[:2]
        if held.get(planned.sha256, (0, 0)) != decided:
            raise ContractError(
                f"events batch {batch.batch_seq}, {planned.path}: expected {decided} new rows with and without a user, "
                f"got {held.get(planned.sha256)} in storage; this is a fault of the program"
            )
    return Stored(counts, report, {})


def _known_keys(spark: SparkSession, root: Location, batch: Batch, landed: Landed) -> DataFrame | None:
    """Keys of earlier batches in the days that the batch touches; None if there is no earlier event.

    Bounded by batch_seq and not by a version of the table: a replay must give the same answer, and versions expire.
    An event without a time may repeat one of any day: its day only tells when it arrived.
    """
    if not has_earlier(root, batch):
        return None
    days = sorted({day for one in landed.summaries for day in one.days})
    dates = [date.fromordinal(_EPOCH_DAY + day) for day in days]
    earlier = read_table(spark, root, EVENTS).where(F.col("batch_seq") < batch.batch_seq)
    feed = batch.feed
    assert isinstance(feed, Events)  # noqa: S101 - the kind decides the model
    if not feed.is_timed:
        return earlier.select("event_key", F.explode(F.array(*map(F.lit, dates))).alias("ds"))
    return earlier.where(F.col("ds").isin(dates)).select("event_key", "ds")


def _read_back(
    spark: SparkSession, root: Location, batch: Batch, replayed: bool
) -> tuple[dict[str, tuple[int, int]], BatchReport]:
    """The batch in storage: per file hash the rows with and without a user, and the report without files."""
    rows = read_table(spark, root, EVENTS).where(F.col("batch_seq") == batch.batch_seq)
    # Times are collected as numbers: PySpark returns timestamps in the zone of the host.
    time_us = F.unix_micros("event_time")
    grouped = rows.groupingSets([[F.col("file_sha256")], [F.col("ds")]], "file_sha256", "ds").agg(
        F.count(F.lit(1)).alias("n_rows"),
        F.count("user_id").alias("n_users"),
        F.min(time_us).alias("first"),
        F.max(time_us).alias("last"),
    )
    found = grouped.collect()
    files = {row.file_sha256: (row.n_users, row.n_rows - row.n_users) for row in found if row.file_sha256 is not None}
    days = {row.ds: row.n_rows for row in found if row.ds is not None}
    feed = batch.feed
    assert isinstance(feed, Events)  # noqa: S101 - the kind decides the model
    last = batch.watermark.date() if batch.watermark and feed.is_timed else date.min
    late = {day: n_rows for day, n_rows in days.items() if day < last}
    report = BatchReport(
        batch.batch_seq,
        batch.kind,
        replayed,
        (),
        to_datetime(min(row.first for row in found)) if found else None,
        to_datetime(max(row.last for row in found)) if found else None,
        tuple(sorted(days)),
        late,
    )
    return files, report


def _account_from_storage(
    batch: Batch, landed: Landed, held: dict[str, tuple[int, int]], report: BatchReport
) -> Stored:
    """The accounts of a replay whose files changed after their rows had been stored: storage decides.

    A lost file is counted with the rows that it brought; its duplicates and refused lines can no longer be counted.
    """
    counts, lost = {}, {}
    for one in landed.summaries:
        n_new, n_anonymous = held.get(batch.files[one.index].sha256, (0, 0))
        n_rows = n_new + n_anonymous
        if one.state == "read":
            counts[one.index] = (n_new, n_anonymous, one.n_parsed - n_rows)
        elif n_rows:
            planned = batch.files[one.index]
            lost[one.index] = FileAccount(planned, "ingested", "changed_after_storing", n_rows, n_new, n_anonymous)
    return Stored(counts, report, lost)


EVENT_FEED = Feed(EVENTS, _reading, _store)
