"""The only place that reads or writes data tables with Spark.

Owns: the two ways in which data is written (append once per ingest batch, stage of a run) and the pinned
read.  Called by ingest and the runner; steps themselves only see frames.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.tables.contract import Table
from recsys_spark.tables.ledger import table_path
from recsys_spark.tables.run_files import RunFiles, list_run, list_version
from recsys_spark.tables.run_id import check_run_id
from recsys_spark.tables.spark import spark_schema

_GLOB = re.compile(r"[{}\[\]*?\\]")  # what Spark takes for a pattern in a path of files


def read_table(spark: SparkSession, root: Path | str, table: Table, version: int | None = None) -> DataFrame:
    """The table as a frame in contract order, at `version` if one is given.

    A pinned table without partitions (`items`, `users`) is read whole by every step, so that Delta's scan could leave
    no file out: it is read as a run is.
    """
    if version is not None and not table.partition_by:
        folder = Path(table_path(root, table.name))
        return _read_files(spark, list_version(folder, table.name, version), spark_schema(table))
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(table_path(root, table.name)).select(*table.names)


def read_run(spark: SparkSession, root: Path | str, table: Table, run_id: str) -> DataFrame:
    """The rows of one run, without `run_id`; no file of the run: a frame without rows.

    The log is read here, without Spark: Delta's own scan asks it by two jobs or more whenever a query is planned, which
    was a third of the jobs of a small day.  Raises DamagedError if a file is gone or has not the size in the log.
    """
    run = list_run(Path(table_path(root, table.name)), table.name, check_run_id(run_id), None)
    return _read_files(spark, run, spark_schema(table, without=("run_id",)))


def _read_files(spark: SparkSession, listed: RunFiles, schema: StructType) -> DataFrame:
    if not listed.files:
        # Nothing is read, planned or shuffled below an empty relation.
        columns = [F.lit(None).cast(field.dataType).alias(field.name) for field in schema]
        return spark.range(0).where(F.lit(False)).select(*columns)
    paths = [_GLOB.sub(r"\\\g<0>", str(listed.checked_path(file))) for file in listed.files]
    return spark.read.schema(schema).parquet(*paths)


def append_once(frame: DataFrame, root: Path | str, table: Table, batch_seq: int) -> None:
    """Appends the rows of an ingest batch; a batch that was appended before is skipped by Delta.

    The pair (application, version) is the batch's identity: a correction needs a new `batch_seq`.
    """
    (
        frame.select(*table.names)
        .write.format("delta")
        .mode("append")
        .option("txnAppId", f"recsys.{table.name}")
        .option("txnVersion", batch_seq)
        .save(table_path(root, table.name))
    )


def stage_run(frame: DataFrame, root: Path | str, table: Table, run_id: str) -> None:
    """Writes the rows of a run in place of any that the run wrote before; invisible until the run is published."""
    check_run_id(run_id)
    laid_out = frame.withColumn("run_id", F.lit(run_id)).select(*table.names)
    if table.sort_by:
        laid_out = laid_out.repartitionByRange(*table.sort_by).sortWithinPartitions(*table.sort_by)
    path = table_path(root, table.name)
    writer = laid_out.write.format("delta").mode("append")
    # Most stages are the first of their run and table, and an append has not to ask Delta for what it replaces.  The
    # caller holds the lock of the warehouse, so that what a killed stage committed is listed here.
    if list_run(Path(path), table.name, run_id, None).files:
        writer = writer.mode("overwrite").option("replaceWhere", f"run_id = '{run_id}'")
    with _layout(frame.sparkSession, table.row_group_bytes):
        writer.save(path)


@contextmanager
def _layout(spark: SparkSession, row_group_bytes: int) -> Iterator[None]:
    """Writes inside the block keep the order of rows, in Parquet row groups of about `row_group_bytes` if not 0.

    Delta passes no option of a writer through, but the session's settings reach its writers.
    """
    # A partitioned write is sorted again by run_id, and a sort that spills loses the order of the lookup column; with
    # concurrent writers there is no such sort, and a run writes one partition.
    settings = {"spark.sql.maxConcurrentOutputFileWriters": 2}
    if row_group_bytes:
        settings["parquet.block.size"] = row_group_bytes
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in settings:
            spark.conf.unset(name)
