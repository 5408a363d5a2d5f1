"""Reading of landed files over the cluster, one Spark task per group of files, and deduplication by event key.

Owns: the spread of files over tasks around `ingest.read_file`, the parsed frame and what is selected from it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.read_file import PARSED, REFUSED, SUMMARY, FileSummary, Reading, read_file
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.spark_check import spark_schema

# Opening, proving and summing up a file costs about as much as parsing this many compressed bytes.
_FILE_COST_BYTES = 32 << 10
# Several groups per core, so that cores stay busy when one group takes longer than its bytes suggest.
_GROUPS_PER_CORE = 4
# A day with more rows is written as several files by several tasks.
_ROWS_PER_WRITE = 2_000_000


@dataclass(frozen=True)
class Landed:
    """What a batch's files hold.

    frame: `landed_schema`, kept on disk until `release`.  summaries: one per file, in the order of the plan.
    """

    frame: DataFrame
    summaries: tuple[FileSummary, ...]

    def rows(self, status: int) -> DataFrame:
        """The parsed or the refused rows of the files that were read to their end."""
        void = [one.index for one in self.summaries if one.state != "read"]
        rows = self.frame.where(F.col("status") == status)
        return rows.where(~F.col("file_index").isin(void)) if void else rows

    @property
    def n_parsed(self) -> int:
        """Rows that were parsed, of the files that were read."""
        return sum(one.n_parsed for one in self.summaries)

    def release(self) -> None:
        """Frees the disk space of the frame."""
        self.frame.unpersist()


def read_landed(spark: SparkSession, files: Sequence[PlannedFile], reading: Reading, table: Table) -> Landed:
    """Parses the files, each exactly once; `table` declares the types of the parsed columns.

    The driver sees one summary per file.
    """
    groups = spread_files(files, spark.sparkContext.defaultParallelism * _GROUPS_PER_CORE)
    frame = (
        spark.range(0, len(groups), 1, len(groups))
        .mapInArrow(_group_reader(groups, reading), _landed_type(reading, table))
        .persist(StorageLevel.DISK_ONLY)
    )
    answers = frame.where(F.col("status") == SUMMARY).select("detail").collect() if files else []
    summaries = sorted((FileSummary.from_json(row.detail) for row in answers), key=lambda one: one.index)
    return Landed(frame, tuple(summaries))


def spread_files(files: Sequence[PlannedFile], n_groups: int) -> list[list[PlannedFile]]:
    """At most `n_groups` groups (at least one) of about equal cost: the largest file first, to the lightest group."""
    groups: list[list[PlannedFile]] = [[] for _ in range(max(1, min(n_groups, len(files))))]
    loads = [0] * len(groups)
    for file in sorted(files, key=lambda one: (-one.n_bytes, one.index)):
        lightest = loads.index(min(loads))
        groups[lightest].append(file)
        loads[lightest] += file.n_bytes + _FILE_COST_BYTES
    return groups


def _group_reader(
    groups: list[list[PlannedFile]], reading: Reading
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for group in batch["id"].to_pylist():
                for planned in groups[group]:
                    yield from read_file(planned, reading)

    return read_groups


def _landed_type(reading: Reading, table: Table) -> T.StructType:
    """The Spark type of `landed_schema`."""
    declared = {one.name: one.dataType for one in spark_schema(table)} | {"dated_by_file": T.BooleanType()}
    place = [("file_index", T.IntegerType()), ("line", T.LongType()), ("status", T.ByteType())]
    parsed = [(name, declared[name]) for name in reading.schema.names]
    refusal = [(name, T.StringType()) for name in ("reason", "detail", "raw", "raw_sha256")]
    return T.StructType([T.StructField(name, kind) for name, kind in (*place, *parsed, *refusal)])


def files_frame(spark: SparkSession, files: Sequence[PlannedFile]) -> DataFrame:
    """One row per file: file_index, path, file_sha256."""
    rows = [(one.index, one.path, one.sha256) for one in files]
    return F.broadcast(spark.createDataFrame(rows, "file_index int, path string, file_sha256 string"))


def count_first(landed: Landed, known: DataFrame | None) -> dict[int, tuple[int, int, int]]:
    """Per file index the numbers of new events with a user, of new ones without a user, and of known ones.

    known: (event_key, ds) of earlier batches.  Of equal keys the first by file and line is new.
    """
    rows = landed.rows(PARSED).select(
        "file_index", "line", "event_key", "ds", F.col("user_id").isNull().alias("nobody")
    )
    ranked = _rank_keys(rows, known, F.lit(0)).where(F.col("file_index") >= 0)
    first = F.col("place") == 1
    counts = ranked.groupBy("file_index").agg(
        F.count_if(first & ~F.col("nobody")).alias("n_new"),
        F.count_if(first & F.col("nobody")).alias("n_anonymous"),
        F.count_if(~first).alias("n_duplicate"),
    )
    return {row.file_index: (row.n_new, row.n_anonymous, row.n_duplicate) for row in counts.collect()}


def first_events(landed: Landed, known: DataFrame | None, files: DataFrame) -> DataFrame:
    """The new events, with the columns of `events` except batch_seq, clustered by day for the write."""
    per_day: dict[int, int] = {}
    for summary in landed.summaries:
        for day, n_rows in summary.days.items():
            per_day[day] = per_day.get(day, 0) + n_rows
    n_shares = -(-max(per_day.values(), default=1) // _ROWS_PER_WRITE)
    share = F.pmod(F.xxhash64("event_key"), F.lit(n_shares)) if n_shares > 1 else F.lit(0)
    rows = landed.rows(PARSED).drop("status", "reason", "detail", "raw", "raw_sha256")
    ranked = _rank_keys(rows, known, share)
    return (
        ranked.where((F.col("file_index") >= 0) & (F.col("place") == 1))
        .join(files.drop("path"), "file_index", how="inner")
        .drop("file_index", "place", "share")
    )


def _rank_keys(rows: DataFrame, known: DataFrame | None, share: Column) -> DataFrame:
    """`rows` and known keys (file_index -1) with `place`: 1 for the first of each key.

    One shuffle by day serves the ranking and the write after it; a key never leaves its day.
    """
    if known is not None:
        marked = known.select("event_key", "ds", F.lit(-1).alias("file_index"), F.lit(0).cast("long").alias("line"))
        rows = rows.unionByName(marked, allowMissingColumns=True)
    by_key = Window.partitionBy("ds", "share", "event_key").orderBy("file_index", "line")
    clustered = rows.withColumn("share", share).repartition("ds", "share")
    return clustered.withColumn("place", F.row_number().over(by_key))


def refused_rows(landed: Landed, files: DataFrame) -> DataFrame:
    """Refused lines, and one row without a line per file that was quarantined whole.

    Columns: path, file_sha256, line, reason, detail, raw, raw_sha256.
    """
    columns = ["file_index", "line", "reason", "detail", "raw", "raw_sha256"]
    lines = landed.rows(REFUSED).select(columns)
    whole = [(one.index, one.reason, one.detail) for one in landed.summaries if one.state != "read"]
    if whole:
        spark = landed.frame.sparkSession
        missing = spark.createDataFrame(whole, "file_index int, reason string, detail string")
        lines = lines.unionByName(missing, allowMissingColumns=True)
    return lines.join(files, "file_index", how="inner").select("path", "file_sha256", *columns[1:])
