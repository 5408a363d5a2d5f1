"""The history of every id of a catalogue batch, merged by Spark around `kernels.history`.

Owns: the frames into and out of the kernel.  Called by the catalogue step.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.kernels.history import Arrival, merge_history

_OUT = pa.schema(
    [
        ("row_id", pa.string()),
        ("verdict", pa.string()),
        ("time_us", pa.int64()),
        ("file_index", pa.int32()),
        ("line", pa.int64()),
        ("source_us", pa.int64()),
    ]
)
_OUT_TYPE = "row_id string, verdict string, time_us long, file_index int, line long, source_us long"
_IN = ("row_id", "time_us", "content_sha256", "file_index", "line", "dated_by_file")
_BATCH_ROWS = 20_000


def judge_rows(arriving: DataFrame, stored: DataFrame, key: str, snapshots: Sequence[int]) -> DataFrame:
    """One row per verdict of `merge_history`: row_id, verdict, time_us, file_index, line, source_us.

    arriving: parsed rows with file_index and line.  stored: rows of earlier batches.  snapshots: see `merge_history`.
    """
    time_us = F.unix_micros("valid_from").alias("time_us")
    id_column = F.col(key).alias("row_id")
    new = arriving.select(id_column, time_us, "content_sha256", "file_index", "line", "dated_by_file")
    old = stored.select(
        id_column, time_us, "content_sha256", F.lit(-1).alias("file_index"), F.lit(0).cast("long").alias("line"),
        F.lit(False).alias("dated_by_file"),
    )  # fmt: skip
    rows = new.unionByName(old).repartition("row_id").sortWithinPartitions("row_id", "time_us")
    return rows.mapInArrow(_judge(tuple(snapshots)), _OUT_TYPE)


def _judge(snapshots: tuple[int, ...]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def judge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: list[tuple[Any, ...]] = []
        for row_id, rows in groupby(_rows(batches), key=lambda row: row[0]):
            stored, arriving = _divide(rows)
            if not arriving:
                continue
            for one in merge_history(stored, arriving, snapshots):
                found.append((row_id, one.kind, one.time_us, one.file_index, one.line, one.source_us))
            if len(found) >= _BATCH_ROWS:
                yield _batch(found)
                found = []
        if found:
            yield _batch(found)

    return judge


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(batch[name].to_pylist() for name in _IN), strict=True)


def _divide(rows: Iterator[tuple[Any, ...]]) -> tuple[list[tuple[int, str]], list[Arrival]]:
    """Rows of one id, stored and arriving apart, each in the order in which they came."""
    stored: list[tuple[int, str]] = []
    arriving: list[Arrival] = []
    for _, time_us, content, file_index, line, dated_by_file in rows:
        if file_index < 0:
            stored.append((time_us, content))
        else:
            arriving.append(Arrival(time_us, content, file_index, line, dated_by_file))
    return stored, arriving


def _batch(found: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*found, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, one.type) for column, one in zip(columns, _OUT, strict=True)], schema=_OUT
    )
