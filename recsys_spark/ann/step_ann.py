"""Builds the ANN index over the embeddings of items that may be shown, and measures its recall by exact search.

Owns: the manifest `ann_shards`, the recall that a build must reach, and the setting it is served with.
"""

import logging
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.ann.index_build import Part, fill_shards, fit_parts, indexed_items, train_parts
from recsys_spark.ann.kernels.index_choice import indexed_length
from recsys_spark.ann.recall import GATED_K, Recall, measure_recall, recall_table, sampled_users, serving_nprobe
from recsys_spark.context import Context
from recsys_spark.errors import GateRefused
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import ANN_SHARDS

_log = logging.getLogger(__name__)


def run(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """`ann_shards`, without rows if the run has no embeddings of items that may be shown.

    Figures: n_items, n_shards, n_parts; bytes_per_vector of the index, and raw_bytes_per_vector; recall_at_K_nprobe_N
    of the ladder and nprobe (the greatest) and recall_at_K at it, of the worst part where there are several.
    Raises GateRefused, with all that was measured, if a part does not reach [ann] min_recall at any nprobe.
    """
    settings, dim = context.config.ann, context.config.two_tower.dim
    schema = spark_schema(ANN_SHARDS, without=("run_id",))
    items = indexed_items(inputs["item_embeddings"], inputs["items"], settings.partition_by)
    longest = _longest(inputs["item_embeddings"], context)
    parts = fit_parts(items, indexed_length(dim, longest is None), settings)
    if not parts:
        return {"ann_shards": context.spark.createDataFrame([], schema)}
    for part in parts:
        for reason in part.choice.reasons:
            _log.info("step=ann phase=choose part=%s items=%d %s", part.value, part.n, reason)
    trained = train_parts(items, parts, longest, context.seed, settings.train_threads)
    rows = fill_shards(items, parts, trained, longest, context.config.root)
    users = sampled_users(inputs["user_embeddings"], settings.recall_users, context.seed)
    measured: list[Recall] = []
    if len(users):
        measured = measure_recall(context.spark, rows, parts, users, settings.rerank, context.config.root)
    served = [_served(place, part, measured, context) for place, part in enumerate(parts)]
    version = inputs["item_embeddings"].select("model_version").first()
    known = {"rerank": settings.rerank, "model_version": version[0] if version else None}
    manifest = [row | known | served[_place(parts, row["shard"])] for row in rows]
    _measure(rows, parts, served, measured, dim, context)
    frame = context.spark.createDataFrame([tuple(row[name] for name in schema.names) for row in manifest], schema)
    return {"ann_shards": frame}


def _longest(embeddings: DataFrame, context: Context) -> float | None:
    """Length of the longest embedding, None where all have length 1."""
    if context.config.two_tower.normalize:
        return None
    row: Any = embeddings.agg(F.max("norm").alias("longest")).first()
    return float(row["longest"] or 1.0)


def _served(place: int, part: Part, measured: Sequence[Recall], context: Context) -> dict[str, Any]:
    """What the manifest says of a part besides its files; without users to measure with, all its lists are searched."""
    least = context.config.ann.min_recall
    nprobe = serving_nprobe(measured, place, least) if measured else part.choice.nlist
    if nprobe is None:
        raise GateRefused(
            f"[ann] part {part.value or 'all'} of {part.n} items, {part.choice.factory}: expected a recall@{GATED_K} "
            f"of at least {least}, got\n{recall_table(measured, place)}\nraise [ann] rerank or memory_bytes (longer "
            "codes), set another factory, or lower min_recall"
        )
    recall = {(one.nprobe, one.k): one.recall for one in measured if one.part == place}
    return {
        "part": part.value,
        "n_shards": part.n_shards,
        "factory": part.choice.factory,
        "nprobe": nprobe,
        "recall_at_100": recall.get((nprobe, GATED_K)),
    }


def _place(parts: Sequence[Part], shard: int) -> int:
    return next(place for place, part in enumerate(parts) if shard in part.shards)


def _measure(
    rows: Sequence[dict[str, Any]],
    parts: Sequence[Part],
    served: Sequence[dict[str, Any]],
    measured: Sequence[Recall],
    dim: int,
    context: Context,
) -> None:
    n_items = sum(part.n for part in parts)
    figures = context.figures
    figures |= {"n_items": float(n_items), "n_shards": float(len(rows)), "n_parts": float(len(parts))}
    figures["bytes_per_vector"] = sum(row["n_bytes"] for row in rows) / n_items
    figures["raw_bytes_per_vector"] = 4.0 * dim
    figures["nprobe"] = float(max(one["nprobe"] for one in served))
    for one in measured:
        names = [f"recall_at_{one.k}_nprobe_{one.nprobe}"]
        if one.nprobe == served[one.part]["nprobe"]:
            names.append(f"recall_at_{one.k}")
        for name in names:
            figures[name] = min(one.recall, figures.get(name, 1.0))
    _log.info("step=ann %s", " ".join(f"{name}={value:g}" for name, value in figures.items()))
