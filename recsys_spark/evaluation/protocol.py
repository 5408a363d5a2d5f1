"""Evaluation protocol: the judged users of a date, their targets, and what they could see then.

Owns: the protocol as Spark joins.

Protocol of date D with a window of w days.  An engagement is an event of a type that engages with a weight above zero.
Judged are users who engaged with a target in [D, D + w).  Targets are the items that they engaged with there; where the
setting `candidates.seen` is `exclude`, without those that they had engaged with before D.  An item is known if any user
had engaged with it before D; a user is new if they had engaged with nothing.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.blend.collect import list_columns
from recsys_spark.config.schema import Config
from recsys_spark.signals.event_weights import is_positive, known_events
from recsys_spark.signals.visibility import active_users, features_of_lists, shown_items
from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes

HEAVY_ITEMS = 10  # a user who had engaged with at least this many different items is heavy, else light
HEAD_SHARE = 0.5  # head items: the fewest that have this share of all engagements, a user and an item counting once

POPULAR = {"most engaged in 28 days": 28, "most engaged of all time": 0}  # names of lists, with their windows in days

_TARGETS = "array<struct<item_idx: int, is_known: boolean>>"


def engagements(events: DataFrame, config: Config) -> DataFrame:
    """Distinct (user_id, item_id) of users who engaged."""
    known = events.where(is_positive(config.events.types) & F.col("user_id").isNotNull())
    return known.select("user_id", "item_id").distinct()


def later_events(events: DataFrame, cutoff: datetime, window_days: int) -> DataFrame:
    """The events of [cutoff, cutoff + window_days)."""
    ends = cutoff + timedelta(days=window_days)
    return events.where((F.col("event_time") >= F.lit(cutoff)) & (F.col("event_time") < F.lit(ends)))


def judged_users(inputs: Mapping[str, DataFrame], later: DataFrame, config: Config, cutoff: datetime) -> DataFrame:
    """One row per judged user, as `blend.block` reads them, with what they are judged on.

    user_id, `visibility.features_of_lists`, excluded (array<int>), own (null: no lists of their own), n_items
    (different items engaged with before, 0 for a new user), targets (item_idx, -1 without one, and is_known).
    inputs: what the step `blend` read in the run of the date.  later: the events of the window.
    """
    features = features_of_lists(config.candidates)
    before = engagements(known_events(inputs["events"], cutoff), config)
    after = engagements(later, config)
    if config.candidates.seen == "exclude":
        after = after.join(before, on=["user_id", "item_id"], how="left_anti")
    known = before.select("item_id").distinct().withColumn("is_known", F.lit(True))
    one = F.struct(
        F.coalesce("item_idx", F.lit(-1)).alias("item_idx"), F.coalesce("is_known", F.lit(False)).alias("is_known")
    )
    targets = (
        after.join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="left")
        .join(known, on="item_id", how="left")
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(one)).cast(_TARGETS).alias("targets"))
    )
    n_items = before.groupBy("user_id").agg(F.count(F.lit(1)).alias("n_items"))
    return (
        targets.join(n_items, on="user_id", how="left")
        .join(_seen_by(inputs, config, cutoff), on="user_id", how="left")
        .join(inputs["user_index"].select("user_id", "user_idx"), on="user_id", how="left")
        .join(own_lists(inputs["source_candidates"]), on="user_idx", how="left")
        .join(inputs["user_features"].select("user_id", *features), on="user_id", how="left")
        .select(
            "user_id",
            *features,
            F.coalesce("excluded", F.array().cast("array<int>")).alias("excluded"),
            "own",
            F.coalesce("n_items", F.lit(0)).cast("int").alias("n_items"),
            "targets",
        )
    )


def with_history(judged: DataFrame, inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> DataFrame:
    """`judged` with history: item_idx of all that each user had engaged with before, array<int> in any order."""
    before = engagements(known_events(inputs["events"], cutoff), config)
    histories = (
        before.join(judged.select("user_id"), on="user_id", how="left_semi")
        .join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner")
        .groupBy("user_id")
        .agg(F.collect_list("item_idx").alias("history"))
    )
    return judged.join(histories, on="user_id", how="left")


def _seen_by(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> DataFrame:
    """user_id and excluded of everybody with an interaction, however long ago."""
    always = config.candidates.model_copy(update={"active_within_days": 0})
    return active_users(inputs, always, cutoff).select("user_id", "excluded")


def fit_item_users(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime) -> tuple[np.ndarray, int]:
    """How many users had engaged with each item before the date, int64 (n_items,), and how many with any.

    Raises KernelError if the counts take more than MAX_ID_BYTES.
    """
    before = engagements(known_events(inputs["events"], cutoff), config).persist()
    n_items: Any = inputs["item_index"].agg(F.max("item_idx").alias("last")).first()
    size = 0 if n_items["last"] is None else int(n_items["last"]) + 1
    check_bytes("evaluation", "items to count users of", size * 8, MAX_ID_BYTES, "interactions.window_days")
    table = (
        before.groupBy("item_id")
        .agg(F.count(F.lit(1)).alias("n_users"))
        .join(inputs["item_index"].select("item_id", "item_idx"), on="item_id", how="inner")
        .select("item_idx", "n_users")
        .toArrow()
    )
    item_users = np.zeros(size, np.int64)
    item_users[table["item_idx"].to_numpy()] = table["n_users"].to_numpy()
    n_users = before.select("user_id").distinct().count()
    before.unpersist()
    return item_users, n_users


def head_items(item_users: np.ndarray) -> np.ndarray:
    """Which items are head, bool (n_items,): the fewest that have HEAD_SHARE of all engagements, ties together."""
    descending = np.sort(item_users)[::-1]
    needed = int(np.searchsorted(np.cumsum(descending), HEAD_SHARE * descending.sum()))
    smallest = descending[min(needed, len(descending) - 1)] if len(descending) else 0
    head: np.ndarray = item_users >= max(1, smallest)
    return head


def popular_lists(inputs: Mapping[str, DataFrame], config: Config, cutoff: datetime, n: int) -> DataFrame:
    """Rows of `source_candidates`: lists for everybody of the n visible items with most users, in 28 days and ever."""
    shown, rows = shown_items(inputs, config, cutoff), []
    for name, days in POPULAR.items():
        counted = (
            engagements(known_events(inputs["events"], cutoff, days), config)
            .groupBy("item_id")
            .agg(F.count(F.lit(1)).cast("float").alias("score"))
            .join(shown, on="item_id", how="inner")
            .orderBy(F.desc("score"), "item_id")
            .limit(n)
        )
        ranked = F.sort_array(F.collect_list(F.struct((-F.col("score")).alias("by"), "item_id", "item_idx", "score")))
        row = counted.agg(F.transform(ranked, _ranked_item).alias("items")).select(
            F.lit(name).alias("source"),
            F.lit(None).cast("int").alias("user_idx"),
            F.lit(None).cast("string").alias("segment"),
            "items",
        )
        rows.append(row)
    return rows[0].unionByName(rows[1])


def _ranked_item(item: Column, at: Column) -> Column:
    return F.struct(item["item_idx"].alias("item_idx"), (at + 1).alias("rank"), item["score"].alias("score"))


def own_lists(source_candidates: DataFrame) -> DataFrame:
    """One row per user with lists of their own: user_idx, own (by source: source, item_idx and score, best first,
    n_own, mean and deviation).
    """
    of_users = source_candidates.where(F.col("user_idx").isNotNull())
    mine = of_users.select("user_idx", F.struct(*list_columns()).alias("one"))
    return mine.groupBy("user_idx").agg(F.sort_array(F.collect_list("one")).alias("own"))
