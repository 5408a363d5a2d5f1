"""Build of the ANN index over items' embeddings, shard by shard over the cluster, around `ann.kernels.faiss_index`.

Owns: which items make an index and which shard an item goes to, where quantisers are trained, and how a shard is
filled.  Its workers load FAISS, and so never torch.

Quantisers are trained once for all shards of a part, on a sample, in one task; the empty trained index is sent to every
worker, and a task fills one shard from rows that stream by in the order of item_idx.  So a shard has the same bytes
however often, and from whatever partitions, it is filled; the last bits of a code may differ between processors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.kernels.index_choice import IndexChoice, choose_index, indexed_length
from recsys_spark.config.models import Ann
from recsys_spark.errors import ConfigError, KernelError
from recsys_spark.failpoint import failpoint
from recsys_spark.spark.arrow_vectors import Batches, matrix_of
from recsys_spark.warehouse.blobs import Blob, NewBlob
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import ITEM_CATEGORIES

MAX_PARTS = 1000  # each is trained by itself and has a file at least

_ADD_BYTES = 8 << 20  # of vectors that are added at once: a fixed number of rows, or codes could depend on the batches
_SAMPLED_SHARE = 1.2  # drawn by hash: a fifth more, so that there are enough
_LEAST_DRAWN = 16  # vectors, also for an index without training, which takes the length of a vector from them
_DRAW = 1 << 30

_FILLED = (
    "shard int, rel_path string, n_bytes long, sha256 string, vectors_rel_path string, vectors_n_bytes long, "
    "vectors_sha256 string, ntotal int, min_item_idx int, max_item_idx int, d int, metric string, nlist int, m int, "
    "nbits int, faiss_version string"
)


@dataclass(frozen=True)
class Part:
    """Items with an index of their own: those with one value of [ann] partition_by, or all.

    n: how many they are.  first_shard: the number of the first of its `n_shards` shards.
    """

    value: str | None
    n: int
    first_shard: int
    n_shards: int
    choice: IndexChoice

    @property
    def shards(self) -> range:
        """Numbers of its shards."""
        return range(self.first_shard, self.first_shard + self.n_shards)


def indexed_items(embeddings: DataFrame, catalogue: DataFrame, partition_by: str) -> DataFrame:
    """item_id, item_idx, vector and part of the items that may be shown; part: null without a value, or a setting.

    embeddings: rows of `item_embeddings`.  catalogue: rows of `items` as of the date.
    """
    shown = embeddings.where(F.col("shown") & (F.col("norm") > 0)).select("item_id", "item_idx", "vector")
    if not partition_by:
        return shown.withColumn("part", F.lit(None).cast("string"))
    named = F.col(partition_by) if partition_by in ITEM_CATEGORIES else _attribute(partition_by)
    values = catalogue.select("item_id", F.when(F.trim(named) != "", named).alias("part"))
    return shown.join(values, on="item_id", how="left")


def _attribute(name: str) -> Column:
    return F.try_element_at("attributes", F.lit(name))


def fit_parts(items: DataFrame, d: int, settings: Ann) -> list[Part]:
    """The parts in the order of their values, none first.  items: part.  d: length of an indexed vector.

    The memory is shared out by the number of items.
    Raises ConfigError for more than MAX_PARTS or an attribute that no item has, KernelError if [ann] factory does not
    fit a part.
    """
    rows: Any = items.groupBy("part").count().limit(MAX_PARTS + 1).collect()
    if len(rows) > MAX_PARTS:
        raise ConfigError(
            f"[ann] partition_by: expected an attribute with at most {MAX_PARTS} values, {settings.partition_by!r} has "
            "more; choose another, or leave it empty"
        )
    if rows and settings.partition_by and all(row["part"] is None for row in rows):
        raise ConfigError(
            "[ann] partition_by: expected category, brand or an attribute that items have, got "
            f"{settings.partition_by!r}, which none has; correct it, or leave it empty"
        )
    total = sum(row["count"] for row in rows)
    parts: list[Part] = []
    for row in sorted(rows, key=lambda row: (row["part"] is not None, row["part"])):
        value, n = row["part"], row["count"]
        first = parts[-1].shards.stop if parts else 0
        try:
            choice = choose_index(n, d, settings.memory_bytes * n // total, settings.factory)
        except KernelError as err:
            raise KernelError(f"[ann] part {value!r} of {n} items: {err}") from err
        parts.append(Part(value, n, first, -(-n // settings.items_per_shard), choice))
    return parts


def train_parts(
    items: DataFrame, parts: Sequence[Part], longest: float | None, seed: int, n_threads: int
) -> dict[int, bytes]:
    """The empty trained index of every part by its place, each trained in a task on a sample drawn by seed and item.

    items: as `indexed_items` gives them.  longest: length of the longest vector where lengths differ (they are indexed
    as `ann.kernels.faiss_index.augment` says), None where all are 1.  n_threads: of the task, where there is one part.
    """
    places = _places(items, parts)
    wanted = {at: _SAMPLED_SHARE * max(part.choice.n_train, _LEAST_DRAWN) for at, part in enumerate(parts)}
    share = _by_place({at: wanted[at] / part.n for at, part in enumerate(parts)})
    draw = F.pmod(F.xxhash64("item_id", F.lit(seed)), F.lit(_DRAW))
    few = _by_place({at: part.n <= wanted[at] for at, part in enumerate(parts)})
    drawn = places.withColumn("draw", draw).where(few | (F.col("draw") < share * _DRAW))
    placed = drawn.select("place", "draw", "item_idx", "vector").repartitionById(len(parts), F.col("place"))
    choices = [part.choice for part in parts]
    trained = placed.sortWithinPartitions("draw", "item_idx").mapInArrow(
        # Several parts train at once, each on one core.
        _train(choices, longest, seed, n_threads if len(parts) == 1 else 1),
        "place int, index binary",
    )
    return {row["place"]: bytes(row["index"]) for row in trained.collect()}


def _train(choices: Sequence[IndexChoice], longest: float | None, seed: int, n_threads: int) -> Batches:
    def train(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.ann.kernels.faiss_index import train_index

        place, sample, n_taken = -1, np.empty((0, 0), np.float32), 0
        for batch in batches:
            if not batch.num_rows:
                continue
            place = batch["place"][0].as_py()
            if not len(sample):  # held once: it is most of the memory of a large index's task
                width = _indexable(matrix_of(batch["vector"].slice(0, 1)), longest).shape[1]
                sample = np.empty((max(1, choices[place].n_train), width), np.float32)
            n_more = min(batch.num_rows, len(sample) - n_taken)
            if n_more:
                vectors = matrix_of(batch["vector"].slice(0, n_more))
                sample[n_taken : n_taken + n_more] = _indexable(vectors, longest)
                n_taken += n_more
        if n_taken:
            index = train_index(sample[:n_taken], choices[place], seed, n_threads)
            yield pa.RecordBatch.from_pydict({"place": pa.array([place], pa.int32()), "index": [index]})

    return train


def fill_shards(
    items: DataFrame, parts: Sequence[Part], trained: Mapping[int, bytes], longest: float | None, root: Location
) -> list[dict[str, Any]]:
    """Stores every shard below `root` and returns its row of the manifest, as far as files and index are concerned.

    items, longest: as for `train_parts`, which gave `trained`.
    """
    shard = _by_place({at: part.first_shard for at, part in enumerate(parts)}) + F.pmod(
        F.xxhash64("item_id"), _by_place({at: part.n_shards for at, part in enumerate(parts)})
    )
    placed = _places(items, parts).select(
        "place", shard.cast("int").alias("shard"), "item_idx", "vector"
    ).repartitionById(parts[-1].shards.stop, F.col("shard"))  # fmt: skip
    broadcast = items.sparkSession.sparkContext.broadcast(dict(trained))
    filled = placed.sortWithinPartitions("item_idx").mapInArrow(_fill(broadcast, longest, root.absolute()), _FILLED)
    return sorted((row.asDict() for row in filled.collect()), key=lambda row: row["shard"])


def _fill(broadcast: Any, longest: float | None, root: Location) -> Batches:
    def fill(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.ann.kernels.faiss_index import add, load_index, set_threads, write_index
        from recsys_spark.ann.shard_files import INDEX_SUFFIX, VECTORS_SUFFIX

        set_threads(1)
        index, number, first, last = None, -1, -1, -1
        with NewBlob(root, VECTORS_SUFFIX) as vectors_file, NewBlob(root, INDEX_SUFFIX) as index_file:
            with vectors_file.path.open("wb") as out:
                for place, shard, ids, vectors in _blocks(batches):
                    if index is None:
                        trained = broadcast.value[place]
                        index, number, first = load_index(trained, len(trained)), shard, int(ids[0])
                    add(index, ids, _indexable(vectors, longest))
                    out.write(np.ascontiguousarray(vectors).data)
                    last = int(ids[-1])
            if index is None:
                return
            failpoint("ann.vectors_written")
            write_index(index, index_file.path)
            files = index_file.store(), vectors_file.store()
        row = {"shard": number, "min_item_idx": first, "max_item_idx": last, **_described(index, *files)}
        yield pa.RecordBatch.from_pylist([row], schema=_FILLED_ARROW)

    return fill


def _described(index: Any, file: Blob, vectors_file: Blob) -> dict[str, Any]:
    """What the manifest says of a filled index and its files."""
    import faiss

    from recsys_spark.ann.kernels.faiss_index import index_facts

    facts = index_facts(index)
    return {
        "rel_path": file.rel_path,
        "n_bytes": file.n_bytes,
        "sha256": file.sha256,
        "vectors_rel_path": vectors_file.rel_path,
        "vectors_n_bytes": vectors_file.n_bytes,
        "vectors_sha256": vectors_file.sha256,
        "ntotal": facts.ntotal,
        "d": facts.d,
        "metric": facts.metric,
        "nlist": facts.nlist,
        "m": facts.M,
        "nbits": facts.nbits,
        "faiss_version": faiss.__version__,
    }


_ARROW = {"int": pa.int32(), "long": pa.int64(), "string": pa.string()}
_COLUMNS = (column.split(" ") for column in _FILLED.split(", "))
_FILLED_ARROW = pa.schema([(name, _ARROW[kind]) for name, kind in _COLUMNS])


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """place, shard, ids int64 (n,) and vectors float32 (n, dim) of so many rows at once as _ADD_BYTES holds."""
    ids, vectors, waiting = [], [], 0
    place = shard = -1
    n_rows = 1
    for batch in batches:
        if not batch.num_rows:
            continue
        place, shard = batch["place"][0].as_py(), batch["shard"][0].as_py()
        ids.append(batch["item_idx"].to_numpy().astype(np.int64))
        vectors.append(matrix_of(batch["vector"]))
        waiting += batch.num_rows
        n_rows = max(1, _ADD_BYTES // (4 * vectors[-1].shape[1]))
        while waiting >= n_rows:
            all_ids, all_vectors = np.concatenate(ids), np.concatenate(vectors)
            yield place, shard, all_ids[:n_rows], all_vectors[:n_rows]
            ids, vectors, waiting = [all_ids[n_rows:]], [all_vectors[n_rows:]], waiting - n_rows
    if waiting:
        yield place, shard, np.concatenate(ids), np.concatenate(vectors)


def _indexable(vectors: np.ndarray, longest: float | None) -> np.ndarray:
    """The vectors as they are indexed, float32 (n, indexed_length(dim, ...))."""
    from recsys_spark.ann.kernels.faiss_index import augment, padded

    if longest is not None:
        return augment(vectors, longest)
    return vectors if indexed_length(vectors.shape[1], True) == vectors.shape[1] else padded(vectors)


def _places(items: DataFrame, parts: Sequence[Part]) -> DataFrame:
    """`items` with the place of their part among `parts`."""
    if len(parts) == 1:
        return items.withColumn("place", F.lit(0))
    rows = [(part.value, at) for at, part in enumerate(parts)]
    known = items.sparkSession.createDataFrame(rows, "value string, place int")
    return items.join(F.broadcast(known), on=F.col("part").eqNullSafe(F.col("value")), how="inner")


def _by_place(values: Mapping[int, Any]) -> Column:
    """The value of a row's part."""
    if len(values) == 1:
        return F.lit(next(iter(values.values())))
    return F.element_at(F.array(*[F.lit(values[at]) for at in sorted(values)]), F.col("place") + 1)
