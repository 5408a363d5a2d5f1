"""Embeddings of users and items over the cluster by `two_tower.kernels.towers`: numpy alone, no worker imports torch.

Owns: how the model and the items' vectors reach a worker, and how much is embedded at once.

A row without a usable embedding, one that is not finite or zero, has a vector of zeros and the norm 0: whoever searches
or pools it meets no NaN, and whether it may be missing is for the step and the gates to say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES
from recsys_spark.errors import DamagedError, KernelError
from recsys_spark.spark.arrow_vectors import Batches, map_rows, matrix_of
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.two_tower.kernels.model_file import TowerModel, load_model
from recsys_spark.two_tower.kernels.towers import Shape, Tower, embed, pool_history

# A table of a million hashed ids of 128 numbers, and more; the driver and every worker hold one copy.
MAX_MODEL_BYTES = 1 << 30

_BATCH_BYTES = 8 << 20  # of input rows that are encoded at once; encoded they take about as much again
_WORK_BYTES = 4 << 20  # of what is computed at once; more would leave the cache, which is slower

_UNKNOWN = -1


class WorkerModel:
    """A model on its way to the workers: its file, checked and loaded once by every worker that asks for it."""

    def __init__(self, data: bytes, version: str) -> None:
        self.version = version
        self._data = data

    @cached_property
    def model(self) -> TowerModel:
        """The model; raises DamagedError if what arrived is not the file of that SHA-256."""
        found = sha256(self._data).hexdigest()
        if found != self.version:
            raise DamagedError(
                f"embed: expected a model of sha256 {self.version} on the worker, got {found} over {len(self._data)} "
                "bytes; run the date again"
            )
        model = load_model(self._data)
        self._data = b""  # the weights are copies, and a worker need not hold both
        return model


@dataclass(frozen=True)
class ItemVectors:
    """Embeddings of items, float32 (m, d), in the order of `ids`."""

    ids: pa.Array
    vectors: np.ndarray

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The row of every id; made once by every worker."""
        return {item_id: row for row, item_id in enumerate(self.ids.to_pylist())}


class Histories(NamedTuple):
    """Rows of items, one history after the other, newest first, and how many each has, int64 (n,)."""

    items: np.ndarray
    lengths: np.ndarray

    def part(self, start: int, end: int) -> "Histories":
        """The histories `start` to `end` (exclusive)."""
        first = int(self.lengths[:start].sum())
        lengths = self.lengths[start:end]
        return Histories(self.items[first : first + int(lengths.sum())], lengths)


def broadcast_model(spark: SparkSession, data: bytes, version: str) -> "Broadcast[WorkerModel]":
    """The file of a model, sent to every worker.  Raises KernelError if it has more than MAX_MODEL_BYTES."""
    check_bytes("embed", "weights", len(data), MAX_MODEL_BYTES, "two_tower.max_id_buckets")
    return spark.sparkContext.broadcast(WorkerModel(data, version))


def embed_items(items: DataFrame, broadcast: "Broadcast[WorkerModel]") -> DataFrame:
    """item_id, item_idx, vector and norm of every item.  items: item_id, item_idx and what the item tower takes.

    Sums of products depend in their last bits on the rows that are computed together.
    """
    return map_rows(items, _embed_items(broadcast), _schema("item"))


def fit_item_vectors(items: DataFrame) -> ItemVectors:
    """Embeddings of items on the driver, for the histories of users.  items: item_id, vector (all of one length).

    Raises KernelError if ids have more than MAX_ID_BYTES, or vectors more than MAX_VECTOR_BYTES.
    """
    sizes: Any = items.agg(
        F.sum(F.octet_length("item_id")).alias("ids"), F.sum(F.size("vector").cast("long") * 4).alias("vectors")
    ).first()
    check_bytes("embed", "ids of items", sizes["ids"] or 0, MAX_ID_BYTES, "interactions.window_days")
    check_bytes("embed", "vectors of items", sizes["vectors"] or 0, MAX_VECTOR_BYTES, "two_tower.dim")
    table = items.select("item_id", "vector").toArrow().combine_chunks()
    return ItemVectors(table["item_id"].combine_chunks(), matrix_of(table["vector"].combine_chunks()))


def embed_users(users: DataFrame, broadcast: "Broadcast[WorkerModel]", items: ItemVectors) -> DataFrame:
    """user_id, user_idx, vector and norm of every user.

    users: user_id, user_idx, recent_items (ids, newest first) and what the user tower takes.  The newest
    `history_items` of the recent items count, as far as they are among `items`.
    """
    vectors = users.sparkSession.sparkContext.broadcast(items)
    return map_rows(users, _embed_users(broadcast, vectors), _schema("user"))


def _schema(kind: str) -> str:
    return f"{kind}_id string, {kind}_idx int, vector array<float>, norm float"


def _embed_items(broadcast: "Broadcast[WorkerModel]") -> Batches:
    def embed_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _parts(batches):
            model = broadcast.value.model
            encoded = model.item_inputs.encode(batch)
            yield _rows("item", batch, _embedded(model.item, model.shape, encoded, None, None))

    return embed_batches


def _embed_users(broadcast: "Broadcast[WorkerModel]", items: "Broadcast[ItemVectors]") -> Batches:
    def embed_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _parts(batches):
            model, known = broadcast.value.model, items.value
            histories = _histories(batch["recent_items"], known.places, model.shape.history_items)
            encoded = model.user_inputs.encode(batch)
            yield _rows("user", batch, _embedded(model.user, model.shape, encoded, histories, known.vectors))

    return embed_batches


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of the batches, at most about _BATCH_BYTES at a time, however large the session's batches are."""
    for batch in batches:
        n_parts = max(1, -(-batch.nbytes // _BATCH_BYTES))
        size = max(1, -(-batch.num_rows // n_parts))
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


def _histories(recent: pa.ListArray, places: Mapping[str, int], n_items: int) -> Histories:
    newest = pc.list_slice(recent, 0, n_items)
    owners = np.repeat(np.arange(len(newest)), pc.fill_null(pc.list_value_length(newest), 0).to_numpy())
    ids = newest.flatten().dictionary_encode()
    known = np.array([places.get(one, _UNKNOWN) for one in ids.dictionary.to_pylist()], np.int64)
    rows = known[ids.indices.to_numpy()]
    return Histories(rows[rows != _UNKNOWN], np.bincount(owners[rows != _UNKNOWN], minlength=len(newest)))


def _embedded(
    tower: Tower, shape: Shape, encoded: Encoded, histories: Histories | None, items: np.ndarray | None
) -> np.ndarray:
    """Embeddings, float32 (n, d), computed for as many rows at once as _WORK_BYTES has room for."""
    vectors = np.empty((len(encoded.dense), shape.dim), np.float32)
    gathered = np.diff(encoded.indptr)  # rows of tables of each row of `encoded`
    if histories is not None:
        gathered = gathered + histories.lengths
    # Of a row: what it gathers, twice; sums, their squares and the embedding; the hidden layer, twice.
    row_bytes = 4 * (gathered * 2 * shape.dim + 5 * shape.dim + 2 * shape.hidden)
    for start, end in _cuts(row_bytes, _WORK_BYTES):
        pooled = None
        if histories is not None and items is not None:
            some = histories.part(start, end)
            pooled = pool_history(items, some.items, some.lengths, shape.half_life_items)
        vectors[start:end] = _finite(tower, _part(encoded, start, end), pooled, shape.normalize)
    return vectors


def _cuts(row_bytes: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Where to cut rows of these sizes: at least one row at a time, else at most `most` bytes."""
    ends = np.cumsum(row_bytes)
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield start, end
        start = end


def _part(encoded: Encoded, start: int, end: int) -> Encoded:
    first, last = encoded.indptr[start], encoded.indptr[end]
    return Encoded(
        encoded.dense[start:end],
        encoded.indptr[start : end + 1] - first,
        encoded.buckets[first:last],
        encoded.weights[first:last],
        encoded.ids[start:end],
    )


def _finite(tower: Tower, encoded: Encoded, pooled: np.ndarray | None, normalize: bool) -> np.ndarray:
    """Embeddings, NaN for those that are not finite; one such makes its whole batch fail, so the batch is halved."""
    n = len(encoded.dense)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return embed(tower, encoded, pooled, normalize)
    except KernelError:
        if n == 1:
            return np.full((1, len(tower.bias)), np.nan, np.float32)
    halves = [
        _finite(tower, _part(encoded, start, end), None if pooled is None else pooled[start:end], normalize)
        for start, end in ((0, n // 2), (n // 2, n))
    ]
    return np.concatenate(halves)


def _rows(kind: str, batch: pa.RecordBatch, vectors: np.ndarray) -> pa.RecordBatch:
    exact = vectors.astype(np.float64)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", exact, exact)).astype(np.float32)
    wrong = ~np.isfinite(norms)  # also where the numbers are finite and their length is not, in float32
    vectors[wrong], norms[wrong] = 0.0, 0.0
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.RecordBatch.from_pydict(
        {
            f"{kind}_id": batch[f"{kind}_id"],
            f"{kind}_idx": batch[f"{kind}_idx"],
            "vector": pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel())),
            "norm": pa.array(norms),
        }
    )
