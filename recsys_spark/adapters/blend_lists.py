"""The candidates of a task's users, made and counted while they are written; and the lists of segments, on the driver.

Owns: which settings make whose list, and what is counted of it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.adapters.blend_arrow import blend_block, block_users
from recsys_spark.adapters.blend_scopes import Shared, Worker, worker_of
from recsys_spark.adapters.user_blocks import LIST_FIELDS, user_blocks
from recsys_spark.config.lists import MAIN
from recsys_spark.warehouse.run_writer import Maker

RUNGS = ("history", "features", "segment", "everybody", "none")


class Sent(Protocol):
    """A broadcast, as far as a worker is concerned."""

    @property
    def value(self) -> Mapping[str, Shared]:
        """What was sent, by variant; MAIN is one of them."""


def list_maker(sent: Sent, made_at: datetime) -> Maker:
    """Makes rows as `user_blocks.user_rows` orders them into rows of `candidates`.

    Users have user_id, segment, excluded, variant, is_new (a newcomer, who has a list only if a source made one for
    them) and, where lists are calibrated, category_affinities.  Counts: n_users, n_candidates, n_short (fewer than k
    items), n_explored (items), n:<source> (items that it proposed), rung:<one of RUNGS> (users).
    """

    def make(batches: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        workers = {name: worker_of(shared) for name, shared in sent.value.items()}
        counted = _counted(sent.value[MAIN])
        for block in user_blocks(batches, min(map(block_users, workers.values()))):
            listed = pc.or_(pc.invert(block["is_new"]), pc.greater(pc.list_value_length(block["own"]), 0))
            users = block if pc.all(listed).as_py() else block.filter(listed)
            if users.num_rows:
                lists = _blend_variants(users, workers)
                counted.add(lists, users["is_new"].to_numpy(zero_copy_only=False), counts)
                yield _rows(users, lists, made_at)

    return make


def segment_lists(shared: Shared) -> pa.Table:
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
    lists = blend_block(block, worker_of(shared))
    return pa.table({"segment": segments, "items": lists["items"]})


_OWN = pa.list_(pa.struct(LIST_FIELDS))
_AFFINITIES = pa.list_(pa.struct([("category", pa.string()), ("share", pa.float64())]))


@dataclass(frozen=True)
class _Counted:
    """What of a list is counted.  of_users, of_segments: places in `sources` of lists for one user, for segments."""

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


def _counted(shared: Shared) -> _Counted:
    settings, many = shared.settings, set(shared.sources)
    of_segments = {name for name, segment in zip(shared.sources, shared.segments, strict=True) if segment is not None}
    places = {name: at for at, name in enumerate(settings.sources)}
    return _Counted(
        settings.k,
        settings.sources,
        [at for name, at in places.items() if name not in many],
        [at for name, at in places.items() if name in of_segments],
    )


def _blend_variants(users: pa.RecordBatch, workers: Mapping[str, Worker]) -> pa.RecordBatch:
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
