"""Data tables in Spark: pinned reads, the append of an ingest batch and the stage of a run; no other code does these.

Owns: the two ways in which data is written (append once per ingest batch, stage of a run) and the pinned read.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.location import Location, spark_url
from recsys_spark.warehouse.run_files import RunFiles, list_run, list_version
from recsys_spark.warehouse.run_id import check_run_id
from recsys_spark.warehouse.run_writer import WRITTEN_SCHEMA, Maker, commit_files, write_rows
from recsys_spark.warehouse.spark_check import spark_schema

_GLOB = re.compile(r"[{}\[\]*?\\]")  # characters that Spark takes for a pattern in a path of files


def read_table(spark: SparkSession, root: Location, table: Table, version: int | None = None) -> DataFrame:
    """The table as a frame in contract order, at `version` if one is given.

    Every step reads a pinned table without partitions (`items`, `users`) whole, and Delta's scan could skip no file: so
    it is read as a run is.
    """
    if version is not None and not table.partition_by:
        folder = table_path(root, table.name)
        return _read_files(spark, list_version(folder, table.name, version), spark_schema(table))
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(spark_url(table_path(root, table.name))).select(*table.names)


def read_run(spark: SparkSession, root: Location, table: Table, run_id: str) -> DataFrame:
    """The rows of one run, without `run_id`; a frame without rows if the run has no file.

    The log is read here, without Spark: Delta's own scan queries it by two jobs or more whenever a query is planned,
    which was a third of the jobs of a small day.  Raises DamagedError if a file is missing or differs from its size in
    the log.
    """
    run = list_run(table_path(root, table.name), table.name, check_run_id(run_id), None)
    return _read_files(spark, run, spark_schema(table, without=("run_id",)))


def _read_files(spark: SparkSession, listed: RunFiles, schema: StructType) -> DataFrame:
    if not listed.files:
        # Spark reads, plans and shuffles nothing below an empty relation.
        columns = [F.lit(None).cast(field.dataType).alias(field.name) for field in schema]
        return spark.range(0).where(F.lit(False)).select(*columns)
    paths = [_GLOB.sub(r"\\\g<0>", spark_url(listed.checked_path(file))) for file in listed.files]
    return spark.read.schema(schema).parquet(*paths)


def append_once(frame: DataFrame, root: Location, table: Table, batch_seq: int) -> None:
    """Appends the rows of an ingest batch; a batch that was appended before is skipped by Delta.

    The pair (application, version) is the batch's identity: a correction needs a new `batch_seq`.
    """
    (
        frame.select(*table.names)
        .write.format("delta")
        .mode("append")
        .option("txnAppId", f"recsys.{table.name}")
        .option("txnVersion", batch_seq)
        .save(spark_url(table_path(root, table.name)))
    )


@dataclass(frozen=True)
class TaskRows:
    """Rows that tasks make while they write them, so that they never go through the JVM.

    frame: what they are made of; its partitions, and the rows in them, in the order of the table's `sort_by`.  make:
    from Arrow batches of `frame`, and counts that it may raise, to batches in the table's columns without `run_id`.
    told: called with the counts of all tasks when the rows are written.
    """

    frame: DataFrame
    make: Maker
    told: Callable[[Mapping[str, int]], None]


def stage_run(rows: DataFrame | TaskRows, root: Location, table: Table, run_id: str) -> None:
    """Writes the rows of a run, which replace those that it wrote before; invisible until the run is published."""
    check_run_id(run_id)
    if isinstance(rows, DataFrame):
        rows = TaskRows(_laid_out(rows, table), lambda batches, _: batches, lambda _: None)
    folder = table_path(root, table.name)
    answer = rows.frame.mapInArrow(write_rows(folder, table, run_id, rows.make), WRITTEN_SCHEMA).toArrow()
    written = answer.to_pylist(maps_as_pydicts="strict")
    commit_files(folder, table, run_id, written)
    rows.told(sum((Counter(row["counts"]) for row in written), Counter()))


def _laid_out(frame: DataFrame, table: Table) -> DataFrame:
    """The columns of `table` except `run_id`, in order, and rows in order of `sort_by`."""
    frame = frame.select(*[name for name in table.names if name != "run_id"])
    if table.sort_by:
        frame = frame.repartitionByRange(*table.sort_by).sortWithinPartitions(*table.sort_by)
    return frame
