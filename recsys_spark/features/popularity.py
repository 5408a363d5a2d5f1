"""How much, how recently and by how many an item is engaged with, in the window of `[interactions]`.

Owns: the first group of item features.  Events without a user count in what counts events, not in what counts users.
Rows: `days` (see `adapters.engagement.engagement_days`), `users` (see `engaged_pairs`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config import Config
from recsys_spark.features import Feature, Group, Rows, aggregate_group

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NEVER = "no engagement in the window"

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
        Feature(
            "n_events_28d",
            "long",
            "engagement events in the last 28 days, with or without a user",
            "days",
            "sum(n_events) FILTER (WHERE is_recent)",
            check="n_events_28d <= n_events",
        ),
        Feature(
            "n_anonymous_28d",
            "long",
            "engagement events without a user in the last 28 days",
            "days",
            "sum(n_anonymous) FILTER (WHERE is_recent)",
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
        Feature("n_users", "long", "different users who engaged", "users", "count(*)", check="n_users <= n_events"),
        Feature(
            "n_users_28d",
            "long",
            "different users who engaged in the last 28 days",
            "users",
            "count_if(is_recent)",
            check="n_users_28d <= n_users",
        ),
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
    ),
)


def compute(inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """The group's features of every indexed item as of `cutoff`: item_id, then the features."""
    from recsys_spark.adapters.engagement import engaged_pairs, engagement_days

    days = engagement_days(inputs["events"], "item_id", config, cutoff)
    rows = {"days": Rows(days, "item_id"), "users": Rows(engaged_pairs(inputs["interactions"], cutoff), "item_idx")}
    return aggregate_group(inputs["item_index"], "item_id", GROUP, rows)
