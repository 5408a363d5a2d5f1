"""Search of the ANN index for every user: users are scattered over its shards, the shards' answers gathered.

Owns: how users, what they may not be shown, and a shard meet, and how answers are merged.

A block of users with their hidden items is one record.  It goes to every shard, and each shard's best items come back,
scored by exact products.  Items are spread over shards by hash, so that a shard's answer is short
(`index_choice.share_of_k`).  What a user is not shown is left out inside the shard, which takes one more candidate for
each such item.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES, USER_LISTS, list_records, read_block, user_blocks
from recsys_spark.ann.recall import as_queries
from recsys_spark.config.schema import Config
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked, joined, merged
from recsys_spark.numeric.sparse import Csr, entries_of
from recsys_spark.spark.arrow_vectors import Batches
from recsys_spark.spark.sparse_blocks import even_starts, read_array
from recsys_spark.warehouse.location import Location

_TASKS_PER_CORE = 2
_USERS_PER_BLOCK = 2_000  # a record of 0.5 MB and more at 64 numbers; its answers of all shards are held at once

_WORK_BYTES = 64 << 20  # for candidates that are in no list yet
_CANDIDATE_BYTES = 36  # id and score as found, then sorted, looked up and compared

_SCATTERED = "block int, users binary, vectors binary, indptr binary, items binary"
_ANSWERED = "block int, users binary, lengths binary, items binary, scores binary"
_ENTRIES = (("items", "int32"), ("scores", "float32"))


def takes_index(n_items: int, config: Config) -> bool:
    """Whether a catalogue of so many items is searched by the index."""
    fits = n_items * config.two_tower.dim * 4 <= MAX_VECTOR_BYTES
    is_small = n_items < config.ann.exact_below and fits
    return config.ann.search == "ann" or (config.ann.search == "auto" and not is_small)


def search_shards(
    users: DataFrame, hidden: DataFrame, n_users: int, shards: DataFrame, root: Location, source: str, k: int
) -> DataFrame:
    """Rows of `source_candidates`: the `k` best items that the index finds for every user with a vector.

    users: user_idx, vector (array<float>).  hidden: user_idx, item_idx, unique: what a user is not shown.  shards: the
    rows of `ann_shards`, whose files are below `root`.
    """
    spark = users.sparkSession
    rows = sorted((row.asDict() for row in shards.collect()), key=lambda row: row["shard"])
    if not rows:
        return spark.createDataFrame([], USER_LISTS)
    starts = even_starts(n_users, max(1, -(-n_users // _USERS_PER_BLOCK)))
    n_blocks = len(starts) - 1
    # Several tasks for a shard where there are fewer shards than cores to keep busy.
    n_groups = max(1, -(-spark.sparkContext.defaultParallelism * _TASKS_PER_CORE // len(rows)))
    blocks = user_blocks(users, hidden, starts).mapInArrow(_join, _SCATTERED)
    scattered = blocks.withColumn("shard", F.explode(F.sequence(F.lit(0), F.lit(len(rows) - 1))))
    task = F.col("shard") * n_groups + F.col("block") % n_groups
    broadcast = spark.sparkContext.broadcast(rows)
    answered = scattered.repartitionById(len(rows) * n_groups, task).mapInArrow(
        _search(broadcast, k, root.absolute()), _ANSWERED
    )
    return answered.repartitionById(n_blocks, F.col("block")).mapInArrow(_gather(source, k), USER_LISTS)


def _join(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One record of a block: its users with a vector, ascending, and what they are not shown, as sparse rows."""
    found = read_block(batches, 0)
    if found is not None:
        hidden = {"indptr": found.hidden.indptr, "items": found.hidden.indices}
        yield _record(found.block, {"users": found.users, "vectors": found.vectors, **hidden})


def _record(block: int, arrays: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"block": pa.array([block], pa.int32())}
        | {name: pa.array([array.tobytes()], pa.binary()) for name, array in arrays.items()}
    )


def _search(broadcast: Any, k: int, root: Location) -> Batches:
    def search(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.ann.kernels.faiss_index import set_threads
        from recsys_spark.ann.shard_files import open_shard

        set_threads(1)
        shard = None
        for batch in batches:
            for at in range(batch.num_rows):
                if shard is None:  # all records of a task are for one shard
                    shard = open_shard(root, broadcast.value[batch["shard"][at].as_py()], mapped=True)
                users, indptr = read_array(batch["users"], at, "int32"), read_array(batch["indptr"], at, "int64")
                vectors = read_array(batch["vectors"], at, "float32").reshape(len(users), -1)
                items = read_array(batch["items"], at, "int32")
                lists = search_shard(shard, vectors, Csr(indptr, items, np.empty(0, np.float32), 0), k)
                yield _record(
                    batch["block"][at].as_py(),
                    {"users": users, "lengths": np.diff(lists.indptr), "items": lists.indices, "scores": lists.scores},
                )

    return search


def search_shard(shard: Any, users: np.ndarray, hidden: Csr, k: int) -> Ranked:
    """The shard's share of the k best items of users, float32 (n, dim), as the manifest says to search."""
    from recsys_spark.ann.kernels.faiss_index import search
    from recsys_spark.ann.kernels.index_choice import share_of_k
    from recsys_spark.ann.kernels.rerank import rerank

    row, queries = shard.row, as_queries(users, shard.row["d"])
    wanted, kept = share_of_k(row["rerank"] * k, row["n_shards"]), share_of_k(k, row["n_shards"])
    parts, places = [], []
    # Users are grouped by their number of hidden items, to powers of 2: one who had everything does not slow the rest.
    classes = np.ceil(np.log2(np.maximum(hidden.lengths, 1))).astype(int)
    for one in np.unique(classes):
        of_class = np.flatnonzero(classes == one)
        most = min(wanted + share_of_k(2 ** int(one), row["n_shards"]), row["ntotal"])
        step = max(1, _WORK_BYTES // (most * _CANDIDATE_BYTES))
        for at in (of_class[first : first + step] for first in range(0, len(of_class), step)):
            _, ids = search(shard.index, queries[at], most, row["nprobe"])
            indptr, entries = entries_of(hidden.indptr, at)
            left_out = Csr(indptr, hidden.indices[entries], np.empty(0, np.float32), hidden.n_cols)
            parts.append(rerank(users[at], ids, shard.ids, shard.vectors, left_out, kept))
            places.append(at)
    lists = joined(parts)
    indptr, entries = entries_of(lists.indptr, np.argsort(np.concatenate(places)))
    return Ranked(indptr, lists.indices[entries], lists.scores[entries])


def _gather(source: str, k: int) -> Batches:
    def gather(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        users, parts = np.empty(0, np.int32), []
        for batch in batches:
            for at in range(batch.num_rows):
                users = read_array(batch["users"], at, "int32")
                lengths = read_array(batch["lengths"], at, "int64")
                indptr = offsets(lengths)
                items, scores = (read_array(batch[name], at, kind) for name, kind in _ENTRIES)
                parts.append(Ranked(indptr, items, scores))
        if parts:
            yield list_records(source, users, merged(parts, k))

    return gather
