"""Exact nearest-item search over the cluster: every user's best items by dot product, around `numeric.top_k`.

Owns: the items that are searched, how a block's users, their vectors and their hidden items meet, and the form of a
list as a record of `source_candidates`.

Pairs of user and hidden item, and users' vectors, are cut into chunks per block of users; one shuffle brings a block's
chunks together.  The items are sent to every worker, at most MAX_VECTOR_BYTES of them.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.lists import Candidates
from recsys_spark.numeric.ragged import row_offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import Items, damped, search_items, top_k
from recsys_spark.signals.visibility import is_hidden
from recsys_spark.spark.arrow_vectors import cut_vectors, matrix_of
from recsys_spark.spark.broadcast import check_bytes
from recsys_spark.spark.sparse_blocks import cut_pairs, even_starts, read_array
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.spark_check import spark_type
from recsys_spark.warehouse.tables import RANKED_IDX

USER_LISTS = (
    f"source string, user_idx int, segment string, items {spark_type(RANKED_IDX).simpleString()}, n_own int, "
    "mean double, deviation double"
)


# A million vectors of 64 numbers; the driver and every worker hold one copy.
MAX_VECTOR_BYTES = 256 << 20
_BLOCKS_PER_CORE = 2
_USERS_PER_BLOCK = 2_000  # a task costs as much as the search for so many users among ten thousand items
_BLOCK_BYTES = 256 << 20  # of users' vectors, lists and hidden items that a task holds; about half of them hidden items
_LIST_BYTES = 24  # of an entry: in the heap, in the list and in the record
_SCORES_BYTES = 64 << 20  # for scores that are not in a list yet


def list_records(
    source: str,
    users: np.ndarray,
    lists: Ranked,
    n_own: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    deviation: np.ndarray | None = None,
) -> pa.RecordBatch:
    """A record per list that is not empty; users: user_idx of each, (n,).

    n_own: of each list the entries that the source itself proposes, int32 (n,); None: all.  mean, deviation: of each
    user's scores over all items, float64 (n,); None: not known.
    """
    lengths = np.diff(lists.indptr)
    filled = np.flatnonzero(lengths)
    listed = arrow_type(RANKED_IDX)
    ranks = np.arange(len(lists.indices)) - np.repeat(lists.indptr[:-1], lengths) + 1
    entries = pa.StructArray.from_arrays(
        [pa.array(lists.indices), pa.array(ranks.astype(np.int32)), pa.array(lists.scores)],
        fields=list(listed.value_type),
    )
    starts = np.append(lists.indptr[:-1][filled], lists.indptr[-1]).astype(np.int32)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([source] * len(filled), pa.string()),
            pa.array(users[filled].astype(np.int32)),
            pa.nulls(len(filled), pa.string()),
            pa.ListArray.from_arrays(pa.array(starts), entries, type=listed),
            *(
                pa.nulls(len(filled), kind) if column is None else pa.array(column[filled], kind)
                for column, kind in ((n_own, pa.int32()), (mean, pa.float64()), (deviation, pa.float64()))
            ),
        ],
        names=["source", "user_idx", "segment", "items", "n_own", "mean", "deviation"],
    )


def fit_items(factors: DataFrame, n_items: int, norm_exponent: float, where: str, setting: str) -> Items:
    """The items that may be shown, ready to be searched and sent, their vectors times norm^(norm_exponent - 1).

    factors: item_idx (below n_items), vector, shown.  Raises KernelError if all vectors are more than MAX_VECTOR_BYTES;
    `setting` is what to lower then.
    """
    first: Any = factors.select(F.size("vector").alias("size")).first()
    size = first["size"] if first else 1
    check_bytes(where, "vectors", n_items * size * 4, MAX_VECTOR_BYTES, setting)
    table = factors.select("item_idx", "vector", "shown").toArrow().combine_chunks()
    vectors, listed = np.zeros((n_items, size), np.float32), np.empty(0, np.int32)
    if table.num_rows:
        idx = table["item_idx"].to_numpy()
        vectors[idx] = matrix_of(table["vector"].combine_chunks())
        listed = idx[table["shown"].to_numpy()]
    return search_items(damped(vectors, norm_exponent), listed)


def hidden_pairs(interactions: DataFrame, candidates: Candidates, cutoff: datetime) -> DataFrame:
    """user_idx and item_idx of what users are not shown, by the policy for seen items; for `search_users`."""
    return interactions.where(is_hidden(candidates, cutoff)).select("user_idx", "item_idx")


def search_users(users: DataFrame, hidden: DataFrame, n_users: int, items: Items, source: str, k: int) -> DataFrame:
    """Rows of `source_candidates`: the `k` best of `items` for every user with a vector.

    users: user_idx, vector (array<float>).  hidden: user_idx, item_idx, unique: what a user is not shown; every
    item_idx is below the number of items that `items` was made of.
    """
    spark = users.sparkSession
    size = items.vectors.shape[1]
    per_block = max(1, _BLOCK_BYTES // 2 // (k * _LIST_BYTES + size * 12))
    busy = min(spark.sparkContext.defaultParallelism * _BLOCKS_PER_CORE, n_users // _USERS_PER_BLOCK)
    starts = even_starts(n_users, max(1, busy, -(-n_users // per_block)))
    broadcast = spark.sparkContext.broadcast(items)
    return user_blocks(users, hidden, starts).mapInArrow(_search(broadcast, source, k), USER_LISTS)


def user_blocks(users: DataFrame, hidden: DataFrame, starts: np.ndarray) -> DataFrame:
    """Chunks of users' vectors and of what they are not shown, block by block, for `read_block`.

    users, hidden: as for `search_users`.  starts: where each block of users begins, and the end of the last.
    """
    vectors = cut_vectors(users, "user_idx", starts).withColumn("cols", F.lit(None).cast("binary"))
    pairs = cut_pairs(hidden, "user_idx", "item_idx", {}, starts).select(
        "block",
        F.col("user_idx").alias("rows"),
        F.lit(None).cast("binary").alias("vectors"),
        F.col("item_idx").alias("cols"),
    )
    return vectors.unionByName(pairs).repartitionById(len(starts) - 1, F.col("block"))


class UserBlock(NamedTuple):
    """The users of a block with a vector, ascending, int32 (n,); their vectors, float32 (n, f); their hidden items."""

    block: int
    users: np.ndarray
    vectors: np.ndarray
    hidden: Csr


def read_block(batches: Iterator[pa.RecordBatch], n_items: int) -> UserBlock | None:
    """The block whose chunks a task of `user_blocks` is given; None if none of its users has a vector."""
    block, known, rows, cols = -1, [], [], []
    for batch in batches:
        for at in range(batch.num_rows):
            block = batch["block"][at].as_py()
            users = read_array(batch["rows"], at, "int32")
            if batch["vectors"][at].is_valid:
                known.append((users, read_array(batch["vectors"], at, "float32").reshape(len(users), -1)))
            else:
                rows.append(users)
                cols.append(read_array(batch["cols"], at, "int32"))
    if not known:
        return None
    users = np.concatenate([chunk[0] for chunk in known])
    order = np.argsort(users)
    vectors = np.concatenate([chunk[1] for chunk in known])[order]
    return UserBlock(block, users[order], vectors, hidden_rows(users[order], rows, cols, n_items))


def _search(broadcast: Any, source: str, k: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def search(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        items: Items = broadcast.value
        found = read_block(batches, len(items.places))
        if found is not None:
            yield list_records(source, found.users, top_k(found.vectors, items, k, found.hidden, _SCORES_BYTES))

    return search


def hidden_rows(users: np.ndarray, rows: list[np.ndarray], cols: list[np.ndarray], n_items: int) -> Csr:
    """The hidden items of `users` (ascending), as far as they are among them, from chunks of pairs in any order."""
    user, item = (np.concatenate([np.empty(0, np.int32), *parts]) for parts in (rows, cols))
    place = np.searchsorted(users, user)
    wanted = users[np.minimum(place, len(users) - 1)] == user
    place, item = place[wanted], item[wanted]
    order = np.lexsort((item, place))
    indptr = row_offsets(place, len(users))
    return Csr(indptr, item[order], np.empty(0, np.float32), n_items)
