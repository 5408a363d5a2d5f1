"""ALS over the cluster: half-iterations over stored blocks, each stored and marked, so that a kill costs one at most.

Owns: the order of a fit, where it starts, when it ends, and how it goes on after a kill.

Half h solves users from items where h is odd, items from users where it is even.  Half 0 is the factors of items that
the fit starts from: those of an earlier fit, or small random numbers.  An item that the earlier fit did not have starts
from a tenth of the random numbers of a cold start: next to nothing for its users, and yet not zero, because users and
items that only have each other would stay at zero for good.  When the fit has ended, all users are solved once more:
their factors are then what folding in their history gives.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.als.blocks import Side, Sizes, are_stored, fit_blocks, fit_counts, read_block
from recsys_spark.als.exchange import Factors, Half, hash_of, solve_half, store_factors
from recsys_spark.als.kernels.objective import Ridge, initial_factors
from recsys_spark.config.models import Als
from recsys_spark.errors import KernelError
from recsys_spark.failpoint import failpoint
from recsys_spark.spark.arrow_vectors import cut_vectors, read_chunk
from recsys_spark.spark.sparse_blocks import PAIR_BYTES
from recsys_spark.warehouse.scratch import Scratch

_NEW = np.float32(0.1)  # a new item of a warm start begins with this part of a cold start's numbers


_log = logging.getLogger(__name__)
# Bytes of matrix and factors up to which the driver fits alone: it then takes about as long as Spark's own work would.
_LOCAL_BYTES = 16 << 20
_ENTRY_BYTES, _NUMBER_BYTES = 16, 4  # of an entry, on both sides together, and of a number of a factor
_SENT_BYTES = 12  # of a number that a task is sent: as it arrives, sorted, and rotated
# Rounding may raise the objective: by this part of its value without factors, which is the sum of all confidences.
_ROUNDING = 1e-6
FACTOR_ROWS = "idx int, vector array<float>, weight double, n int"


def store_start(
    spark: SparkSession, items: Factors, factors: int, seed: int, start: DataFrame | None, scratch: Scratch
) -> bool:
    """Stores the start of every block of `items`; whether it comes from `start` (see `fit_factors`)."""
    if not items.side.n_blocks:
        return False
    if start is None or not _fits(start, factors):
        for block in range(items.side.n_blocks):
            first, end = items.side.starts[block], items.side.starts[block + 1]
            store_factors(scratch, items, block, initial_factors(first, end, factors, seed))
        return False
    blocks = spark.range(0, items.side.n_blocks, 1, items.side.n_blocks)
    none = blocks.select(F.col("id").cast("int").alias("block"), F.lit(b"").alias("rows"), F.lit(b"").alias("vectors"))
    known = cut_vectors(start, "item_idx", np.array(items.side.starts)).unionByName(none)
    placed = known.repartitionById(items.side.n_blocks, F.col("block"))
    placed.mapInArrow(_place(items, factors, seed, scratch), "block int").toArrow()
    return True


def _fits(start: DataFrame, factors: int) -> bool:
    """Whether there is a vector, of this length."""
    lengths = start.select(F.size("vector").alias("length")).limit(1).toArrow()["length"].to_pylist()
    return bool(lengths == [factors])


def _place(
    items: Factors, factors: int, seed: int, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """All records of one block, which are all that a partition holds, to its factors."""

    def place(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        block, vectors = -1, np.empty((0, factors), np.float32)
        for batch in batches:
            for at, number in enumerate(batch["block"].to_pylist()):
                first, end = items.side.starts[number], items.side.starts[number + 1]
                if block < 0:
                    block, vectors = number, _NEW * initial_factors(first, end, factors, seed)
                rows, known = read_chunk(batch, at, factors)
                vectors[rows - first] = known
        if block >= 0:
            store_factors(scratch, items, block, vectors)
            yield pa.RecordBatch.from_pydict({"block": pa.array([block], pa.int32())})

    return place


class Fit(NamedTuple):
    """Both sides' factors, in `scratch`, with the objective after every half-iteration (nan: not known).

    nothing: the objective of factors of zero, which is the sum of all confidences.
    """

    users: Factors
    items: Factors
    objectives: list[float]
    n_resumed: int
    nothing: float

    @property
    def n_iterations(self) -> int:
        """Whole iterations, without the solution of all users at the end."""
        return len(self.objectives) // 2


@dataclass(frozen=True)
class _State:
    """What a marker says: half-iterations done, and what is known of them.

    hashes: of the factors of this half.  ended: sides solved since the fit ended.  nothing: as in `Fit`.
    """

    half: int
    objectives: tuple[float, ...]
    penalty: float
    hashes: tuple[str, ...]
    ended: tuple[str, ...] = ()
    nothing: float = float("nan")


def fit_factors(
    pairs: DataFrame, sizes: Sizes, settings: Als, seed: int, scratch: Scratch, start: DataFrame | None = None
) -> Fit:
    """Fits `pairs`, or goes on with the fit that is in `scratch`, which is that of one run and so of the same input.

    It starts anew if settings, seed or the spread of the pairs over users and items are others, or files are damaged.
    pairs: user_idx, item_idx (int), weight (float, above 0), unique.  start: item_idx, vector (array<float>), the
    factors of items to start from; what it lacks starts next to zero.  None, or vectors of another length: from random
    numbers, which depend on the seed and the item alone.
    Raises KernelError if the objective rises, or a row has no solution.
    """
    spark = pairs.sparkSession
    counts = fit_counts(pairs, sizes)
    n_pairs = int(counts["users"].sum())
    exchange = exchange_for(n_pairs, sizes, settings)
    spread = sha256(b"".join(counts[side].tobytes() for side in ("users", "items"))).hexdigest()
    key = {"settings": settings.model_dump(), "seed": seed, "sizes": asdict(sizes), "spread": spread}
    sides = _known_blocks(key, scratch)
    if sides is None:
        scratch.drop()
        n_blocks = 1 if exchange == "local" else 0
        block_bytes = block_bytes_for(exchange, settings)
        sides = fit_blocks(pairs, sizes, counts, settings.factors, block_bytes, n_blocks, scratch)
        scratch.mark("blocks", {"key": key, "sides": [_as_json(side) for side in sides]})
    users, items = sides
    state = _last_state(sides, settings, scratch)
    n_resumed = 0 if state is None else state.half
    is_warm: bool | None = None
    if state is None:
        is_warm = store_start(spark, Factors(items, 0), settings.factors, seed, start, scratch)
        state = _State(0, (), float("nan"), ())
    _log.info(
        "phase=plan exchange=%s n_pairs=%d blocks=%d+%d from_half=%d warm=%s",
        *(exchange, n_pairs, users.n_blocks, items.n_blocks, n_resumed, is_warm),
    )
    while (half := _next_half(state, sides, settings)) is not None:
        state = _advance(spark, exchange, half, state, settings, scratch)
        failpoint("als.after_half")
    last_items = state.half if "items" in state.ended else len(state.objectives) // 2 * 2
    last_users = state.half - 1 if "items" in state.ended else state.half
    return Fit(Factors(users, last_users), Factors(items, last_items), list(state.objectives), n_resumed, state.nothing)


def exchange_for(n_pairs: int, sizes: Sizes, settings: Als) -> str:
    """The exchange that the settings ask for; for "auto", the one for this size."""
    if settings.exchange != "auto":
        return settings.exchange
    row_bytes = settings.factors * _NUMBER_BYTES
    if n_pairs * _ENTRY_BYTES + (sizes.n_user_rows + sizes.n_item_rows) * row_bytes <= _LOCAL_BYTES:
        return "local"
    larger = max(sizes.n_user_rows, sizes.n_item_rows) * row_bytes
    return "broadcast" if larger <= settings.broadcast_bytes else "shuffle"


def block_bytes_for(exchange: str, settings: Als) -> int:
    """Bytes of the matrix that a task may work on at once, so that what it is sent beside them fits in too."""
    if exchange != "shuffle":
        return settings.block_bytes
    # A task is sent the factors of each entry's column, in the worst case.
    in_shuffle = settings.block_bytes * PAIR_BYTES // (settings.factors * _SENT_BYTES)
    return min(settings.block_bytes, max(1, in_shuffle))


def _known_blocks(key: dict[str, Any], scratch: Scratch) -> tuple[Side, Side] | None:
    """The blocks that an earlier attempt has stored of the same input, whole."""
    marker = scratch.marker("blocks")
    if marker is None or marker["key"] != key:
        return None
    users, items = (
        Side(name, tuple(starts), n_entities, {int(block): sha256 for block, sha256 in filled.items()})
        for name, starts, n_entities, filled in marker["sides"]
    )
    return (users, items) if are_stored(users, scratch) and are_stored(items, scratch) else None


def _as_json(side: Side) -> list[Any]:
    return [side.name, side.starts, side.n_entities, dict(side.filled)]


def _last_state(sides: tuple[Side, Side], settings: Als, scratch: Scratch) -> _State | None:
    """The newest half-iteration whose marker and factors are there, as they were stored."""
    for half in range(2 * settings.iterations + 2, 0, -1):
        state = _stored(half, scratch)
        if state is None:
            continue
        # Once the fit has ended, the other side is part of the result, or of the last half.
        needed = (state, _stored(half - 1, scratch)) if state.ended else (state,)
        if all(one is not None and _is_whole(one, sides, scratch) for one in needed):
            return state
        _log.warning("phase=resume half=%d factors=damaged", half)
    return None


def _stored(half: int, scratch: Scratch) -> _State | None:
    """What the marker of a half-iteration says; None if there is none."""
    marker = scratch.marker(_marker(half))
    if marker is None:
        return None
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in marker.items()}
    return _State(**given)


def _is_whole(state: _State, sides: tuple[Side, Side], scratch: Scratch) -> bool:
    factors = Factors(sides[_side_of(state)], state.half)
    return state.hashes == tuple(hash_of(scratch, factors, block) for block in range(factors.side.n_blocks))


def _marker(half: int) -> str:
    return f"half-{half:05d}"


def _side_of(state: _State) -> int:
    """The side that the half-iteration of this state solved: 0 users, 1 items."""
    if state.ended:
        return 0 if state.ended[-1] == "users" else 1
    return 1 - state.half % 2


def _next_half(state: _State, sides: tuple[Side, Side], settings: Als) -> Half | None:
    """What is to be solved after `state`; None if there is nothing left."""
    users, items = sides
    ridge = Ridge(settings.alpha, settings.regularization, settings.nu, settings.unobserved)
    # Users from items, and items from users.
    forth = Factors(users, state.half + 1), Factors(items, state.half), ridge
    back = Factors(items, state.half + 1), Factors(users, state.half), ridge
    least = settings.min_users_per_item
    if state.ended:
        is_left = state.ended == ("users",) and least > 1
        return Half(*back, least, only_below=state.half - 1) if is_left else None
    if state.half % 2:
        return Half(*back, least)
    return Half(*forth, 1 if _has_ended(state, settings) else settings.min_items_per_user)


def _has_ended(state: _State, settings: Als) -> bool:
    """Whether the fit is at its last iteration, or the last one changed the objective by less than the tolerance."""
    if state.half // 2 >= settings.iterations:
        return True
    return (
        settings.tolerance > 0
        and state.half >= 4
        and state.objectives[-3] - state.objectives[-1] < settings.tolerance * state.objectives[-1]
    )


def _advance(spark: SparkSession, exchange: str, half: Half, state: _State, settings: Als, scratch: Scratch) -> _State:
    """Solves `half`, stores its marker, and removes what is two half-iterations old."""
    found = solve_half(spark, exchange, half, settings.factors, scratch)
    number, hashes = half.solved.half, tuple(one.sha256 for one in found)
    penalty = sum(one.penalty for one in found)
    if state.ended or (number % 2 == 1 and _has_ended(state, settings)):
        ended = (*state.ended, half.solved.side.name)
        after = replace(state, half=number, hashes=hashes, ended=ended)
    else:
        # The minimum over the side that was solved has its own ridge in it, not that of the fixed side.
        objective = sum(one.loss for one in found) + state.penalty
        nothing = sum(one.confidence for one in found)
        _check_falls(state.objectives, objective, _ROUNDING * nothing)
        after = _State(number, (*state.objectives, objective), penalty, hashes, nothing=nothing)
        _log.info("phase=half number=%d side=%s objective=%.9g", number, half.solved.side.name, objective)
    scratch.mark(_marker(number), asdict(after))
    if half.only_below is None:  # else this half is made from it, again if its factors are found damaged
        _remove(Factors(half.solved.side, number - 2), scratch)
    return after


def _check_falls(objectives: tuple[float, ...], objective: float, rounding: float) -> None:
    """Raises KernelError if the objective is higher than when this side was last solved, by more than `rounding`."""
    before = objectives[-2] if len(objectives) >= 2 else float("nan")
    if objective > before + rounding:
        raise KernelError(
            f"als: expected an objective of at most {before:.9g} after half-iteration {len(objectives) + 1}, got "
            f"{objective:.9g}; raise als.regularization if it is next to nothing, else drop the run's scratch and rerun"
        )


def _remove(factors: Factors, scratch: Scratch) -> None:
    for block in range(factors.side.n_blocks):
        scratch.remove(factors.name(block))
        scratch.remove(factors.gramian_name(block))


def factor_rows(spark: SparkSession, factors: Factors, other: Side, scratch: Scratch) -> DataFrame:
    """Factors of the entities of a side that have any: idx, vector, sum of weights and number of entries."""
    numbers = factors.side.blocks(of_attributes=False)
    blocks = spark.range(0, max(1, len(numbers)), 1, max(1, len(numbers)))
    return blocks.mapInArrow(_rows(factors, numbers, other, scratch), FACTOR_ROWS)


def _rows(
    factors: Factors, numbers: list[int], other: Side, scratch: Scratch
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch["id"].to_pylist():
                if numbers:
                    yield _row_batch(factors, numbers[place], other, scratch)

    return rows


def _row_batch(factors: Factors, block: int, other: Side, scratch: Scratch) -> pa.RecordBatch:
    vectors, matrix = scratch.read(factors.name(block)), read_block(scratch, factors.side, block, other.n_rows)
    is_entity = matrix.indices < other.n_entities  # an attribute is no event
    n = np.bincount(matrix.rows[is_entity], minlength=len(vectors))
    weight = np.bincount(matrix.rows[is_entity], weights=matrix.values[is_entity], minlength=len(vectors))
    known = np.flatnonzero(vectors.any(axis=1))
    offsets = np.arange(len(known) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.RecordBatch.from_pydict(
        {
            "idx": pa.array((known + factors.side.starts[block]).astype(np.int32)),
            "vector": pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors[known].ravel())),
            "weight": pa.array(weight[known].astype(np.float64)),
            "n": pa.array(n[known].astype(np.int32)),
        }
    )
