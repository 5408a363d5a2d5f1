"""Blocks of sparse rows from a frame of pairs: one record per block, its arrays as binary columns.

Owns: the way from pairs to blocks without a shuffle of single rows: each task cuts its pairs into one binary chunk per
block, and only chunks travel.  (9 M pairs on two cores: a shuffle of rows takes 12 s, one of chunks 9.)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.sparse import Csr, newest_entries

# A task hands its chunks on when it holds so many pairs: about 24 MB at 24 bytes each.
_PAIRS_AT_ONCE = 1 << 20

# Several blocks per core, so that cores stay busy while the last one is worked on; but a task costs as much as this
# many pairs, and a small log is one block.
_BLOCKS_PER_CORE = 2
_PAIRS_PER_BLOCK = 50_000

# Bytes of a pair in the task that joins and sorts a block: measured with columns of 13 bytes.
PAIR_BYTES = 104

_ROW, _COL = "int32", "int32"


@dataclass(frozen=True)
class RowBlock:
    """Rows `first` to `first + n_rows` (exclusive) of the matrix, with one array per value column.

    indptr: int64 (n_rows + 1,).  cols: int32 (n,), ascending in a row.  columns: each (n,).
    """

    first: int
    indptr: np.ndarray
    cols: np.ndarray
    columns: dict[str, np.ndarray]

    @property
    def n_rows(self) -> int:
        """Number of rows, empty ones too."""
        return len(self.indptr) - 1

    def csr(self, column: str, n_cols: int) -> Csr:
        """The block as a matrix of the values in `column`."""
        return Csr(self.indptr, self.cols, self.columns[column].astype(np.float32, copy=False), n_cols)

    def kept(self, wanted: np.ndarray) -> "RowBlock":
        """The block without the entries where `wanted`, (n,), is false; all rows stay, if empty."""
        rows = np.repeat(np.arange(self.n_rows), np.diff(self.indptr))
        lengths = np.bincount(rows[wanted], minlength=self.n_rows)
        indptr = offsets(lengths)
        return replace(
            self, indptr=indptr, cols=self.cols[wanted], columns={n: c[wanted] for n, c in self.columns.items()}
        )

    def without(self, column: str) -> "RowBlock":
        """The block without a column."""
        return replace(self, columns={name: array for name, array in self.columns.items() if name != column})


@dataclass(frozen=True)
class Newest:
    """At most `n` entries are kept of a row, those with the largest value in column `time`, ties by the smaller col."""

    time: str
    n: int


@dataclass(frozen=True)
class Blocks:
    """A frame of blocks, one record each, in partitions of their own; columns: numpy type by name."""

    frame: DataFrame
    columns: Mapping[str, str]

    @property
    def read(self) -> Callable[[Iterator[pa.RecordBatch]], Iterator[RowBlock]]:
        """The function by which a task of `frame.mapInArrow` makes blocks of its batches."""
        columns = dict(self.columns)

        def read(batches: Iterator[pa.RecordBatch]) -> Iterator[RowBlock]:
            for batch in batches:
                yield from read_blocks(batch, columns)

        return read


def blocks_for(spark: SparkSession, n_pairs: int, block_bytes: int) -> int:
    """How many blocks keep the session's cores busy, or more, see `n_blocks_for`."""
    return n_blocks_for(spark.sparkContext.defaultParallelism, n_pairs, block_bytes)


def n_blocks_for(n_cores: int, n_pairs: int, block_bytes: int) -> int:
    """How many blocks keep the cores busy, or more if a task would take more than `block_bytes` to make one."""
    busy = min(n_cores * _BLOCKS_PER_CORE, n_pairs // _PAIRS_PER_BLOCK)
    return max(1, busy, -(-n_pairs * PAIR_BYTES // block_bytes))


def even_starts(n_rows: int, n_blocks: int) -> np.ndarray:
    """Starts of `n_blocks` blocks of equally many rows, and the end of the last."""
    return np.minimum(np.arange(n_blocks + 1) * max(1, -(-n_rows // n_blocks)), n_rows)


def csr_blocks(
    pairs: DataFrame,
    row: str,
    col: str,
    columns: Mapping[str, str],
    starts: np.ndarray,
    newest: Newest | None = None,
) -> Blocks:
    """The pairs as blocks of rows, block b from row starts[b] to starts[b + 1] (exclusive); one without pairs has no
    record.

    pairs: int columns `row` (below the last start) and `col`, unique together, and those of `columns` (numpy type by
    name), none null.  newest: what is kept of a row; the time is not among the blocks' columns then.
    """
    given = {row: _ROW, col: _COL, **columns}
    chunks = cut_pairs(pairs, row, col, columns, starts, newest)
    left = {name: dtype for name, dtype in columns.items() if newest is None or name != newest.time}
    placed = chunks.repartitionById(max(1, len(starts) - 1), F.col("block"))
    frame = placed.mapInArrow(_join(tuple(given.items()), starts, newest), _schema(BLOCK_FIELDS, {_COLS: _COL, **left}))
    return Blocks(frame, left)


def cut_pairs(
    pairs: DataFrame, row: str, col: str, columns: Mapping[str, str], starts: np.ndarray, newest: Newest | None = None
) -> DataFrame:
    """The pairs that a task met together, one record per block: `block`, and every column as the bytes of an array."""
    given = {row: _ROW, col: _COL, **columns}
    return pairs.select(*given).mapInArrow(_cut(tuple(given.items()), starts, newest), _schema("block int", given))


_COLS = "cols"
BLOCK_FIELDS = "first int, n_filled int, n_entries long, indptr binary"


def read_blocks(batch: pa.RecordBatch, columns: Mapping[str, str]) -> Iterator[RowBlock]:
    """The blocks in the records of a batch."""
    for at, first in enumerate(batch["first"].to_pylist()):
        yield RowBlock(
            first,
            read_array(batch["indptr"], at, "int64"),
            read_array(batch[_COLS], at, _COL),
            {name: read_array(batch[name], at, dtype) for name, dtype in columns.items()},
        )


def read_array(column: pa.Array, at: int, dtype: str) -> np.ndarray:
    """The array whose bytes are the binary value at place `at`; not to be written to."""
    return np.frombuffer(column[at].as_buffer(), np.dtype(dtype))


def block_batch(block: RowBlock) -> pa.RecordBatch:
    """The record of a block."""
    fields = {
        "first": pa.array([block.first], pa.int32()),
        "n_filled": pa.array([int(np.count_nonzero(np.diff(block.indptr)))], pa.int32()),
        "n_entries": pa.array([len(block.cols)], pa.int64()),
        "indptr": pa.array([block.indptr.astype(np.int64).tobytes()], pa.binary()),
        _COLS: pa.array([block.cols.astype(_COL).tobytes()], pa.binary()),
    }
    fields |= {name: pa.array([column.tobytes()], pa.binary()) for name, column in block.columns.items()}
    return pa.RecordBatch.from_pydict(fields)


def _schema(head: str, columns: Mapping[str, str]) -> str:
    return ", ".join((head, *(f"{name} binary" for name in columns)))


def _cut(
    columns: tuple[tuple[str, str], ...], starts: np.ndarray, newest: Newest | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Batches of pairs to chunks: the pairs of one block that a task met together, a binary value per column."""

    def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= _PAIRS_AT_ONCE:
                yield _chunks(held, columns, starts, newest)
                held = []
        if held:
            yield _chunks(held, columns, starts, newest)

    return cut


def _chunks(
    held: list[pa.RecordBatch], columns: tuple[tuple[str, str], ...], starts: np.ndarray, newest: Newest | None
) -> pa.RecordBatch:
    table = pa.Table.from_batches(held)
    arrays = {name: table[name].to_numpy().astype(dtype, copy=False) for name, dtype in columns}
    if newest is not None:
        # What is not among the newest of its row here is not among the newest of all: it need not travel.
        rows, cols = (arrays[name] for name, _ in columns[:2])
        order = np.lexsort((cols, rows))
        indptr = np.append(np.flatnonzero(np.diff(rows[order], prepend=-1)), len(rows))
        kept = order[newest_entries(indptr, cols[order], arrays[newest.time][order], newest.n)]
        arrays = {name: array[kept] for name, array in arrays.items()}
    block = np.searchsorted(starts, arrays[columns[0][0]], side="right") - 1
    order = np.argsort(block, kind="stable")
    firsts = np.flatnonzero(np.diff(block[order], prepend=-1))
    cuts = np.append(firsts, len(order))
    fields: dict[str, pa.Array] = {"block": pa.array(block[order][firsts], pa.int32())}
    for name, array in arrays.items():
        ordered = array[order]
        fields[name] = pa.array([ordered[a:b].tobytes() for a, b in pairwise(cuts)], pa.binary())
    return pa.RecordBatch.from_pydict(fields)


def _join(
    columns: tuple[tuple[str, str], ...], starts: np.ndarray, newest: Newest | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The chunks of one block, which are all that a partition holds, to its record."""

    def join(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        table = pa.Table.from_batches(held)
        number = table["block"][0].as_py()
        first = int(starts[number])
        rows, cols, *values = (
            np.concatenate([read_array(table[name], at, dtype) for at in range(table.num_rows)])
            for name, dtype in columns
        )
        order = np.lexsort((cols, rows))
        lengths = np.bincount(rows - first, minlength=int(starts[number + 1]) - first)
        indptr = offsets(lengths)
        named = {name: array[order] for (name, _), array in zip(columns[2:], values, strict=True)}
        block = RowBlock(first, indptr, cols[order], named)
        if newest is not None:
            block = block.kept(newest_entries(indptr, block.cols, named[newest.time], newest.n)).without(newest.time)
        yield block_batch(block)

    return join
