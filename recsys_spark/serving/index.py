"""ANN search in a service: shards of a bundle's index are opened, checked and searched, with exact re-scoring.

Owns: what a service asks of the index.

    index = open_index(bundle)                    # all shards, or shards=[0, 1] on this machine, [2, 3] on the next
    found = index.search(bundle.encode_user(features, recent_items), k=500)
    merge([found, found_elsewhere], k=500)
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_spark.ann.kernels.faiss_index import padded, search, set_threads
from recsys_spark.ann.kernels.index_choice import share_of_k
from recsys_spark.ann.shard_files import Shard, open_shard
from recsys_spark.errors import ArgumentError, DamagedError
from recsys_spark.serving.answers import Scored, check_ids, check_k
from recsys_spark.warehouse.location import Location

_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


class AnnIndex:
    """Some or all shards of a bundle's index; may be used by many threads.

    ids: item_id of every item_idx.  threads: shards that are searched at once; each search takes one thread.
    """

    def __init__(self, shards: Sequence[Shard], ids: pa.Array, threads: int) -> None:
        self._shards = tuple(shards)
        self._ids = ids
        self._pool = None
        if threads > 1 and len(shards) > 1:
            self._pool = ThreadPoolExecutor(threads, initializer=set_threads, initargs=(1,))
        self._dim = shards[0].vectors.shape[1]
        set_threads(1)

    @property
    def shards(self) -> tuple[int, ...]:
        """Numbers of the shards that are open."""
        return tuple(shard.row["shard"] for shard in self._shards)

    @property
    def n_items(self) -> int:
        """Items in them."""
        return sum(len(shard.ids) for shard in self._shards)

    def search(self, vector: np.ndarray, k: int = 50, exclude: Iterable[str] = ()) -> tuple[Scored, ...]:
        """The `k` best items by their product with `vector` that the open shards find and are not in `exclude`.

        vector: (dim,), as `bundle.encode_user` gives it.  Best first, ties by item_id; scores are exact products.
        Raises ArgumentError if the vector is not one of this model.
        """
        query, left_out = self._checked(vector), list(exclude)
        check_ids("search", left_out)
        hidden = np.array([self._places[one] for one in left_out if one in self._places], np.int64)
        look = partial(_search_shard, query=query, k=check_k("search", k), hidden=hidden)
        answers = list(self._pool.map(look, self._shards) if self._pool else map(look, self._shards))
        ids, scores = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        # item_idx ascend with the bytes of item_id.
        best = np.lexsort((ids, -scores))[:k]
        names = self._ids.take(pa.array(ids[best])).to_pylist()
        return tuple(
            Scored(name, rank, score)
            for rank, (name, score) in enumerate(zip(names, scores[best].tolist(), strict=True), 1)
        )

    def related(self, item_id: str, k: int = 50) -> tuple[Scored, ...]:
        """The `k` best items by their product with the embedding of an item of the open shards; () for any other."""
        check_ids("related", [item_id])
        idx = self._places.get(item_id)
        for shard in self._shards:
            at = -1 if idx is None else int(np.searchsorted(shard.ids, idx))
            if 0 <= at < len(shard.ids) and shard.ids[at] == idx:
                return self.search(np.array(shard.vectors[at]), k, (item_id,))
        return ()

    def close(self) -> None:
        """Ends the threads; what was mapped stays until the object is gone."""
        if self._pool:
            self._pool.shutdown()

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {item_id: idx for idx, item_id in enumerate(self._ids.to_pylist())}

    def _checked(self, vector: np.ndarray) -> np.ndarray:
        given = np.asarray(vector)
        if given.shape != (self._dim,) or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
            raise ArgumentError(
                f"search: expected a vector of {self._dim} finite numbers, got {given.dtype} of shape {given.shape}; "
                "take it from encode_user of this bundle"
            )
        return np.ascontiguousarray(given, np.float32)


def open_shards(
    manifest: pa.Table,
    items: pa.Table,
    model_version: str,
    root: Location,
    shards: Sequence[int] | None,
    part: str | None,
    mapped: bool,
    threads: int,
) -> AnnIndex:
    """The index over some or all shards of a manifest, see `bundle.open_index`.

    manifest: rows of `ann_shards`.  items: item_id and item_idx of all items.  model_version: of the bundle's model.
    """
    rows = {row["shard"]: row for row in manifest.to_pylist()}
    if part is not None:
        rows = _of_part(rows, part)
    if not rows:
        raise ArgumentError(
            "open_index: expected a run with embeddings, got one without an index; put two_tower into [sources] "
            "enabled and run the date"
        )
    wanted = _wanted(rows, shards)
    for number in wanted:
        if rows[number]["model_version"] != model_version:
            raise DamagedError(
                f"shard {number}: expected an index of model {model_version}, got one of "
                f"{rows[number]['model_version']}; {_RERUN}"
            )
    ids = items.sort_by("item_idx").combine_chunks()["item_id"].combine_chunks()
    opened = [open_shard(root, rows[number], mapped) for number in wanted]
    for shard in opened:
        if shard.ids[-1] >= len(ids):
            raise DamagedError(
                f"shard {shard.row['shard']}: expected items below {len(ids)}, got {shard.ids[-1]}; {_RERUN}"
            )
    return AnnIndex(opened, ids, threads)


def _of_part(rows: Mapping[int, dict[str, Any]], part: str) -> dict[int, dict[str, Any]]:
    found = {number: row for number, row in rows.items() if row["part"] == part}
    if rows and not found:
        known = sorted({row["part"] for row in rows.values() if row["part"] is not None})
        raise ArgumentError(f"open_index: expected one of the parts {known[:20]}, got {part!r}; correct it")
    return found


def _wanted(rows: Mapping[int, Mapping[str, Any]], shards: Sequence[int] | None) -> list[int]:
    """Numbers of the shards that were asked for, ascending."""
    wanted = sorted(set(rows if shards is None else shards))
    unknown = [number for number in wanted if number not in rows]
    if unknown or not wanted:
        raise ArgumentError(
            f"open_index: expected some of the shards {min(rows)} to {max(rows)}, got {unknown or 'none'}; they are in "
            "ann_shards"
        )
    return wanted


def _search_shard(shard: Shard, query: np.ndarray, k: int, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """item_idx and exact products of the best of a shard, (n,) each, in no order; at most k."""
    row = shard.row
    wanted = share_of_k(row["rerank"] * k, row["n_shards"]) + share_of_k(len(hidden), row["n_shards"])
    queries = query[None] if row["d"] == len(query) else padded(query[None])
    _, found = search(shard.index, queries, min(wanted, len(shard.ids)), row["nprobe"])
    ids = found[0][found[0] >= 0]
    if len(hidden):
        ids = ids[~np.isin(ids, hidden)]
    # einsum adds in the same order for every item, whatever else is found, so that equal items tie; and in one thread.
    scores = np.einsum("nd,d->n", shard.vectors[np.searchsorted(shard.ids, ids)], query)
    if len(ids) > k:
        best = np.argpartition(-scores, k - 1)[:k]
        ids, scores = ids[best], scores[best]
    return ids, scores
