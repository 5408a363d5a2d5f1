"""Blending of one block of users, Arrow in and Arrow out, around `blend.kernels.fusion`.

Owns: the size of blocks, the nested arrays of the result, and what is counted of lists while a task writes them; also
the lists of segments, on the driver.  All columns are built from flat arrays and offsets; no candidate is ever a Python
object.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.blend.collect import LIST_FIELDS, user_blocks
from recsys_spark.blend.kernels.diversity import diverse_pool
from recsys_spark.blend.kernels.fusion import Fused, Pool, fuse, pool_lists, pool_rrf, raised
from recsys_spark.blend.kernels.greedy import CategoryMixes
from recsys_spark.blend.kernels.ruled_lists import boost_totals, fuse_boosted, is_pinned, pins_of, place_pins
from recsys_spark.blend.kernels.score_fusion import Fusion, bounded, fused_totals, scaled, shared_scores
from recsys_spark.blend.kernels.walks import Walked, is_admissible
from recsys_spark.blend.worker import (
    BlendBroadcast,
    BlendState,
    SourceLists,
    audiences_of,
    explored_lists,
    state_of,
    walk_scopes,
)
from recsys_spark.config.lists import MAIN
from recsys_spark.numeric.ragged import Ragged
from recsys_spark.spark.arrow_lists import indptr_of, ragged_of
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.run_writer import Maker
from recsys_spark.warehouse.tables import CANDIDATES

if TYPE_CHECKING:
    from pyspark import Broadcast

# The order keys of one block of users stay in a core's cache: 50 to 200 users x 5 lists x 200 candidates were fastest
# (9,300 users a second on one core; 7,500 with 3,000 users).
_BLOCK_BYTES = 1 << 20

_KEY_BYTES = 8


RUNGS = ("history", "features", "segment", "everybody", "none")
_OWN = pa.list_(pa.struct(LIST_FIELDS))
_AFFINITIES = pa.list_(pa.struct([("category", pa.string()), ("share", pa.float64())]))


def block_users(state: BlendState) -> int:
    """How many users a block has."""
    # Three scopes (own, segment, everybody) at most for each source.
    width = max(1, 3 * len(state.settings.sources)) * state.settings.k
    return max(1, _BLOCK_BYTES // (_KEY_BYTES * width))


def blend_block(block: pa.RecordBatch, state: BlendState) -> pa.RecordBatch:
    """The lists of one block of users: user_id, items (as in `candidates`), n_by_source (how many of the items each
    list of the settings proposed) and n_explored.

    block: user_id, segment (null: none), excluded (array<int>, ascending), own (as in `user_blocks`, null: none); where
    lists are calibrated, category_affinities too (null: nothing is known).  A user for whom nothing is left has a row
    without items.
    """
    k = state.settings.k
    scopes = walk_scopes(block, state, k)
    pool, totals = _scored(scopes, block.num_rows, state)
    source_of = np.array([scope.source for scope in scopes], np.int64)
    n_lists = max(1, len(state.settings.sources))  # followed by the names of rules, then that of exploration
    columns = np.concatenate([source_of, np.arange(n_lists, len(state.names))])
    if state.ruled is None:
        fused = _explored(fuse(*_diverse(pool, totals, block, state), k), block, state, len(columns) - 1, [])
    else:
        book, audiences = state.ruled.book, audiences_of(block, state)
        pins = pins_of(book, audiences, ragged_of(block["excluded"]), k)
        boosted = boost_totals(book, audiences, pool, totals)
        pool, totals = _diverse(pool, boosted, block, state, is_pinned(pins, pool))
        fused = fuse_boosted(book, audiences, pins, pool, totals, k, len(scopes))
        fused = _explored(fused, block, state, len(columns) - 1, [Ragged(pins.indptr, pins.items)])
        explored = np.zeros(len(fused.items), bool)  # pins must not push these out, or their propensities are wrong
        explored[_entries_of(fused, len(columns) - 1)] = True
        fused = place_pins(fused, pins, pool, totals, k, len(scopes), explored)
    # An explored item has no score of its own: it gets that of the entry after it.
    return _lists_batch(block["user_id"], fused if state.exploring is None else raised(fused), columns, state)


def _entries_of(fused: Fused, column: int) -> np.ndarray:
    """The entries that have `column` in their provenance, int64."""
    return np.searchsorted(fused.source_indptr, np.flatnonzero(fused.columns == column), side="right") - 1


def _explored(fused: Fused, block: pa.RecordBatch, state: BlendState, column: int, hidden: list[Ragged]) -> Fused:
    """`fused` with explored items, whose provenance is `column`; none of `hidden` is explored."""
    if state.exploring is None or not state.settings.explore_share:
        return fused
    hidden = [ragged_of(block["excluded"]), *hidden]
    audiences, users, settings = audiences_of(block, state), block["user_id"].to_pylist(), state.settings
    share, k = settings.explore_share, settings.k
    return explored_lists(fused, users, hidden, audiences, state.exploring, share, k, column)


def _scored(scopes: list[SourceLists], n_users: int, state: BlendState) -> tuple[Pool, np.ndarray]:
    """The pool of what the lists propose, and its totals for `fuse`."""
    settings = state.settings
    if not scopes:
        nobody = Walked(np.full((n_users, 1), -1, np.int32), np.zeros((n_users, 1), np.float32))
        return pool_lists([nobody], [False]), np.zeros(0, np.int64)
    if settings.fusion is not None:
        return _by_scores(scopes, settings.fusion, state)
    weights = [settings.weights[scope.source] for scope in scopes]
    return pool_rrf([scope.walked for scope in scopes], weights, settings.rrf_k)


def _by_scores(scopes: list[SourceLists], fusion: Fusion, state: BlendState) -> tuple[Pool, np.ndarray]:
    """The pool, and its totals for `fuse`, by a fusion of scores."""
    wanted = [state.settings.weights[scope.source] > 0 for scope in scopes]
    pool = pool_lists([scope.walked for scope in scopes], wanted)
    said, shared = [], []
    is_new = None
    if fusion.of_new is not None and state.had is not None:
        is_new = ~is_admissible(pool.items, state.had)
    for scope, is_wanted in zip(scopes, wanted, strict=True):
        weight: float | np.ndarray = float(fusion.weights[scope.source])
        if fusion.of_new is not None and is_new is not None:
            weight = np.where(is_new, fusion.of_new[scope.source], weight)
        if scope.known is not None:
            said.append((weight, scaled(pool, scope.known, fusion.scaling)))
        elif is_wanted and scope.list_of is not None:
            standard = shared_scores(pool, state.shared, scope.list_of, state.moments)
            said.append((weight, bounded(standard, fusion.scaling)))
            shared.append(standard)
    return pool, fused_totals(pool, said, shared)


def _diverse(
    pool: Pool, totals: np.ndarray, block: pa.RecordBatch, state: BlendState, kept: np.ndarray | None = None
) -> tuple[Pool, np.ndarray]:
    settings = state.settings
    return diverse_pool(pool, totals, state.traits, _history_of(block, state), settings.diversity, settings.k, kept)


def _history_of(block: pa.RecordBatch, state: BlendState) -> CategoryMixes | None:
    """The categories of each user's history with their shares; None unless lists are calibrated to them."""
    if not state.settings.diversity.calibration_weight:
        return None
    column = block["category_affinities"]
    names, shares = (pc.struct_field(column.flatten(), name) for name in ("category", "share"))
    codes = pc.fill_null(pc.index_in(names, value_set=state.categories), -1).to_numpy(zero_copy_only=False)
    rows = Ragged(indptr_of(column), codes.astype(np.int64))
    known = codes >= 0  # a category that no item has any more is in no list
    kept = rows.where(known)
    values = shares.to_numpy(zero_copy_only=False)[known].astype(np.float32)
    return CategoryMixes(kept.indptr, kept.values.astype(np.int32), values)


def fuse_scopes(scopes: list[SourceLists], block: pa.RecordBatch, state: BlendState) -> Fused:
    """The k best items of each user, as the settings weigh and diversify the lists, without the rules."""
    pool, totals = _diverse(*_scored(scopes, block.num_rows, state), block, state)
    return fuse(pool, totals, state.settings.k)


def _lists_batch(user_id: pa.Array, fused: Fused, source_of: np.ndarray, state: BlendState) -> pa.RecordBatch:
    """The block's rows.  source_of: place in `state.names` of every column of `fused`."""
    item_type = arrow_type(CANDIDATES).value_type
    provenance = item_type.field("sources").type
    n_sources = len(state.settings.sources)
    sources = source_of[fused.columns]
    reasons = pa.StructArray.from_arrays(
        [state.names.take(pa.array(sources)), pa.array(fused.source_ranks), pa.array(fused.source_scores)],
        fields=list(provenance.value_type),
    )
    items = pa.StructArray.from_arrays(
        [
            state.item_id.take(pa.array(state.places[fused.items])),
            pa.array(fused.ranks),
            pa.array(fused.scores),
            pa.ListArray.from_arrays(_offsets(fused.source_indptr), reasons, type=provenance),
        ],
        fields=list(item_type),
    )
    n_users = len(user_id)
    user_of = np.repeat(np.arange(n_users), np.diff(fused.source_indptr[fused.indptr]))
    proposed = sources < n_sources  # rules and exploration are no source
    of_source = user_of[proposed] * n_sources + sources[proposed]
    n_by_source = np.bincount(of_source, minlength=n_users * n_sources).astype(np.int32)
    n_explored = np.bincount(user_of[sources == len(state.names) - 1], minlength=n_users).astype(np.int32)
    return pa.RecordBatch.from_arrays(
        [
            user_id,
            pa.ListArray.from_arrays(_offsets(fused.indptr), items, type=arrow_type(CANDIDATES)),
            pa.ListArray.from_arrays(_offsets(np.arange(n_users + 1) * n_sources), pa.array(n_by_source)),
            pa.array(n_explored),
        ],
        names=["user_id", "items", "n_by_source", "n_explored"],
    )


def _offsets(indptr: np.ndarray) -> pa.Array:
    return pa.array(indptr.astype(np.int32))


def list_maker(broadcast: "Broadcast[Mapping[str, BlendBroadcast]]", made_at: datetime) -> Maker:
    """The function that makes rows of `candidates` of rows as `collect.user_rows` orders them.

    Users have user_id, segment, excluded, variant, is_new (a newcomer, who has a list only if a source made one for
    them) and, where lists are calibrated, category_affinities.  Counts: n_users, n_candidates, n_short (fewer than k
    items), n_explored (items), n:<source> (items that it proposed), rung:<one of RUNGS> (users by fallback level).
    """

    def make(batches: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        workers = {name: state_of(shared) for name, shared in broadcast.value.items()}
        counted = _counted(broadcast.value[MAIN])
        for block in user_blocks(batches, min(map(block_users, workers.values()))):
            listed = pc.or_(pc.invert(block["is_new"]), pc.greater(pc.list_value_length(block["own"]), 0))
            users = block if pc.all(listed).as_py() else block.filter(listed)
            if users.num_rows:
                lists = _blend_variants(users, workers)
                counted.add(lists, users["is_new"].to_numpy(zero_copy_only=False), counts)
                yield _rows(users, lists, made_at)

    return make


def segment_lists(shared: BlendBroadcast) -> pa.Table:
    """segment and items, as in `candidates`, of everybody (null) and of every segment that has a list, or a rule.

    Nothing is excluded, nothing explored.
    """
    shared = replace(shared, exploration=None)
    ruled = shared.rules.segments if shared.rules is not None else ()
    named = sorted({segment for segment in (*shared.segments, *ruled) if segment is not None})
    segments = pa.array([None, *named], pa.string())
    block = pa.RecordBatch.from_pydict(
        {
            "user_id": segments,
            "segment": segments,
            "excluded": pa.nulls(len(segments), pa.list_(pa.int32())),
            "own": pa.nulls(len(segments), _OWN),
            "category_affinities": pa.nulls(len(segments), _AFFINITIES),
        }
    )
    lists = blend_block(block, state_of(shared))
    return pa.table({"segment": segments, "items": lists["items"]})


@dataclass(frozen=True)
class _Counted:
    """What is counted of lists.  of_users, of_segments: places in `sources` of lists for one user, for segments."""

    k: int
    sources: tuple[str, ...]
    of_users: list[int]
    of_segments: list[int]

    def add(self, lists: pa.RecordBatch, is_new: np.ndarray, counts: Counter[str]) -> None:
        """Adds the lists of a block, as `blend_block` makes them, to `counts`."""
        lengths = pc.list_value_length(lists["items"]).to_numpy()
        n_by_source = lists["n_by_source"].flatten().to_numpy().reshape(len(lengths), len(self.sources))
        found = {
            "n_users": len(lengths),
            "n_candidates": lengths.sum(),
            "n_short": (lengths < self.k).sum(),
            "n_explored": pc.sum(lists["n_explored"]).as_py(),
        }
        found |= {f"n:{name}": n_by_source[:, at].sum() for at, name in enumerate(self.sources)}
        by_user, by_segment = (n_by_source[:, places].any(axis=1) for places in (self.of_users, self.of_segments))
        rungs = np.select([lengths == 0, by_user & ~is_new, by_user, by_segment], [4, 0, 1, 2], 3)
        found |= {f"rung:{name}": (rungs == at).sum() for at, name in enumerate(RUNGS)}
        counts.update({name: int(count) for name, count in found.items()})


def _counted(shared: BlendBroadcast) -> _Counted:
    settings, many = shared.settings, set(shared.sources)
    of_segments = {name for name, segment in zip(shared.sources, shared.segments, strict=True) if segment is not None}
    places = {name: at for at, name in enumerate(settings.sources)}
    return _Counted(
        settings.k,
        settings.sources,
        [at for name, at in places.items() if name not in many],
        [at for name, at in places.items() if name in of_segments],
    )


def _blend_variants(users: pa.RecordBatch, workers: Mapping[str, BlendState]) -> pa.RecordBatch:
    """The lists of a block of users, each by the settings of their variant."""
    if len(workers) == 1:
        return blend_block(users, workers[MAIN])
    variants = users["variant"].to_numpy(zero_copy_only=False)
    members = {name: np.flatnonzero(variants == name) for name in workers}
    parts = [blend_block(users.take(pa.array(rows)), workers[name]) for name, rows in members.items() if len(rows)]
    back = np.argsort(np.concatenate(list(members.values())))
    return pa.concat_batches(parts).take(pa.array(back))


def _rows(users: pa.RecordBatch, lists: pa.RecordBatch, made_at: datetime) -> pa.RecordBatch:
    times = pa.repeat(pa.scalar(made_at, pa.timestamp("us", tz="UTC")), len(users))
    columns = [users["user_id"], users["variant"], lists["items"], times]
    return pa.RecordBatch.from_arrays(columns, names=["user_id", "variant", "items", "generated_at"])
