"""Popularity features of items: how much, how recently and by how many users, in the window of `[interactions]`.

Owns: the first group of item features.  Events without a user count in features of events, not in those of users.
Rows: `days` (see `signals.engagement.engagement_days`), `users` (see `engaged_pairs`), and the index with created_days
(age by the catalogue) and n_active (users who engaged with anything in the last RECENT_DAYS days).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config.schema import Config
from recsys_spark.features.declared import (
    COUNTED_DAYS,
    INDEX,
    RECENT_DAYS,
    Feature,
    Group,
    RowSource,
    aggregate_group,
    window_text,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NEVER = "no engagement in the window"
_EVENTS = tuple(
    Feature(
        f"n_events_{n_days}d",
        "long",
        f"engagement events {window_text(n_days)}, with or without a user",
        "days",
        f"sum(n_events) FILTER (WHERE days_ago <= {n_days})",
        check=f"n_events_{n_days}d <= n_events",
    )
    for n_days in COUNTED_DAYS
)
_USERS = tuple(
    Feature(
        f"n_users_{n_days}d",
        "long",
        f"different users who engaged {window_text(n_days)}",
        "users",
        f"count_if(days_ago <= {n_days})",
        check=f"n_users_{n_days}d <= n_users",
    )
    for n_days in COUNTED_DAYS
)

# Of events, not of users: a user who comes every week is one user of the four weeks, so that users per week would
# rise for an item whose weeks are all the same.  One more on both sides keeps the few events of a rare item near 1.
_TREND = """(coalesce(sum(n_events) FILTER (WHERE days_ago <= 7), 0) + 1)
    / (coalesce(sum(n_events) FILTER (WHERE days_ago BETWEEN 8 AND 35), 0) / 4 + 1)"""

GROUP = Group(
    table="item_features",
    features=(
        Feature(
            "n_events",
            "long",
            "engagement events, with or without a user",
            "days",
            "sum(n_events)",
            check="n_events >= 0",
        ),
        *_EVENTS,
        Feature(
            "n_anonymous_28d",
            "long",
            "engagement events without a user in the 28 UTC days before the date",
            "days",
            "sum(n_anonymous) FILTER (WHERE days_ago <= 28)",
            check="n_anonymous_28d <= n_events_28d",
        ),
        Feature(
            "n_negative_events",
            "long",
            "engagement events with a weight below zero, such as returns, with or without a user",
            "days",
            "sum(n_negative)",
            check="n_negative_events <= n_events",
        ),
        Feature(
            "return_rate",
            "double",
            "events with a weight below zero / events with a weight above zero, with or without a user",
            "days",
            "CAST(sum(n_negative) AS DOUBLE) / nullif(sum(n_positive), 0)",
            unit="ratio",
            null_when="no event with a weight above zero in the window",
            check="return_rate >= 0",
        ),
        Feature("n_users", "long", "different users who engaged", "users", "count(*)", check="n_users <= n_events"),
        *_USERS,
        Feature(
            "days_since_first",
            "double",
            "age of the first engagement, with or without a user",
            "days",
            "max(first_age_days)",
            unit="days",
            null_when=_NEVER,
            check="days_since_first >= days_since_last",
        ),
        Feature(
            "days_since_last",
            "double",
            "age of the last engagement, with or without a user",
            "days",
            "min(last_age_days)",
            unit="days",
            null_when=_NEVER,
            check="days_since_last > 0",
        ),
        Feature(
            "popularity_28d",
            "double",
            "share of the users engaged in the 28 UTC days before the date who engaged with this item in them",
            INDEX,
            "n_users_28d / nullif(n_active, 0)",
            unit="0 to 1",
            null_when="no user engaged in them",
            check="popularity_28d BETWEEN 0 AND 1",
        ),
        Feature(
            "trend_7d",
            "double",
            "(events in the 7 UTC days before the date + 1) / (events per week in the 28 days before those + 1); says "
            "little where interactions.window_days is below 35",
            "days",
            _TREND,
            unit="ratio, 1: steady",
            null_when=_NEVER,
            check="trend_7d > 0",
        ),
        Feature(
            "age_days",
            "double",
            "age by created_at of the catalogue, if that is before the date, else age of the first engagement",
            INDEX,
            "coalesce(created_days, days_since_first)",
            unit="days",
            null_when="no created_at before the date, and no engagement in the window",
            check="age_days > 0",
        ),
    ),
)


def compute(index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """`index` with the group's features of every item as of `cutoff`."""
    from pyspark.sql import functions as F

    from recsys_spark.signals.engagement import engaged_pairs, engagement_days
    from recsys_spark.signals.event_weights import age_days

    days = engagement_days(inputs["events"], "item_id", config, cutoff)
    pairs = engaged_pairs(inputs["interactions"], cutoff)
    active = pairs.where(F.col("days_ago") <= RECENT_DAYS).agg(F.count_distinct("user_idx").alias("n_active"))
    created_days = F.when(F.col("created_at") < F.lit(cutoff), age_days("created_at", cutoff))
    known = index.withColumn("created_days", created_days).crossJoin(F.broadcast(active))
    rows = {"days": RowSource(days, "item_id"), "users": RowSource(pairs, "item_idx")}
    return aggregate_group(known, GROUP, rows).drop("created_days", "n_active")
