"""Source `popular`: popularity lists for everybody, per segment, and trending (newest engagement counts most).

Owns: who counts as one visitor, and the three lists.  A visitor counts once per item however often they came back, so
that neither a bot nor a wholesaler makes a list.
"""

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from recsys_spark.config.types import HalfLifeDays, NonNegativeFloat, PositiveDays, PositiveInt
from recsys_spark.retrieval.declared import SourceContext, SourceParams

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import ForMany

ListName = Literal["global", "segment", "trending"]

READS = ("events", "item_index", "user_features")

# The trending list looks back so many half-lives: what is older counts less than 1/16 and is not worth reading.
_TREND_HALF_LIVES = 4


class Params(SourceParams):
    """Settings of `[sources.popular]`; their meaning and defaults stand in conf/base.toml."""

    window_days: PositiveDays
    trend_half_life_days: HalfLifeDays
    anonymous_weight: NonNegativeFloat
    lists: Annotated[list[ListName], Field(min_length=1)]
    min_segment_users: PositiveInt
    max_items: PositiveInt


def generate(inputs: "Mapping[str, DataFrame]", params: Params, context: SourceContext) -> "ForMany":
    """Lists `popular/global`, `popular/trending` and, if segments are configured, `popular/segment`.

    Scores: visitors in the window (global), the same with 0.5^(age of their last engagement / half-life) (trending),
    known users of the segment in the window (segment).  A list without an item has no row.
    """
    from recsys_spark.retrieval.user_lists import ForMany

    visits = _visits(inputs["events"], params, context)
    scored = _shared_scores(visits, params)
    if "segment" in params.lists and context.config.segments.attribute:
        scored = scored.unionByName(_segment_scores(visits, inputs["user_features"], params))
    return ForMany(_ranked(scored, inputs["item_index"], params))


def _visits(events: "DataFrame", params: Params, context: SourceContext) -> "DataFrame":
    """One row per visitor and item: user_id (null: anonymous), item_id, weight, decay, is_recent (in the window).

    A visitor is a user, else a session, else the event alone.  Only types that engage with a weight above zero count:
    a return is no sign of liking, and a weight of zero says that the type means nothing.
    """
    from pyspark.sql import functions as F

    from recsys_spark.signals.event_weights import age_days, is_positive, known_events

    trend_days = _TREND_HALF_LIVES * params.trend_half_life_days
    last_time = (
        known_events(events, context.cutoff, ceil(max(params.window_days, trend_days)))
        .where(is_positive(context.config.events.types))
        .withColumn("session", F.when(F.col("user_id").isNull(), F.coalesce("session_id", "event_key")))
        .groupBy("user_id", "session", "item_id")
        .agg(F.max("event_time").alias("last_time"))
    )
    age = age_days("last_time", context.cutoff)
    return last_time.select(
        "user_id",
        "item_id",
        F.when(F.col("user_id").isNull(), F.lit(params.anonymous_weight)).otherwise(F.lit(1.0)).alias("weight"),
        F.when(age <= trend_days, F.pow(F.lit(0.5), age / F.lit(params.trend_half_life_days)))
        .otherwise(F.lit(0.0))
        .alias("decay"),
        (age <= params.window_days).alias("is_recent"),
    )


def _shared_scores(visits: "DataFrame", params: Params) -> "DataFrame":
    """(source, segment, item_id, score) of the lists for everybody, without items that score zero."""
    from pyspark.sql import functions as F

    from recsys_spark.signals.event_weights import exact_sum

    lists = [name for name in ("global", "trending") if name in params.lists]
    scores = {"global": "n_visitors", "trending": "n_decayed"}
    pairs = [F.struct(F.lit(f"popular/{name}").alias("source"), F.col(scores[name]).alias("score")) for name in lists]
    named = F.explode(F.array(*pairs) if pairs else F.lit(None).cast(_NO_LIST)).alias("list")
    return (
        visits.groupBy("item_id")
        .agg(
            exact_sum(F.when(F.col("is_recent"), F.col("weight"))).alias("n_visitors"),
            exact_sum(F.col("weight") * F.col("decay")).alias("n_decayed"),
        )
        .select("item_id", named)
        .where(F.col("list.score") > 0)
        .select("list.source", F.lit(None).cast("string").alias("segment"), "item_id", "list.score")
    )


_NO_LIST = "array<struct<source: string, score: double>>"


def _segment_scores(visits: "DataFrame", user_features: "DataFrame", params: Params) -> "DataFrame":
    """(source, segment, item_id, score) of every segment with enough engaged users in the window."""
    from pyspark.sql import functions as F

    segments = user_features.where(F.col("segment").isNotNull()).select("user_id", "segment")
    engaged = (
        visits.where(F.col("is_recent") & F.col("user_id").isNotNull())
        .select("user_id", "item_id")
        .join(segments, on="user_id", how="inner")
    )
    large = (
        engaged.groupBy("segment")
        .agg(F.count_distinct("user_id").alias("n_users"))
        .where(F.col("n_users") >= params.min_segment_users)
        .select("segment")
    )
    return (
        engaged.join(large, on="segment", how="left_semi")
        .groupBy("segment", "item_id")
        .agg(F.count(F.lit(1)).cast("double").alias("score"))
        .select(F.lit("popular/segment").alias("source"), "segment", "item_id", "score")
    )


def _ranked(scored: "DataFrame", item_index: "DataFrame", params: Params) -> "DataFrame":
    """Rows of `source_candidates`: per source and segment the `max_items` best, ties by the smaller item_idx."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    best_first = Window.partitionBy("source", "segment").orderBy(F.desc("score"), F.asc("item_idx"))
    ranked = (
        scored.join(item_index.select("item_id", "item_idx"), on="item_id", how="inner")
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= params.max_items)
    )
    # Sorted by rank, which is unique in a list: the order in which rows were collected leaves no trace.
    items = F.sort_array(F.collect_list(F.struct("rank", "item_idx", F.col("score").cast("float").alias("score"))))
    return (
        ranked.groupBy("source", "segment")
        .agg(items.alias("items"))
        .select(
            "source",
            F.lit(None).cast("int").alias("user_idx"),
            "segment",
            F.transform("items", lambda item: F.struct(item["item_idx"], item["rank"], item["score"])).alias("items"),
            F.lit(None).cast("int").alias("n_own"),
            F.lit(None).cast("double").alias("mean"),
            F.lit(None).cast("double").alias("deviation"),
        )
    )
