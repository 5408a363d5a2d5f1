"""Activity features of users: how much, how recently and how variedly they engage, in the window of `[interactions]`.

Owns: the first group of user features.
Rows: `days` (see `signals.engagement.engagement_days`), `items` (see `engaged_pairs`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from recsys_spark.config.schema import Config
from recsys_spark.features.declared import COUNTED_DAYS, Feature, Group, RowSource, aggregate_group, window_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NEVER = "no engagement in the window"
_EVENTS = tuple(
    Feature(
        f"n_events_{n_days}d",
        "long",
        f"engagement events {window_text(n_days)}",
        "days",
        f"sum(n_events) FILTER (WHERE days_ago <= {n_days})",
        check=f"n_events_{n_days}d <= n_events",
    )
    for n_days in COUNTED_DAYS
)
_ITEMS = tuple(
    Feature(
        f"n_items_{n_days}d",
        "long",
        f"different items engaged with {window_text(n_days)}",
        "items",
        f"count_if(days_ago <= {n_days})",
        check=f"n_items_{n_days}d <= n_items",
    )
    for n_days in COUNTED_DAYS
)

GROUP = Group(
    table="user_features",
    features=(
        Feature("n_events", "long", "engagement events", "days", "sum(n_events)", check="n_events >= 0"),
        *_EVENTS,
        Feature(
            "n_negative_events",
            "long",
            "engagement events with a weight below zero, such as returns",
            "days",
            "sum(n_negative)",
            check="n_negative_events <= n_events",
        ),
        Feature(
            "return_rate",
            "double",
            "events with a weight below zero / events with a weight above zero",
            "days",
            "CAST(sum(n_negative) AS DOUBLE) / nullif(sum(n_positive), 0)",
            unit="ratio",
            null_when="no event with a weight above zero in the window",
            check="return_rate >= 0",
        ),
        Feature("n_active_days", "long", "days with engagement", "days", "count(*)", check="n_active_days <= n_events"),
        Feature("n_items", "long", "different items engaged with", "items", "count(*)", check="n_items <= n_events"),
        *_ITEMS,
        Feature(
            "days_since_first",
            "double",
            "age of the first engagement",
            "days",
            "max(first_age_days)",
            unit="days",
            null_when=_NEVER,
            check="days_since_first >= days_since_last",
        ),
        Feature(
            "days_since_last",
            "double",
            "age of the last engagement",
            "days",
            "min(last_age_days)",
            unit="days",
            null_when=_NEVER,
            check="days_since_last > 0",
        ),
        Feature(
            "mean_value",
            "double",
            "mean value of the engagement events that have one",
            "days",
            "CAST(sum(value_sum) AS DOUBLE) / nullif(sum(n_values), 0)",
            unit="unit of value",
            null_when="no engagement with a value in the window",
        ),
    ),
)


def compute(index: "DataFrame", inputs: "dict[str, DataFrame]", config: Config, cutoff: datetime) -> "DataFrame":
    """`index` with the group's features of every user as of `cutoff`."""
    from pyspark.sql import functions as F

    from recsys_spark.signals.engagement import engaged_pairs, engagement_days

    days = engagement_days(inputs["events"].where(F.col("user_id").isNotNull()), "user_id", config, cutoff)
    rows = {
        "days": RowSource(days, "user_id"),
        "items": RowSource(engaged_pairs(inputs["interactions"], cutoff), "user_idx"),
    }
    return aggregate_group(index, GROUP, rows)
