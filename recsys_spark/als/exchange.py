"""Exchange of factors: how those of the fixed side reach the tasks that solve the other, three ways with one result.

Owns: what a half-iteration sends, and the stored form of factors.

local       the driver solves every block itself: for logs so small that Spark's own work would be most of it.
broadcast   every worker is sent all factors of the fixed side, rotated once.
shuffle     every block sends each block of the other side those of its rows which that block needs, through a shuffle;
            the driver holds Gramians and one record per block, whatever the number of rows.

A task reads its block of the matrix from the scratch, writes the factors that it solved there, and answers with a few
numbers: the matrix passes through neither the driver nor the JVM.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.als.blocks import Side, read_block
from recsys_spark.als.kernels.objective import gramian
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.sparse import Csr
from recsys_spark.spark.arrow_vectors import CHUNK, read_chunk
from recsys_spark.warehouse.scratch import Scratch


@dataclass(frozen=True)
class Factors:
    """The stored factors of a side after half-iteration `half`; block b is an array (rows, f)."""

    side: Side
    half: int

    def name(self, block: int) -> str:
        """Name of the array of a block."""
        return f"{self.side.name}-half-{self.half:05d}-{block:05d}"

    def gramian_name(self, block: int) -> str:
        """Name of the Gramian of a block."""
        return f"{self.name(block)}-gramian"


class Solver(Protocol):
    """Solves vectors of rows from those of the side that is held fixed; sent to every task."""

    def space(self, gram: np.ndarray, n_cols: int) -> Any:
        """What a task must know of the whole fixed side; gram: its Gramian (f, f).  On the driver."""

    def fixed(self, rows: np.ndarray, space: Any) -> Any:
        """Rows of the fixed side, float32 (n, f), made ready."""

    def solve(self, weights: Csr, fixed: Any) -> tuple[np.ndarray, float, float, float]:
        """Vectors of the rows of `weights`, and their sums of loss, penalty and confidence, as in `Solved`."""


class Solved(NamedTuple):
    """What a block answers: sums over its rows (confidence: of its entries), and the hashes of what was stored."""

    block: int
    loss: float
    penalty: float
    confidence: float
    sha256: str


@dataclass(frozen=True)
class Half:
    """A half-iteration: `solved` from `fixed`.

    at_least: rows of entities with fewer entries stay out of it, with factors of zero.  only_below: nothing but such
    rows is solved, the others are those of this earlier half.
    """

    solved: Factors
    fixed: Factors
    solver: Solver
    at_least: int = 1
    only_below: int | None = None


_SOLVED = "block int, loss double, penalty double, confidence double, sha256 string"


def store_factors(scratch: Scratch, factors: Factors, block: int, vectors: np.ndarray) -> str:
    """Stores the factors of a block and their Gramian; the hashes of both."""
    scratch.write(factors.gramian_name(block), gramian(vectors))
    scratch.write(factors.name(block), vectors)
    return hash_of(scratch, factors, block)


def hash_of(scratch: Scratch, factors: Factors, block: int) -> str:
    """The hashes of what is stored of a block, as `store_factors` gives them while it is whole."""
    return f"{scratch.sha256(factors.name(block))} {scratch.sha256(factors.gramian_name(block))}"


def sum_gramians(scratch: Scratch, factors: Factors, of_attributes: bool, size: int) -> np.ndarray:
    """The Gramian of all entities or of all attributes of a side, (size, size): a sum over blocks in their order."""
    total = np.zeros((size, size))
    for block in factors.side.blocks(of_attributes):
        total += scratch.read(factors.gramian_name(block))
    return total


def read_factors(scratch: Scratch, factors: Factors, size: int) -> np.ndarray:
    """All factors of a side, float32 (n_rows, size)."""
    parts = [scratch.read(factors.name(block)) for block in range(factors.side.n_blocks)]
    return np.concatenate([np.empty((0, size), np.float32), *parts])


def solve_half(spark: SparkSession, exchange: str, half: Half, size: int, scratch: Scratch) -> list[Solved]:
    """Solves and stores every block of a side."""
    fixed, found = half.fixed, []
    of_entities = sum_gramians(scratch, fixed, False, size)
    of_all = of_entities + sum_gramians(scratch, fixed, True, size)
    # Attributes have no entries with attributes: their rows see the entities of the other side alone.
    for of_attributes, gram, n_cols in ((False, of_all, fixed.side.n_rows), (True, of_entities, fixed.side.n_entities)):
        blocks = half.solved.side.blocks(of_attributes)
        if blocks:
            solve = {"local": _solve_local, "broadcast": _solve_broadcast, "shuffle": _solve_shuffled}[exchange]
            found += solve(spark, half, blocks, _Space(half.solver.space(gram, n_cols), size), scratch)
    return sorted(found)


class _Space(NamedTuple):
    """What tasks know of the whole fixed side, in the solver's own form, and the length of a vector."""

    known: Any
    size: int


def _solve_local(spark: SparkSession, half: Half, blocks: list[int], space: _Space, scratch: Scratch) -> list[Solved]:
    fixed = half.solver.fixed(read_factors(scratch, half.fixed, space.size), space.known)
    return [_solve_block(scratch, half, block, fixed) for block in blocks]


def _solve_broadcast(
    spark: SparkSession, half: Half, blocks: list[int], space: _Space, scratch: Scratch
) -> list[Solved]:
    rows = read_factors(scratch, half.fixed, space.size)
    broadcast = spark.sparkContext.broadcast(half.solver.fixed(rows, space.known))

    def solve(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch["id"].to_pylist():
                yield _answer(_solve_block(scratch, half, blocks[place], broadcast.value))

    try:
        # One task for each block: they are of about equal work, and few.
        return _solved(spark.range(0, len(blocks), 1, len(blocks)).mapInArrow(solve, _SOLVED))
    finally:
        broadcast.destroy()


def _solve_shuffled(
    spark: SparkSession, half: Half, blocks: list[int], space: _Space, scratch: Scratch
) -> list[Solved]:
    senders = [b for b in range(half.fixed.side.n_blocks) if b in half.fixed.side.filled]
    sent = (
        spark.range(0, max(1, len(senders)), 1, max(1, len(senders)))
        .mapInArrow(_send(half, senders, blocks, scratch), CHUNK)
        .repartitionById(len(blocks), F.col("block"))
    )
    return _solved(sent.mapInArrow(_receive(half, blocks, space, scratch), _SOLVED))


def _solved(frame: DataFrame) -> list[Solved]:
    return [Solved(**row) for row in frame.toArrow().to_pylist()]


def _answer(solved: Solved) -> pa.RecordBatch:
    fields = {name: [value] for name, value in solved._asdict().items()}
    return pa.RecordBatch.from_pydict({**fields, "block": pa.array([solved.block], pa.int32())})


def _send(
    half: Half, senders: list[int], blocks: list[int], scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Sends, from each block of the fixed side, the rows that each block to be solved needs.

    The fixed side's own block of the matrix says which these are, by its entries.  Every block is sent
    something, be it empty, because a task without a message would not store its factors.
    """

    def send(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch["id"].to_pylist():
                if senders:
                    yield from _messages(half, senders[place], blocks, scratch)
                else:
                    none = np.empty(0, np.int32)
                    yield from (_message(to, none, none) for to in range(len(blocks)))

    return send


def _messages(half: Half, block: int, blocks: list[int], scratch: Scratch) -> Iterator[pa.RecordBatch]:
    """What one block of the fixed side sends, to every block once."""
    links = read_block(scratch, half.fixed.side, block, half.solved.side.n_rows)
    vectors, first = scratch.read(half.fixed.name(block)), half.fixed.side.starts[block]
    target = np.searchsorted(half.solved.side.starts, links.indices, side="right") - 1
    order = np.argsort(target, kind="stable")  # rows stay in their order
    rows, target = links.rows[order], target[order]
    for to, number in enumerate(blocks):
        chosen = rows[slice(*np.searchsorted(target, (number, number + 1)))]
        needed = chosen[np.flatnonzero(np.diff(chosen, prepend=-1))]
        yield _message(to, (needed + first).astype(np.int32), vectors[needed])


def _message(to: int, rows: np.ndarray, vectors: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "block": pa.array([to], pa.int32()),
            "rows": pa.array([rows.tobytes()], pa.binary()),
            "vectors": pa.array([vectors.tobytes()], pa.binary()),
        }
    )


def _receive(
    half: Half, blocks: list[int], space: _Space, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def receive(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        number, rows, vectors = None, [np.empty(0, np.int32)], [np.empty((0, space.size), np.float32)]
        for batch in batches:
            for place, to in enumerate(batch["block"].to_pylist()):
                number = blocks[to]
                known, sent = read_chunk(batch, place, space.size)
                rows.append(known)
                vectors.append(sent)
        if number is not None:
            known = np.concatenate(rows)
            order = np.argsort(known)
            fixed = half.solver.fixed(np.concatenate(vectors)[order], space.known)
            yield _answer(_solve_block(scratch, half, number, fixed, known[order]))

    return receive


def _solve_block(scratch: Scratch, half: Half, block: int, fixed: Any, known: np.ndarray | None = None) -> Solved:
    """Solves and stores a block.  known: rows of the fixed side that `fixed` holds, ascending; None: all."""
    side = half.solved.side
    weights = read_block(scratch, side, block, half.fixed.side.n_rows)
    below = np.zeros(weights.n_rows, bool)
    if half.at_least > 1 and side.starts[block] < side.n_entities:
        is_event = weights.indices < half.fixed.side.n_entities  # the others are attributes
        below = np.bincount(weights.rows[is_event], minlength=weights.n_rows) < half.at_least
    if known is not None:
        places = np.searchsorted(known, weights.indices).astype(np.int32)
        weights = Csr(weights.indptr, places, weights.values, len(known))
    if half.only_below is not None:
        found = half.solver.solve(_only(weights, below), fixed)
        earlier = scratch.read(Factors(side, half.only_below).name(block))
        vectors = np.where(below[:, None], found[0], earlier)
    else:
        found = half.solver.solve(_only(weights, ~below) if below.any() else weights, fixed)
        vectors = found[0]
    sha256 = store_factors(scratch, half.solved, block, vectors)
    return Solved(block, *found[1:], sha256)


def _only(weights: Csr, wanted: np.ndarray) -> Csr:
    """`weights` with the rows that are not wanted empty."""
    kept = np.repeat(wanted, weights.lengths)
    indptr = offsets(np.where(wanted, weights.lengths, 0))
    return Csr(indptr, weights.indices[kept], weights.values[kept], weights.n_cols)
