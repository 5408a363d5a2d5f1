"""Blocks of the rating matrix: the rows of both sides, stored once, so that a half-iteration moves factors alone.

Owns: how rows are dealt out to blocks (equal work, not equally many rows), and the stored form of a block.

Rows below `n_entities` are users, or items; those from there on are attributes of the other side, in blocks of their
own (generalised WALS: an attribute of items is a row that has the items which have it).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.als.kernels.objective import row_costs
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.sparse_blocks import Blocks, csr_blocks, n_blocks_for
from recsys_spark.warehouse.scratch import Scratch

BINS = 4096  # ranges of rows whose entries are counted, so that what the driver holds does not grow with the rows
_ROW_BYTES = 12  # of a number of a factor while its row is solved: the vector, its rotation and what is written


@dataclass(frozen=True)
class Side:
    """One side of the matrix.  starts: of its blocks, and the end of the last.  filled: blocks that have entries, with
    the hash of what was stored of them.
    """

    name: str
    starts: tuple[int, ...]
    n_entities: int
    filled: Mapping[int, str]

    @property
    def n_rows(self) -> int:
        """Entities and attributes."""
        return self.starts[-1]

    @property
    def n_blocks(self) -> int:
        """All blocks."""
        return len(self.starts) - 1

    def blocks(self, of_attributes: bool) -> list[int]:
        """The blocks of attributes, or those of entities."""
        return [b for b in range(self.n_blocks) if (self.starts[b] >= self.n_entities) == of_attributes]


@dataclass(frozen=True)
class Sizes:
    """Of both sides: the number of entities, and the number of rows with the attributes after them."""

    n_users: int
    n_items: int
    n_user_rows: int
    n_item_rows: int


def read_block(scratch: Scratch, side: Side, block: int, n_cols: int) -> Csr:
    """The stored block; one without entries has empty rows."""
    if block not in side.filled:
        n_rows = side.starts[block + 1] - side.starts[block]
        return Csr(np.zeros(n_rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), n_cols)
    indptr, cols, weights = (scratch.read(_name(side.name, block, part)) for part in _PARTS)
    return Csr(indptr, cols, weights, n_cols)


_PARTS = ("indptr", "cols", "weights")


def _name(side: str, block: int, part: str) -> str:
    return f"{side}-{block:05d}-{part}"


# Entries in each of the equal ranges of rows that make up a side, by side, int64.
Counts = Mapping[str, np.ndarray]


def fit_blocks(
    pairs: DataFrame, sizes: Sizes, counts: Counts, factors: int, block_bytes: int, n_blocks: int, scratch: Scratch
) -> tuple[Side, Side]:
    """Users' and items' sides, with their blocks stored.

    pairs: user_idx, item_idx (int, the rows of both sides), weight (float, at least 0); counts: of these.  n_blocks: of
    a side, 1 where one task does everything; 0: as many as keep the cores busy.
    """
    sides = []
    for name, n_entities, n_rows in (
        ("users", sizes.n_users, sizes.n_user_rows),
        ("items", sizes.n_items, sizes.n_item_rows),
    ):
        n_pairs = int(counts[name].sum())
        n_cores = pairs.sparkSession.sparkContext.defaultParallelism
        wanted = n_blocks or side_blocks_for(n_cores, n_pairs, n_rows, factors, block_bytes)
        starts = dealt_out(counts[name], n_rows, n_entities, wanted, factors)
        sides.append(Side(name, starts, n_entities, {}))
    users, items = sides
    stored = _stored(pairs, users, "user_idx", "item_idx", scratch).unionByName(
        _stored(pairs, items, "item_idx", "user_idx", scratch)
    )
    rows = stored.toArrow().to_pylist()
    users, items = (
        replace(side, filled={row["block"]: row["sha256"] for row in rows if row["side"] == side.name})
        for side in sides
    )
    return users, items


def side_blocks_for(n_cores: int, n_pairs: int, n_rows: int, factors: int, block_bytes: int) -> int:
    """How many blocks a side is cut into: see `n_blocks_for`; a task also holds the factors of its block's rows."""
    return max(n_blocks_for(n_cores, n_pairs, block_bytes), -(-n_rows * factors * _ROW_BYTES // block_bytes))


def are_stored(side: Side, scratch: Scratch) -> bool:
    """Whether every block is there, as it was stored."""
    return all(sha256 == _sha256(scratch, side, block) for block, sha256 in side.filled.items())


def _sha256(scratch: Scratch, side: Side, block: int) -> str:
    return " ".join(scratch.sha256(_name(side.name, block, part)) for part in _PARTS)


def dealt_out(counts: np.ndarray, n_rows: int, n_entities: int, n_blocks: int, factors: int) -> tuple[int, ...]:
    """Starts of blocks of about equal cost, and the end; no block holds both entities and attributes.

    counts: entries of each of the equal ranges of rows that make up all rows.
    """
    width = _width(n_rows)
    firsts = np.arange(len(counts)) * width
    lengths = np.minimum(firsts + width, n_rows) - firsts
    costs = np.concatenate([[0.0], np.cumsum(row_costs(counts, lengths, factors))])
    cuts = np.searchsorted(costs, costs[-1] * np.arange(1, n_blocks) / n_blocks)
    inside = {int(first) for first in np.minimum(cuts * width, n_rows)}
    return tuple(sorted({0, n_entities, n_rows, *inside}))


def _width(n_rows: int) -> int:
    return max(1, -(-n_rows // BINS))


def fit_counts(pairs: DataFrame, sizes: Sizes) -> Counts:
    """How the entries of `pairs` are spread over both sides; one job that shuffles a few thousand numbers."""
    n_rows = {"users": sizes.n_user_rows, "items": sizes.n_item_rows}
    counted = pairs.select("user_idx", "item_idx").mapInArrow(_count(n_rows), "side string, bin int, n long")
    table = counted.groupBy("side", "bin").agg(F.sum("n").alias("n")).toArrow()
    counts = {side: np.zeros(-(-n // _width(n)), np.int64) for side, n in n_rows.items()}
    for side, bin_, n in zip(*(table[name].to_pylist() for name in ("side", "bin", "n")), strict=True):
        counts[side][bin_] = n
    return counts


def _count(n_rows: Mapping[str, int]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    columns = {"users": "user_idx", "items": "item_idx"}

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = {side: np.zeros(-(-n // _width(n)), np.int64) for side, n in n_rows.items()}
        for batch in batches:
            for side, column in columns.items():
                counts[side] += np.bincount(
                    batch[column].to_numpy() // _width(n_rows[side]), minlength=len(counts[side])
                )
        for side, found in counts.items():
            filled = np.flatnonzero(found)
            fields = {"side": pa.array([side] * len(filled), pa.string()), "bin": pa.array(filled, pa.int32())}
            yield pa.RecordBatch.from_pydict(fields | {"n": pa.array(found[filled])})

    return count


def _stored(pairs: DataFrame, side: Side, row: str, col: str, scratch: Scratch) -> DataFrame:
    """One record per block that has entries; running it stores them."""
    blocks = csr_blocks(pairs, row, col, {"weight": "float32"}, np.array(side.starts))
    return blocks.frame.mapInArrow(_store(blocks, side, scratch), "side string, block int, sha256 string")


def _store(
    blocks: Blocks, side: Side, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    read = blocks.read

    def store(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in read(batches):
            number = side.starts.index(block.first)
            arrays = (block.indptr.astype(np.int64), block.cols, block.columns["weight"])
            for part, array in zip(_PARTS, arrays, strict=True):
                scratch.write(_name(side.name, number, part), array)
            fields = {"side": [side.name], "block": pa.array([number], pa.int32())}
            yield pa.RecordBatch.from_pydict({**fields, "sha256": [_sha256(scratch, side, number)]})

    return store
