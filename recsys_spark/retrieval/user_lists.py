"""Candidate lists of single users, of all sources in one pass: interactions and vectors meet once, and models score.

Owns: how a block's parts travel, and what bounds a task; `retrieval.scorers` scores.  A source gives a `Personal`.

For a fusion of scores a list goes on past its own end, with its source's scores of the first items of all other lists.

Users are cut into blocks.  Interactions travel as arrays, once, whatever the number of sources, and so do the vectors
of the sources that have any; the models, which are of items, are sent to every worker.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.exact_search import USER_LISTS, list_records
from recsys_spark.blend.kernels.union import appended, for_all_cells, missing, union_cells
from recsys_spark.config.lists import Candidates
from recsys_spark.numeric.ragged import row_offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.retrieval.scorers import Model, Scorer, Users, VectorModel
from recsys_spark.signals.visibility import is_hidden
from recsys_spark.spark.arrow_vectors import cut_vectors
from recsys_spark.spark.sparse_blocks import RowBlock, blocks_for, cut_pairs, even_starts, read_array

_BLOCK_BYTES = 256 << 20  # what a task may take to make a block of users: some 2.5 million interactions
_LIST_BYTES = 24  # of an entry: in the heap, in the list and in the record
_NUMBER_BYTES = 12  # of a number of a vector: as it arrives, sorted, and among those of the users who have one
_USERS_PER_BLOCK = 2_000  # a task costs as much as the lists of so many users
_BLOCKS_PER_CORE = 2

# First items of every list that all sources score.
COMPLETED = 100


_NOTHING = np.zeros(0, np.int32)

_PAIRS = (("user_idx", "int32"), ("item_idx", "int32"), ("weight", "float32"), ("time", "int64"), ("hidden", "bool"))
_COLUMNS = dict(_PAIRS[2:])


@dataclass(frozen=True)
class ForMany:
    """What a source gives of many users at once: rows of `source_candidates` for segments and for everybody."""

    lists: DataFrame


@dataclass(frozen=True)
class Personal:
    """What a source gives of single users: its model, the longest list, and the vectors of users (user_idx, vector)."""

    model: Model
    max_items: int
    vectors: DataFrame | None = None


def propose(
    sources: Mapping[str, Personal],
    interactions: DataFrame,
    n_users: int,
    n_items: int,
    candidates: Candidates,
    cutoff: datetime,
    for_all: np.ndarray = _NOTHING,
) -> DataFrame:
    """Rows of `source_candidates`: of every source the list of every user for whom it finds any item.

    Where scores are fused, a list goes on past its own end, with what other sources propose, and with the items
    `for_all`, int32, ascending.
    """
    spark = interactions.sparkSession
    starts = even_starts(n_users, _n_blocks(sources, interactions, n_users))
    pairs = interactions.select(
        "user_idx",
        "item_idx",
        "weight",
        F.unix_micros("last_time").alias("time"),
        is_hidden(candidates, cutoff).alias("hidden"),
    )
    chunks = cut_pairs(pairs, "user_idx", "item_idx", _COLUMNS, starts)
    for name, one in sources.items():
        if one.vectors is not None:
            vectors = cut_vectors(one.vectors, "user_idx", starts)
            named = vectors.select("block", F.lit(name).alias("source"), F.col("rows").alias("user_idx"), "vectors")
            chunks = chunks.unionByName(named, allowMissingColumns=True)
    columns = [F.col(name) if name in chunks.columns else F.lit(None).cast("binary").alias(name) for name in _names()]
    models = {name: (one.model, one.max_items) for name, one in sources.items()}
    broadcast = spark.sparkContext.broadcast(models)
    depth = COMPLETED if fuses_scores(candidates) else 0
    return (
        chunks.select(*columns)
        .repartitionById(len(starts) - 1, F.col("block"))
        .mapInArrow(_propose(broadcast, starts, n_items, depth, for_all), USER_LISTS)
    )


def fuses_scores(candidates: Candidates) -> bool:
    """Whether lists of any variant are a fusion of scores."""
    return any(one.method == "scores" for one in candidates.by_variant().values())


def _names() -> tuple[str, ...]:
    return ("block", "source", *(name for name, _ in _PAIRS), "vectors")


def _n_blocks(sources: Mapping[str, Personal], interactions: DataFrame, n_users: int) -> int:
    """How many blocks of users keep the cores busy, or more, so that what a task makes is at most _BLOCK_BYTES."""
    spark = interactions.sparkSession
    beyond = COMPLETED * (len(sources) + 2)  # entries at the end of a list, about, those of lists for everybody too
    per_user = sum((one.max_items + beyond) * _LIST_BYTES + _size(one) * _NUMBER_BYTES for one in sources.values())
    fitting = -(-n_users * per_user // (_BLOCK_BYTES // 2))
    busy = min(spark.sparkContext.defaultParallelism * _BLOCKS_PER_CORE, n_users // _USERS_PER_BLOCK)
    return max(1, busy, fitting, blocks_for(spark, interactions.count(), _BLOCK_BYTES))


def _size(one: Personal) -> int:
    """Length of a user's vector."""
    return one.model.items.vectors.shape[1] if isinstance(one.model, VectorModel) else 0


def _propose(
    broadcast: Any, starts: np.ndarray, n_items: int, depth: int, for_all: np.ndarray
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The chunks of a block of users, which are all that a partition holds, to the lists of every source."""

    def make_lists(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        table = pa.Table.from_batches(held)
        number = table["block"][0].as_py()
        first, end = int(starts[number]), int(starts[number + 1])
        rows = _rows(table, first, end)
        hidden = rows.kept(rows.columns["hidden"]).csr("weight", n_items)
        scorers, lists = {}, {}
        for source, (model, max_items) in broadcast.value.items():
            scorers[source] = model.scorer(Users(rows, hidden, *_vectors(table, source, first)))
            lists[source] = scorers[source].lists(max_items)
        cells = union_cells([(one.places, lists[source]) for source, one in scorers.items()], depth)
        if depth:
            cells = np.union1d(cells, for_all_cells(end - first, for_all, hidden))
        for source, one in scorers.items():
            complete = _completed(one, lists[source], cells)
            n_own = np.diff(lists[source].indptr).astype(np.int32)
            moments = one.background() if depth else (None, None)
            yield list_records(source, first + one.places, complete, n_own, *moments)

    return make_lists


def _completed(scorer: Scorer, lists: Ranked, cells: np.ndarray) -> Ranked:
    """The lists, with the source's scores of the other items of `cells` at their ends."""
    at, items = missing(cells, (scorer.places, lists))
    scores = scorer.scores(at, items)
    # A user without a list gets no such end either.
    known = ~np.isnan(scores) & (np.diff(lists.indptr) > 0)[at]
    return appended(lists, at[known], items[known], scores[known])


def _rows(table: pa.Table, first: int, end: int) -> RowBlock:
    """The interactions of the users from `first` to `end` (exclusive)."""
    chunks = [at for at, source in enumerate(table["source"].to_pylist()) if source is None]
    users, items, *values = (
        np.concatenate([np.empty(0, dtype), *(read_array(table[name], at, dtype) for at in chunks)])
        for name, dtype in _PAIRS
    )
    order = np.lexsort((items, users))
    indptr = row_offsets(users - first, end - first)
    columns = {name: array[order] for name, array in zip(_COLUMNS, values, strict=True)}
    return RowBlock(first, indptr, items[order], columns)


def _vectors(table: pa.Table, source: str, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in the block of the users who have a vector of `source`, ascending, and these vectors."""
    chunks = [at for at, name in enumerate(table["source"].to_pylist()) if name == source]
    if not chunks:
        return np.empty(0, np.int64), np.empty((0, 1), np.float32)
    users = [read_array(table["user_idx"], at, "int32") for at in chunks]
    vectors = [
        read_array(table["vectors"], at, "float32").reshape(len(some), -1)
        for at, some in zip(chunks, users, strict=True)
    ]
    places = np.concatenate(users) - first
    order = np.argsort(places)
    return places[order], np.concatenate(vectors)[order]
