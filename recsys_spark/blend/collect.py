"""Inputs of the blend as Spark collects them: settings, shared lists, and blocks of users with their own lists.

Owns: the weight of a list, the variant of a user, and how rows of users and of their lists are brought together in the
order of the users and cut into blocks.  Who gets a list and what may be in it is in `signals.visibility`.

What many users share travels by broadcast: the lists for segments and for everybody, and the ids of the items that may
be shown.  Both are collected on the driver, bounded by MAX_SHARED_BYTES and MAX_ID_BYTES; beyond a bound the step ends
with an error that names the setting to change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.kernels.diversity import Diversity
from recsys_spark.blend.kernels.score_fusion import Fusion
from recsys_spark.blend.worker import BlendBroadcast, Settings, VisibleItems, shared_lists
from recsys_spark.config.lists import MAIN, Candidates
from recsys_spark.config.schema import Config
from recsys_spark.numeric.ragged import row_offsets
from recsys_spark.signals.visibility import shown_items
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

# Twenty million entries of shared lists; a worker holds 28 bytes for each.
MAX_SHARED_BYTES = 256 << 20


_PLACES = 1_000_000  # shares of variants are told apart to a millionth

_ENTRY_BYTES = 12  # item_idx, rank and score


# With fewer users a task, files are small; 4,096 users with five lists of 200 are 33 MB.
_USERS_PER_TASK = 4096
_RANGE_BITS = 12  # 4,096 ranges of indices: 400 tasks differ by a tenth at most
# The columns of a list beside user_idx, with their Arrow types also for a block without lists.
LIST_FIELDS = (
    pa.field("source", pa.string()),
    pa.field("item_idx", pa.list_(pa.int32())),
    pa.field("score", pa.list_(pa.float32())),
    pa.field("n_own", pa.int32()),
    pa.field("mean", pa.float64()),
    pa.field("deviation", pa.float64()),
)


def weight_of(source: str, weights: Mapping[str, float], otherwise: float = 1.0) -> float:
    """The weight of a list: its own, else its source's (`popular` for `popular/trending`), else `otherwise`."""
    return weights.get(source, weights.get(source.partition("/")[0], otherwise))


def fit_settings(source_candidates: DataFrame, candidates: Candidates) -> Settings:
    """The settings by which all lists of `source_candidates` are fused."""
    names = sorted(row["source"] for row in source_candidates.select("source").distinct().collect())
    weights = tuple(weight_of(name, candidates.source_weights) for name in names)
    diversity, share = Diversity(**candidates.diversity.model_dump()), candidates.explore.share
    fusion = None
    if candidates.method == "scores":
        own = {
            row["source"]
            for row in source_candidates.where(F.col("user_idx").isNotNull()).select("source").distinct().collect()
        }
        # A list that many users share tells little of one user: it has a weight only where the settings give it one.
        of_scores = [weight_of(name, _with_segments(candidates.score_weights), float(name in own)) for name in names]
        of_new = [candidates.score_weights.get(f"{name}/new", one) for name, one in zip(names, of_scores, strict=True)]
        fusion = Fusion(np.array(of_scores) * weights, candidates.score_scaling)
        if of_new != of_scores:
            fusion = replace(fusion, of_new=np.array(of_new) * weights)
    return Settings(
        tuple(names), weights, candidates.rrf_k, candidates.k, diversity=diversity, explore_share=share, fusion=fusion
    )


def _with_segments(weights: Mapping[str, float]) -> Mapping[str, float]:
    """The weights; without a weight of its own `popular/segment` has that of `popular/global`."""
    return {"popular/segment": weights.get("popular/global", 0.0), **weights}


def variant_of(candidates: Candidates) -> Column:
    """The variant of a user, by the hash of `user_id`: the same on every date while the shares are the same."""
    place = F.pmod(F.xxhash64("user_id", F.lit("variant")), F.lit(_PLACES)) / F.lit(float(_PLACES))
    found, ends = F.lit(MAIN), sum(one.share for one in candidates.variants.values())
    for name, one in sorted(candidates.variants.items(), reverse=True):
        found = F.when((place < ends) & (place >= ends - one.share), F.lit(name)).otherwise(found)
        ends -= one.share
    return found


def fit_shown(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> VisibleItems:
    """The items that may be shown, on the driver.  Raises KernelError if their ids have more than MAX_ID_BYTES."""
    shown = shown_items(inputs, config, cutoff).persist()
    size: Any = shown.agg(F.sum(F.octet_length("item_id")).alias("n_bytes")).first()
    check_bytes("blend", "ids of items that may be shown", size["n_bytes"] or 0, MAX_ID_BYTES, "available_within_days")
    table = shown.toArrow().sort_by("item_idx").combine_chunks()
    return VisibleItems(table["item_idx"].to_numpy(), table["item_id"].combine_chunks())


def fit_had(interactions: DataFrame, n_items: int) -> np.ndarray:
    """Whether an item has any interaction, a dislike included, bool (n_items,), on the driver."""
    found = np.zeros(n_items, bool)
    found[interactions.select("item_idx").distinct().toArrow()["item_idx"].to_numpy()] = True
    return found


def fit_shared(source_candidates: DataFrame, settings: Settings, shown: VisibleItems) -> BlendBroadcast:
    """The lists for segments and for everybody, ready to be broadcast.

    Raises KernelError if they have more than MAX_SHARED_BYTES.
    """
    lists = source_candidates.where(F.col("user_idx").isNull()).select("source", "segment", "items")
    size: Any = lists.agg(F.sum(F.size("items").cast("long") * _ENTRY_BYTES).alias("n_bytes")).first()
    check_bytes(
        "blend", "lists for segments and everybody", size["n_bytes"] or 0, MAX_SHARED_BYTES, "max_items of a source"
    )
    return shared_lists(lists.toArrow(), settings, shown)


_LISTS = tuple(field.name for field in LIST_FIELDS)


def list_columns() -> tuple[Column, ...]:
    """The columns of `LIST_FIELDS`, out of a row of source_candidates.

    Items are two flat arrays: a struct per candidate is five times the bytes to shuffle and to hand to Python.
    """
    flat = {name: f"items.{name}" for name in ("item_idx", "score")}
    return tuple(F.col(flat.get(name, name)).alias(name) for name in _LISTS)


def user_rows(users: DataFrame, source_candidates: DataFrame) -> DataFrame:
    """Rows of `users`, which have user_idx, each followed by those of the user's own lists, which have source, item_idx
    and score (arrays, best first), n_own, mean and deviation in place of the user's columns.

    Users are in ascending order of user_idx, within tasks and across them; tasks have about equally many users.
    `users` is read three times.
    """
    lists = source_candidates.where(F.col("user_idx").isNotNull()).select("user_idx", *list_columns())
    n_tasks, task = _tasks_of(users)
    rows = users.unionByName(lists, allowMissingColumns=True)
    return rows.repartitionById(n_tasks, task).sortWithinPartitions("user_idx", F.col("source").asc_nulls_first())


def _tasks_of(users: DataFrame) -> tuple[int, Column]:
    """How many tasks there are, and the task of a user.

    Indices are in the order of the ids, and ids may be in the order of time: the active users may all be among the last
    indices.  So users are counted in ranges of indices, and tasks are made of ranges.
    """
    ends = F.min("user_idx").alias("first"), F.max("user_idx").alias("last")
    row: Any = users.agg(F.count(F.lit(1)).alias("n"), *ends).first()
    most = int(users.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    n_tasks = max(1, min(most, -(-row["n"] // _USERS_PER_TASK)))
    if n_tasks == 1:
        return 1, F.lit(0)
    width = row["last"] - row["first"]
    shift = max(0, int(width).bit_length() - _RANGE_BITS)
    number = F.shiftright(F.col("user_idx") - F.lit(row["first"]), shift)
    counts = np.zeros((width >> shift) + 1, np.int64)
    for one in users.groupBy(number.alias("number")).count().collect():
        counts[one["number"]] = one["count"]
    before = np.cumsum(counts) - counts
    tasks = F.array(*[F.lit(int(task)) for task in before * n_tasks // row["n"]])
    # Lists of somebody who is not in `users` may have an index before the first of them, or beyond the last.
    return n_tasks, F.element_at(tasks, F.greatest(F.least(number, F.lit(len(counts) - 1)), F.lit(0)) + 1)


def user_blocks(batches: Iterator[pa.RecordBatch], n_users: int) -> Iterator[pa.RecordBatch]:
    """Blocks of at most `n_users` users, with their columns and own (their lists by source; empty: none).

    batches: the rows of a task as `user_rows` orders them.  Lists of users without a row of their own are left out.
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        last = batch["user_idx"][-1].as_py()
        # The rows of the last user may go on in the next batch.
        end = int(np.searchsorted(batch["user_idx"].to_numpy(), last))
        if end or (held and held[-1]["user_idx"][-1].as_py() != last):
            yield from _blocks([*held, batch.slice(0, end)], n_users)
            held = []
        held.append(batch.slice(end))
    if held:
        yield from _blocks(held, n_users)


def _blocks(rows: list[pa.RecordBatch], n_users: int) -> Iterator[pa.RecordBatch]:
    batch = pa.concat_batches(rows)
    is_user = pc.is_null(batch["source"])
    users, lists = batch.filter(is_user), batch.filter(pc.invert(is_user))
    user_idx, of_list = users["user_idx"].to_numpy(), lists["user_idx"].to_numpy()
    at = np.searchsorted(user_idx, of_list)
    known = np.append(user_idx, -1)[at] == of_list
    if not known.all():
        lists, at = lists.filter(pa.array(known)), at[known]
    own = pa.StructArray.from_arrays([lists[name] for name in _LISTS], names=list(_LISTS))
    ends = row_offsets(at, len(user_idx)).astype(np.int32)
    columns = {name: users[name] for name in users.schema.names if name not in _LISTS}
    block = pa.RecordBatch.from_pydict(columns | {"own": pa.ListArray.from_arrays(pa.array(ends), own)})
    for first in range(0, block.num_rows, n_users):
        yield block.slice(first, n_users)
