"""Evaluation in the demo: recall and ndcg of the published lists, of every source's lists and of popularity.

Owns: the last scene of the demo.
"""

import time
from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.demo.holdout import (
    WINDOW_DAYS,
    Figures,
    Holdout,
    hold_out,
    judge_lists,
    judge_order,
    popular_items,
)
from recsys_spark.serving.bundle import Bundle
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.spark_tables import read_run
from recsys_spark.warehouse.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

K = 20  # list length of the figures
_LISTED = 2000  # entries of a source's list that are read: nobody has bought so many that fewer than K are left


def judge_bundle(spark: "SparkSession", root: Location, bundle: Bundle, purchases: pa.Table, console: Console) -> None:
    """Prints how well the published lists foresaw what customers newly bought, beside each source's, and popularity."""
    holdout = hold_out(purchases, bundle.data_date)
    lists, origins, milliseconds = _published_lists(bundle, holdout)
    figures = {"published lists": judge_lists(lists, holdout, K)}
    for name, of_source in lists_by_source(spark, root, bundle, holdout).items():
        figures[f"source {name}"] = judge_lists(of_source, holdout, K)
    if "source two_tower" in figures:
        figures["source two_tower, searched exactly"] = judge_lists(exact_lists(bundle, holdout), holdout, K)
    for name, window_days in (("most bought in 28 days", 28), ("most bought of all time", None)):
        figures[name] = judge_order(popular_items(purchases, bundle.data_date, window_days), holdout, K)
    console.rich.print(_figures_table(figures))
    n_targets = sum(len(targets) for targets in holdout.targets)
    console.say(
        f"{len(holdout.users)} customers from before {bundle.data_date} bought {n_targets:,} items that were new to"
        f" them within {WINDOW_DAYS} days; items that they had are taken out of every list.\n"
        f"The published lists are what the reader returned: {origins['user']} own lists, {origins['segment']} of the"
        f" segment, {origins['global']} for everybody; median {median(milliseconds):.1f} ms each."
    )


def _published_lists(bundle: Bundle, holdout: Holdout) -> tuple[dict[str, list[str]], dict[str, int], list[float]]:
    """What the reader returns for every judged customer: item ids, how many lists of each origin, milliseconds each."""
    lists, milliseconds = {}, []
    origins = {"user": 0, "segment": 0, "global": 0}
    for user_id in holdout.users:
        started = time.perf_counter()
        found = bundle.candidates(user_id)
        milliseconds.append(1000 * (time.perf_counter() - started))
        lists[user_id] = [candidate.item_id for candidate in found.items]
        origins[found.origin] += 1
    return lists, origins, milliseconds


def lists_by_source(
    spark: "SparkSession", root: Location, bundle: Bundle, holdout: Holdout
) -> dict[str, dict[str, list[str]]]:
    """By source the list that it has for each judged customer: their own, else their segment's, else everybody's."""
    from pyspark.sql import functions as F

    users = spark.createDataFrame([(user_id,) for user_id in holdout.users], "user_id string")
    index = read_run(spark, root, TABLES["user_index"], bundle.run_id).join(users, on="user_id", how="left_semi")
    proposed = read_run(spark, root, TABLES["source_candidates"], bundle.run_id)
    rows = (
        proposed.join(F.broadcast(index), on="user_idx", how="left")
        .where(F.col("user_id").isNotNull() | F.col("user_idx").isNull())
        .select("source", "user_id", "segment", F.slice("items.item_idx", 1, _LISTED).alias("items"))
        .collect()
    )
    items = bundle.read_table("item_index", ("item_idx", "item_id")).sort_by("item_idx")["item_id"].to_pylist()
    segments = {user_id: (bundle.user_features(user_id) or {}).get("segment") for user_id in holdout.users}
    return {
        source: _lists_of([row for row in rows if row["source"] == source], items, segments)
        for source in sorted({row["source"] for row in rows})
    }


def exact_lists(bundle: Bundle, holdout: Holdout) -> dict[str, list[str]]:
    """For each judged customer with an embedding the items by exact inner product: what the index approximates."""
    items = bundle.read_table("item_embeddings", ("item_id", "item_idx", "vector", "shown")).sort_by("item_idx")
    items = items.filter(items["shown"])
    users = bundle.read_table("user_embeddings", ("user_id", "vector"))
    users = users.filter(pc.is_in(users["user_id"], pa.array(holdout.users)))
    names = np.array(items["item_id"].to_pylist(), object)
    vectors, queries = (np.array(table["vector"].to_pylist(), np.float32) for table in (items, users))
    order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :_LISTED]
    return {user_id: list(names[places]) for user_id, places in zip(users["user_id"].to_pylist(), order, strict=True)}


def _lists_of(rows: Iterable[Any], items: list[str], segments: Mapping[str, str | None]) -> dict[str, list[str]]:
    own, of_segment = {}, {}
    for row in rows:
        named = [items[idx] for idx in row["items"]]
        if row["user_id"] is None:
            of_segment[row["segment"]] = named
        else:
            own[row["user_id"]] = named
    everybody = of_segment.get(None, [])
    return {user_id: own.get(user_id) or of_segment.get(segments[user_id], everybody) for user_id in segments}


def _figures_table(figures: dict[str, Figures]) -> Table:
    table = Table("list", f"recall@{K}", f"ndcg@{K}", title="What the lists were worth (mean over customers)")
    for name, figure in figures.items():
        table.add_row(name, f"{figure.recall:.4f}", f"{figure.ndcg:.4f}")
    return table
