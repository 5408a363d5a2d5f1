"""Arrow in, Arrow out around `kernels.blend`: how a block of users becomes a batch of lists.

Owns: the size of blocks, and the nested arrays of the result.  All columns are built from flat arrays and offsets; no
candidate is ever a Python object.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.adapters.blend_scopes import (
    Scope,
    Worker,
    audiences_of,
    walk_scopes,
)
from recsys_spark.adapters.explored_lists import explored_lists
from recsys_spark.kernels.blend import Fused, Pool, fuse, pool_lists, pool_rrf
from recsys_spark.kernels.category_mix import CategoryMixes
from recsys_spark.kernels.diverse_pool import diverse_pool
from recsys_spark.kernels.fused_lists import raised
from recsys_spark.kernels.list_walks import Walked, is_admissible
from recsys_spark.kernels.ruled_lists import boost_totals, fuse_boosted, is_pinned, pins_of, place_pins
from recsys_spark.kernels.score_fusion import Fusion, bounded, fused_totals, scaled, shared_scores
from recsys_spark.numeric.ragged import Ragged
from recsys_spark.spark.arrow_lists import indptr_of, ragged_of
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.tables import CANDIDATES

# The order keys of one block of users stay in a core's cache: 50 to 200 users x 5 lists x 200 candidates were fastest
# (9,300 users a second on one core; 7,500 with 3,000 users).
_BLOCK_BYTES = 1 << 20

_KEY_BYTES = 8


def block_users(worker: Worker) -> int:
    """The users of a block."""
    # Three scopes (own, segment, everybody) at most for each source.
    width = max(1, 3 * len(worker.settings.sources)) * worker.settings.k
    return max(1, _BLOCK_BYTES // (_KEY_BYTES * width))


def blend_block(block: pa.RecordBatch, worker: Worker) -> pa.RecordBatch:
    """The lists of one block of users: user_id, items (as in `candidates`), n_by_source (how many of the items each
    list of the settings proposed) and n_explored.

    block: user_id, segment (null: none), excluded (array<int>, ascending), own (as in `user_blocks`, null: none); where
    lists are calibrated, category_affinities too (null: nothing is known).  A user for whom nothing is left has a row
    without items.
    """
    k = worker.settings.k
    scopes = walk_scopes(block, worker, k)
    pool, totals = _scored(scopes, block.num_rows, worker)
    source_of = np.array([scope.source for scope in scopes], np.int64)
    n_lists = max(1, len(worker.settings.sources))  # the names of rules come after, and of exploration
    columns = np.concatenate([source_of, np.arange(n_lists, len(worker.names))])
    if worker.ruled is None:
        fused = _explored(fuse(*_diverse(pool, totals, block, worker), k), block, worker, len(columns) - 1, [])
    else:
        book, audiences = worker.ruled.book, audiences_of(block, worker)
        pins = pins_of(book, audiences, ragged_of(block["excluded"]), k)
        boosted = boost_totals(book, audiences, pool, totals)
        pool, totals = _diverse(pool, boosted, block, worker, is_pinned(pins, pool))
        fused = fuse_boosted(book, audiences, pins, pool, totals, k, len(scopes))
        fused = _explored(fused, block, worker, len(columns) - 1, [Ragged(pins.indptr, pins.items)])
        explored = np.zeros(len(fused.items), bool)  # a propensity holds for what a list does not lose again
        explored[_entries_of(fused, len(columns) - 1)] = True
        fused = place_pins(fused, pins, pool, totals, k, len(scopes), explored)
    # What is explored has no score of its own: it has that of the entry after it.
    return _lists_batch(block["user_id"], fused if worker.exploring is None else raised(fused), columns, worker)


def _entries_of(fused: Fused, column: int) -> np.ndarray:
    """The entries that have `column` in their provenance, int64."""
    return np.searchsorted(fused.source_indptr, np.flatnonzero(fused.columns == column), side="right") - 1


def _explored(fused: Fused, block: pa.RecordBatch, worker: Worker, column: int, hidden: list[Ragged]) -> Fused:
    """`fused` with the explored items, which the provenance has as `column`; none of `hidden` is explored."""
    if worker.exploring is None or not worker.settings.explore_share:
        return fused
    hidden = [ragged_of(block["excluded"]), *hidden]
    audiences, users, settings = audiences_of(block, worker), block["user_id"].to_pylist(), worker.settings
    share, k = settings.explore_share, settings.k
    return explored_lists(fused, users, hidden, audiences, worker.exploring, share, k, column)


def _scored(scopes: list[Scope], n_users: int, worker: Worker) -> tuple[Pool, np.ndarray]:
    """What the lists propose, and the totals for `fuse`."""
    settings = worker.settings
    if not scopes:
        nobody = Walked(np.full((n_users, 1), -1, np.int32), np.zeros((n_users, 1), np.float32))
        return pool_lists([nobody], [False]), np.zeros(0, np.int64)
    if settings.fusion is not None:
        return _by_scores(scopes, settings.fusion, worker)
    weights = [settings.weights[scope.source] for scope in scopes]
    return pool_rrf([scope.walked for scope in scopes], weights, settings.rrf_k)


def _by_scores(scopes: list[Scope], fusion: Fusion, worker: Worker) -> tuple[Pool, np.ndarray]:
    """What is proposed, and the totals for `blend.fuse`."""
    wanted = [worker.settings.weights[scope.source] > 0 for scope in scopes]
    pool = pool_lists([scope.walked for scope in scopes], wanted)
    said, shared = [], []
    is_new = None
    if fusion.of_new is not None and worker.had is not None:
        is_new = ~is_admissible(pool.items, worker.had)
    for scope, is_wanted in zip(scopes, wanted, strict=True):
        weight: float | np.ndarray = float(fusion.weights[scope.source])
        if fusion.of_new is not None and is_new is not None:
            weight = np.where(is_new, fusion.of_new[scope.source], weight)
        if scope.known is not None:
            said.append((weight, scaled(pool, scope.known, fusion.scaling)))
        elif is_wanted and scope.list_of is not None:
            standard = shared_scores(pool, worker.shared, scope.list_of, worker.moments)
            said.append((weight, bounded(standard, fusion.scaling)))
            shared.append(standard)
    return pool, fused_totals(pool, said, shared)


def _diverse(
    pool: Pool, totals: np.ndarray, block: pa.RecordBatch, worker: Worker, kept: np.ndarray | None = None
) -> tuple[Pool, np.ndarray]:
    settings = worker.settings
    return diverse_pool(pool, totals, worker.traits, _history_of(block, worker), settings.diversity, settings.k, kept)


def _history_of(block: pa.RecordBatch, worker: Worker) -> CategoryMixes | None:
    """The categories of each user's history with their shares; None unless lists are calibrated to them."""
    if not worker.settings.diversity.calibration_weight:
        return None
    column = block["category_affinities"]
    names, shares = (pc.struct_field(column.flatten(), name) for name in ("category", "share"))
    codes = pc.fill_null(pc.index_in(names, value_set=worker.categories), -1).to_numpy(zero_copy_only=False)
    rows = Ragged(indptr_of(column), codes.astype(np.int64))
    known = codes >= 0  # a category that no item has any more is in no list
    kept = rows.where(known)
    values = shares.to_numpy(zero_copy_only=False)[known].astype(np.float32)
    return CategoryMixes(kept.indptr, kept.values.astype(np.int32), values)


def fuse_scopes(scopes: list[Scope], block: pa.RecordBatch, worker: Worker) -> Fused:
    """The k best items of each user, as the settings weigh and diversify the lists, without the rules."""
    pool, totals = _diverse(*_scored(scopes, block.num_rows, worker), block, worker)
    return fuse(pool, totals, worker.settings.k)


def _lists_batch(user_id: pa.Array, fused: Fused, source_of: np.ndarray, worker: Worker) -> pa.RecordBatch:
    """The block's rows.  source_of: place in the worker's names of every column of `fused`."""
    item_type = arrow_type(CANDIDATES).value_type
    provenance = item_type.field("sources").type
    n_sources = len(worker.settings.sources)
    sources = source_of[fused.columns]
    reasons = pa.StructArray.from_arrays(
        [worker.names.take(pa.array(sources)), pa.array(fused.source_ranks), pa.array(fused.source_scores)],
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
    proposed = sources < n_sources  # rules and exploration are no source
    of_source = user_of[proposed] * n_sources + sources[proposed]
    n_by_source = np.bincount(of_source, minlength=n_users * n_sources).astype(np.int32)
    n_explored = np.bincount(user_of[sources == len(worker.names) - 1], minlength=n_users).astype(np.int32)
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
