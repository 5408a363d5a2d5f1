"""History of the catalogue: which rows of a snapshot change what is known of an id, in any order of delivery.

Owns: the history of one id as rows that each hold until the next, and the merge of all ids of a batch by Spark.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

# A snapshot that is delivered again with another content takes effect just after the first delivery of the same time.
CORRECTION_US = 1000

_STORED, _SNAPSHOT, _ARRIVAL = 0, 1, 2


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


@dataclass(frozen=True)
class Arrival:
    """A row of the batch.  dated_by_file: its time is that of the snapshot, not one that the row gives itself."""

    time_us: int
    content: str
    file_index: int
    line: int
    dated_by_file: bool


@dataclass(frozen=True)
class Verdict:
    """What becomes of a row.

    new: it is stored as of `time_us`.  duplicate: its content was known.  restored: nothing arrived; the stored row of
    `source_us` is stored again as of `time_us`, because a late snapshot must not outlive the snapshot after it.
    """

    kind: Literal["new", "duplicate", "restored"]
    time_us: int
    file_index: int = -1
    line: int = 0
    source_us: int = -1


def merge_history(
    stored: Sequence[tuple[int, str]], arriving: Sequence[Arrival], snapshots: Sequence[int]
) -> Iterator[Verdict]:
    """One verdict per arrival, and the `restored` ones.

    stored: (time_us, content) of one id, ascending.  snapshots: times of the snapshots that were ingested before,
    ascending; they confirmed every stored row that they did not change.  Of arrivals for the same time, the last in the
    order of files and lines holds; the others are duplicates.
    """
    order = sorted(arriving, key=lambda one: (one.time_us, one.file_index, one.line))
    for earlier, later in pairwise(order):
        if earlier.time_us == later.time_us:
            yield Verdict("duplicate", earlier.time_us, earlier.file_index, earlier.line)
    held = {one.time_us: one for one in order}
    taken = {time_us for time_us, _ in stored}
    steps: list[tuple[int, int, str | Arrival]] = [(time_us, _STORED, content) for time_us, content in stored]
    steps += [(_after_corrections(one.time_us, stored), _ARRIVAL, one) for one in held.values()]
    steps += [(time_us, _SNAPSHOT, "") for time_us in snapshots if time_us not in held]
    current = old = ""  # content in force with and without the batch; "" before the first row
    old_us, late = -1, False
    for time_us, kind, what in sorted(steps, key=lambda step: step[:2]):
        if kind == _STORED:
            current = old = str(what)
            old_us, late = time_us, False
        elif isinstance(what, Arrival):
            if what.content == current:
                yield Verdict("duplicate", time_us, what.file_index, what.line)
                continue
            current, late = what.content, what.dated_by_file
            yield Verdict("new", time_us + (time_us in taken), what.file_index, what.line)
        elif late and old and current != old:
            current, late = old, False
            yield Verdict("restored", time_us, source_us=old_us)


def _after_corrections(time_us: int, stored: Sequence[tuple[int, str]]) -> int:
    """`time_us`, or the time of the last stored row that corrected a row of that time."""
    return max((at for at, _ in stored if time_us <= at < time_us + CORRECTION_US), default=time_us)


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
    """The rows of one id, split into stored and arriving ones, each in the order in which they came."""
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
