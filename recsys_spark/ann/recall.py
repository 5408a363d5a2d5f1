"""Recall of the ANN index: how much of users' exact lists its shards find at every nprobe, measured over the cluster.

Owns: the measurement that a build is held against, the choice of nprobe, and the check that stored shards are whole.

Each task takes one shard: the exact best of its items by the products of all its vectors, and what the index finds of
them, re-scored exactly.  Answers of all shards meet per chunk of users.  Recall at k is that of a search for k items.
The check opens every shard on a worker, as a reader would.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.ann.index_build import Part
from recsys_spark.ann.kernels.index_choice import ladder
from recsys_spark.errors import DamagedError
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked, merged
from recsys_spark.spark.arrow_vectors import Batches, matrix_of
from recsys_spark.warehouse.location import Location

KS = (10, 100, 500)  # lists whose recall is measured
GATED_K = 100

EXACT = 0  # in place of an nprobe

_CHUNK = 64  # users whose answers of all shards a task holds at once
_EXACT_BYTES = 64 << 20  # of a shard's vectors that are searched exactly at once, and of scores

_ANSWERS = "part int, chunk int, nprobe int, k int, lengths binary, items binary, scores binary"
_HITS = "part int, nprobe int, k int, hits long, wanted long"


_HITS_ARROW = pa.schema(
    [("part", pa.int32()), ("nprobe", pa.int32()), ("k", pa.int32()), ("hits", pa.int64()), ("wanted", pa.int64())]
)


class Recall(NamedTuple):
    """Recall of the exact best k of users in a part, when nprobe lists are searched."""

    part: int
    nprobe: int
    k: int
    recall: float


def sampled_users(users: DataFrame, n: int, seed: int) -> np.ndarray:
    """Embeddings of n users, float32 (n, dim), drawn by seed and user; fewer if there are fewer.

    users: user_id, vector.
    """
    drawn = users.orderBy(F.xxhash64("user_id", F.lit(seed)), "user_id").limit(n).select("vector").toArrow()
    if not drawn.num_rows:
        return np.empty((0, 0), np.float32)
    return matrix_of(drawn.combine_chunks()["vector"].combine_chunks())


def measure_recall(
    spark: SparkSession,
    rows: Sequence[Mapping[str, Any]],
    parts: Sequence[Part],
    users: np.ndarray,
    rerank: int,
    root: Location,
) -> list[Recall]:
    """Recall at every k of KS and every nprobe of each part's ladder.

    rows: the manifest, as `fill_shards` gives it.  users: float32 (n, dim), n >= 1.  rerank: items per wanted item
    whose products are computed.  Every shard is opened as a reader opens it.
    Raises DamagedError for a shard that is not what the manifest says.
    """
    # Tasks go by row, not by number of shard: a shard that the hash left empty has no row.
    tasks = spark.createDataFrame([(place,) for place in range(len(rows))], "row int")
    broadcast = spark.sparkContext.broadcast((list(rows), list(parts), users))
    answers = tasks.repartitionById(len(rows), F.col("row")).mapInArrow(_answer(broadcast, rerank, root), _ANSWERS)
    n_chunks = -(-len(users) // _CHUNK)
    met = answers.repartitionById(n_chunks * len(parts), F.col("part") * n_chunks + F.col("chunk"))
    found = met.mapInArrow(_count_hits, _HITS).groupBy("part", "nprobe", "k")
    sums: Any = found.agg(F.sum("hits").alias("hits"), F.sum("wanted").alias("wanted")).collect()
    return sorted(Recall(row["part"], row["nprobe"], row["k"], row["hits"] / row["wanted"]) for row in sums)


def serving_nprobe(measured: Sequence[Recall], part: int, min_recall: float) -> int | None:
    """The smallest nprobe whose recall at GATED_K is enough; None if none is."""
    enough = [one.nprobe for one in measured if (one.part, one.k) == (part, GATED_K) and one.recall >= min_recall]
    return min(enough, default=None)


def recall_table(measured: Sequence[Recall], part: int) -> str:
    """The ladder of a part as text, a line per nprobe."""
    by_nprobe: dict[int, dict[int, float]] = {}
    for one in measured:
        if one.part == part:
            by_nprobe.setdefault(one.nprobe, {})[one.k] = one.recall
    lines = [
        f"nprobe {nprobe}: " + ", ".join(f"recall@{k} {found[k]:.4f}" for k in sorted(found))
        for nprobe, found in sorted(by_nprobe.items())
    ]
    return "\n".join(lines)


def _answer(broadcast: Any, rerank_factor: int, root: Location) -> Batches:
    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.ann.kernels.faiss_index import set_threads
        from recsys_spark.ann.shard_files import open_shard

        set_threads(1)
        for batch in batches:
            for at in batch["row"].to_pylist():
                rows, parts, users = broadcast.value
                place = next(place for place, part in enumerate(parts) if rows[at]["shard"] in part.shards)
                shard = open_shard(root, rows[at])
                yield _records(place, EXACT, KS[-1], _exact(shard, users, parts[place].n_shards))
                for nprobe in ladder(parts[place].choice.nlist):
                    for k, lists in _found(shard, users, nprobe, parts[place].n_shards, rerank_factor):
                        yield _records(place, nprobe, k, lists)

    return answer


def _exact(shard: Any, users: np.ndarray, n_shards: int) -> Ranked:
    """The best items of the shard by the products with all its vectors."""
    from recsys_spark.ann.kernels.index_choice import share_of_k
    from recsys_spark.numeric.top_k import search_items, top_k

    k, step = share_of_k(KS[-1], n_shards), max(1, _EXACT_BYTES // (4 * shard.vectors.shape[1]))
    parts = []
    for first in range(0, len(shard.ids), step):
        lists = top_k(users, search_items(np.array(shard.vectors[first : first + step]), None), k, None, _EXACT_BYTES)
        parts.append(lists._replace(indices=shard.ids[first + lists.indices].astype(np.int32)))
    return merged(parts, k)


def _found(shard: Any, users: np.ndarray, nprobe: int, n_shards: int, factor: int) -> Iterator[tuple[int, Ranked]]:
    """For every k the best items of the shard as a search finds them."""
    from recsys_spark.ann.kernels.faiss_index import search
    from recsys_spark.ann.kernels.index_choice import share_of_k
    from recsys_spark.ann.kernels.rerank import rerank

    queries = as_queries(users, shard.row["d"])
    for k in KS:
        wanted = share_of_k(factor * k, n_shards)
        _, ids = search(shard.index, queries, wanted, nprobe)
        yield k, rerank(users, ids, shard.ids, shard.vectors, None, share_of_k(k, n_shards))


def as_queries(users: np.ndarray, d: int) -> np.ndarray:
    """Users' embeddings as an index of vectors of length d takes them."""
    from recsys_spark.ann.kernels.faiss_index import padded

    return users if users.shape[1] == d else padded(users)


def _records(part: int, nprobe: int, k: int, lists: Ranked) -> pa.RecordBatch:
    """A record per chunk of users."""
    n = len(lists.indptr) - 1
    firsts = list(range(0, n, _CHUNK))
    columns: dict[str, list[Any]] = {"lengths": [], "items": [], "scores": []}
    for first in firsts:
        indptr = lists.indptr[first : first + _CHUNK + 1]
        columns["lengths"].append(np.diff(indptr).astype(np.int32).tobytes())
        columns["items"].append(lists.indices[indptr[0] : indptr[-1]].astype(np.int32).tobytes())
        columns["scores"].append(lists.scores[indptr[0] : indptr[-1]].astype(np.float32).tobytes())
    same = {"part": part, "nprobe": nprobe, "k": k}
    return pa.RecordBatch.from_pydict(
        {name: pa.array([value] * len(firsts), pa.int32()) for name, value in same.items()}
        | {"chunk": pa.array(range(len(firsts)), pa.int32())}
        | {name: pa.array(values, pa.binary()) for name, values in columns.items()}
    ).select([column.split(" ")[0] for column in _ANSWERS.split(", ")])


def _count_hits(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Of one part and chunk of users: how many of the exact best each search found."""
    parts: dict[tuple[int, int], list[Ranked]] = {}
    place = -1
    for batch in batches:
        for row in batch.to_pylist():
            place = row["part"]
            parts.setdefault((row["nprobe"], row["k"]), []).append(_ranked(row))
    if not parts:
        return
    exact = merged(parts.pop((EXACT, KS[-1])), KS[-1])
    hits = []
    for (nprobe, k), answers in sorted(parts.items()):
        found = merged(answers, k)
        wanted = [exact.indices[first : min(first + k, end)] for first, end in _bounds(exact)]
        had = [found.indices[first:end] for first, end in _bounds(found)]
        n_hits = sum(int(np.isin(one, other).sum()) for one, other in zip(wanted, had, strict=True))
        hits.append({"part": place, "nprobe": nprobe, "k": k, "hits": n_hits, "wanted": sum(map(len, wanted))})
    yield pa.RecordBatch.from_pylist(hits, schema=_HITS_ARROW)


def _bounds(lists: Ranked) -> Iterator[tuple[int, int]]:
    return zip(lists.indptr[:-1].tolist(), lists.indptr[1:].tolist(), strict=True)


def _ranked(row: Mapping[str, Any]) -> Ranked:
    lengths = np.frombuffer(row["lengths"], np.int32)
    indptr = offsets(lengths)
    return Ranked(indptr, np.frombuffer(row["items"], np.int32), np.frombuffer(row["scores"], np.float32))


def shard_faults(shards: DataFrame, root: Location) -> list[str]:
    """What is wrong with each shard that cannot be used, one line each; shards: rows of `ann_shards`."""
    rows = {row["shard"]: row.asDict() for row in shards.collect()}
    if not rows:
        return []
    broadcast = shards.sparkSession.sparkContext.broadcast(rows)
    tasks = shards.sparkSession.createDataFrame([(number,) for number in rows], "shard int")
    placed = tasks.repartitionById(len(rows), F.pmod("shard", F.lit(len(rows))))
    found = placed.mapInArrow(_open(broadcast, root.absolute()), "fault string")
    return sorted(row["fault"] for row in found.collect())


def _open(broadcast: Any, root: Location) -> Batches:
    def open_each(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.ann.shard_files import open_shard

        for batch in batches:
            faults = []
            for number in batch["shard"].to_pylist():
                try:
                    open_shard(root, broadcast.value[number], mapped=True)
                except DamagedError as err:
                    faults.append(str(err))
            yield pa.RecordBatch.from_pydict({"fault": pa.array(faults, pa.string())})

    return open_each
