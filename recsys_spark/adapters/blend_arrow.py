"""Arrow in, Arrow out around `kernels.blend`: what a worker is sent, and how a batch of users becomes a batch of lists.

Owns: the form of the broadcast, the cut of a batch into blocks, the nested arrays of the result.  Called by
`adapters.blend`.  All columns are built from flat arrays and offsets; no candidate is ever a Python object.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.errors import KernelError
from recsys_spark.kernels.blend import (
    Fused,
    RankedLists,
    SharedLists,
    Walked,
    admit,
    fuse_rrf,
    index_shared,
    walk_own,
    walk_shared,
)
from recsys_spark.kernels.metrics import Ragged
from recsys_spark.tables.arrow import arrow_type
from recsys_spark.tables.catalog import CANDIDATES

# The order keys of one block of users stay in a core's cache: 50 to 200 users x 5 lists x 200 candidates were fastest
# (9,300 users a second on one core; 7,500 with 3,000 users).
_BLOCK_BYTES = 1 << 20

_KEY_BYTES = 8


@dataclass(frozen=True)
class Settings:
    """How lists are fused.  sources: all list names in their order; weights: one each."""

    sources: tuple[str, ...]
    weights: tuple[float, ...]
    rrf_k: int
    k: int


@dataclass(frozen=True)
class Shown:
    """The items that may be shown, by ascending item_idx: item_idx int32 (n,), item_id string (n,)."""

    item_idx: np.ndarray
    item_id: pa.Array


@dataclass(frozen=True)
class Shared:
    """All that a worker is sent.  List i of `lists`, admissible items only, is of sources[i] for segments[i]."""

    settings: Settings
    shown: Shown
    sources: tuple[str, ...]
    segments: tuple[str | None, ...]
    lists: RankedLists


class Sent(Protocol):
    """A broadcast, as far as a worker is concerned."""

    @property
    def value(self) -> Shared:
        """What was sent."""


@dataclass(frozen=True)
class _Worker:
    """What a task makes of `Shared` once.

    places: int32 (n_items,), place of an item in `shown`, -1 if it may not be shown.
    by_segment, for_all: per source the segments that have a list with its position in `shared`; the list for everybody.
    """

    settings: Settings
    item_id: pa.Array
    places: np.ndarray
    shared: SharedLists
    by_segment: dict[str, tuple[pa.Array, np.ndarray]]
    for_all: dict[str, int]


def shared_lists(table: pa.Table, settings: Settings, shown: Shown) -> Shared:
    """The rows of `source_candidates` for segments and for everybody, less what may not be shown.

    table: source, segment (null: for everybody), items.  Raises KernelError if two rows have the same list.
    """
    ordered = table.sort_by([("source", "ascending"), ("segment", "ascending")])
    sources, segments = ordered["source"].to_pylist(), ordered["segment"].to_pylist()
    names = list(zip(sources, segments, strict=True))
    if len(set(names)) < len(names):
        raise KernelError(_DOUBLED)
    items = ordered["items"].combine_chunks()
    rows = items.flatten()
    item_idx, score = (pc.struct_field(rows, name).to_numpy(zero_copy_only=False) for name in ("item_idx", "score"))
    lists = RankedLists(_indptr(_lengths(items)), item_idx, score)
    return Shared(settings, shown, tuple(sources), tuple(segments), admit(lists, _places(shown) >= 0))


def blender(sent: Sent) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: batches of (user_id, segment, excluded, own) to (user_id, items, n_by_source)."""

    def blend_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        worker = _worker(sent.value)
        settings = worker.settings
        # Three scopes (own, segment, everybody) at most for each source.
        width = max(1, 3 * len(settings.sources)) * settings.k
        n_users = max(1, _BLOCK_BYTES // (_KEY_BYTES * width))
        for batch in batches:
            for first in range(0, batch.num_rows, n_users):
                yield blend_block(batch.slice(first, n_users), worker)

    return blend_batches


def blend_block(block: pa.RecordBatch, worker: _Worker) -> pa.RecordBatch:
    """The lists of one block of users."""
    settings = worker.settings
    excluded = _ragged(block["excluded"])
    scopes = [
        *_own_columns(block["own"], excluded, worker),
        *_segment_columns(block["segment"], excluded, worker),
        *_common_columns(block.num_rows, excluded, worker),
    ]
    scopes.sort(key=lambda scope: scope[0])  # by source; own before segment before everybody
    if not scopes:
        nobody = Walked(np.full((block.num_rows, 1), -1, np.int32), np.zeros((block.num_rows, 1), np.float32))
        fused = fuse_rrf([nobody], [0.0], settings.rrf_k, settings.k)
        return _lists_batch(block["user_id"], fused, np.zeros(1, np.int64), worker)
    source_of = np.array([source for source, _ in scopes])
    weights = [settings.weights[source] for source in source_of]
    fused = fuse_rrf([walked for _, walked in scopes], weights, settings.rrf_k, settings.k)
    return _lists_batch(block["user_id"], fused, source_of, worker)


_DOUBLED = (
    "blend: expected one list per source and user, segment or everybody, got two; correct the source that made them "
    "(see its rows in source_candidates)"
)


def _worker(shared: Shared) -> _Worker:
    by_segment = {}
    for source in sorted(set(shared.sources)):
        rows = [at for at, (name, segment) in enumerate(_names(shared)) if name == source and segment is not None]
        if rows:
            by_segment[source] = (pa.array([shared.segments[at] for at in rows], pa.string()), np.array(rows))
    for_all = {name: at for at, (name, segment) in enumerate(_names(shared)) if segment is None}
    places = _places(shared.shown)
    return _Worker(shared.settings, shared.shown.item_id, places, index_shared(shared.lists), by_segment, for_all)


def _names(shared: Shared) -> list[tuple[str, str | None]]:
    return list(zip(shared.sources, shared.segments, strict=True))


def _places(shown: Shown) -> np.ndarray:
    """Place of every item in `shown`, -1 if it is not there, int32 (largest item_idx + 1,)."""
    places = np.full(int(shown.item_idx.max(initial=-1)) + 1, -1, np.int32)
    places[shown.item_idx] = np.arange(len(shown.item_idx), dtype=np.int32)
    return places


def _own_columns(own: pa.Array, excluded: Ragged, worker: _Worker) -> Iterator[tuple[int, Walked]]:
    """(position of the source, its lists walked) for every source that has a list for any user of the block."""
    rows = own.flatten()
    users = np.repeat(np.arange(len(own)), _lengths(own))
    names = pa.array(worker.settings.sources, pa.string())
    source_of = pc.index_in(pc.struct_field(rows, "source"), value_set=names).to_numpy(zero_copy_only=False)
    items, scores = pc.struct_field(rows, "item_idx"), pc.struct_field(rows, "score")
    for source in np.unique(source_of).tolist():
        chosen = np.flatnonzero(source_of == source)
        if (np.diff(users[chosen]) == 0).any():
            raise KernelError(_DOUBLED)
        at = pa.array(chosen)
        lengths = np.zeros(len(own), np.int64)
        lengths[users[chosen]] = _lengths(items.take(at))
        lists = RankedLists(_indptr(lengths), _flat(items.take(at)), _flat(scores.take(at)))
        admitted = admit(lists, worker.places >= 0)
        yield int(source), walk_own(admitted, excluded, worker.settings.k)


def _segment_columns(segments: pa.Array, excluded: Ragged, worker: _Worker) -> Iterator[tuple[int, Walked]]:
    for source, (names, rows) in worker.by_segment.items():
        found = pc.fill_null(pc.index_in(segments, value_set=names), -1).to_numpy(zero_copy_only=False)
        list_of = np.where(found >= 0, rows[found], -1)
        yield (
            worker.settings.sources.index(source),
            walk_shared(worker.shared, list_of, excluded, worker.settings.k),
        )


def _common_columns(n_users: int, excluded: Ragged, worker: _Worker) -> Iterator[tuple[int, Walked]]:
    for source, row in worker.for_all.items():
        list_of = np.full(n_users, row)
        yield (
            worker.settings.sources.index(source),
            walk_shared(worker.shared, list_of, excluded, worker.settings.k),
        )


def _lists_batch(user_id: pa.Array, fused: Fused, source_of: np.ndarray, worker: _Worker) -> pa.RecordBatch:
    """The block's rows.  source_of: position of the source of every column of `fused`."""
    item_type = arrow_type(CANDIDATES).value_type
    provenance = item_type.field("sources").type
    names = pa.array(worker.settings.sources or ("",), pa.string())
    n_sources = len(worker.settings.sources)
    sources = source_of[fused.columns]
    reasons = pa.StructArray.from_arrays(
        [names.take(pa.array(sources)), pa.array(fused.source_ranks), pa.array(fused.source_scores)],
        fields=list(provenance.value_type),
    )
    items = pa.StructArray.from_arrays(
        [
            worker.item_id.take(pa.array(worker.places[fused.items])),
            pa.array(fused.ranks),
            pa.array(fused.scores),
            pa.ListArray.from_arrays(_offsets(fused.source_indptr), reasons, type=provenance),
        ],
        fields=list(item_type),
    )
    n_users = len(user_id)
    user_of = np.repeat(np.arange(n_users), np.diff(fused.source_indptr[fused.indptr]))
    n_by_source = np.bincount(user_of * n_sources + sources, minlength=n_users * n_sources).astype(np.int32)
    return pa.RecordBatch.from_arrays(
        [
            user_id,
            pa.ListArray.from_arrays(_offsets(fused.indptr), items, type=arrow_type(CANDIDATES)),
            pa.ListArray.from_arrays(_offsets(np.arange(n_users + 1) * n_sources), pa.array(n_by_source)),
        ],
        names=["user_id", "items", "n_by_source"],
    )


def _offsets(indptr: np.ndarray) -> pa.Array:
    return pa.array(indptr.astype(np.int32))


def _lengths(lists: pa.Array) -> np.ndarray:
    """Length of every list, 0 for null, int64."""
    lengths: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _ragged(lists: pa.Array) -> Ragged:
    return Ragged(_indptr(_lengths(lists)), _flat(lists).astype(np.int64))


def _flat(lists: pa.Array) -> np.ndarray:
    """The values of all lists, laid end to end."""
    values: np.ndarray = lists.flatten().to_numpy(zero_copy_only=False)
    return values


def _indptr(lengths: np.ndarray) -> np.ndarray:
    indptr: np.ndarray = np.concatenate([[0], np.cumsum(lengths)])
    return indptr
