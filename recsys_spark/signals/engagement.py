"""Engagement before the date, aggregated for features: by day of a user or item, and by pair of user and item.

Owns: the rows that most feature groups aggregate.
"""

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.schema import Config
from recsys_spark.signals.event_weights import age_days, finite_value, has_role, is_negative, is_positive, known_events

# A decimal sum is the same for every order of the rows; six digits are more than logged values have.
_EXACT = "decimal(38,6)"


def engagement_days(events: DataFrame, id_column: str, config: Config, cutoff: datetime) -> DataFrame:
    """One row per id and UTC day with engagement, in the window of `[interactions]`, with or without a user.

    id_column: user_id or item_id.  Columns: id_column, ds, n_events, n_anonymous (events without a user), n_negative
    and n_positive (events of types with a weight below and above zero), n_values and value_sum (of finite values),
    days_ago (1: the day before `cutoff`), first_age_days and last_age_days (of the first and last event, fractional).
    """
    types = config.events.types
    engaged = known_events(events, cutoff, config.interactions.window_days).where(has_role(types, "engage"))
    value = finite_value()
    days = engaged.groupBy(id_column, "ds").agg(
        F.count(F.lit(1)).alias("n_events"),
        F.count_if(F.col("user_id").isNull()).alias("n_anonymous"),
        F.count_if(is_negative(types)).alias("n_negative"),
        F.count_if(is_positive(types)).alias("n_positive"),
        F.count(value).alias("n_values"),
        F.sum(value.cast(_EXACT)).alias("value_sum"),
        F.min("event_time").alias("first_time"),
        F.max("event_time").alias("last_time"),
    )
    return days.select(
        id_column,
        "ds",
        "n_events",
        "n_anonymous",
        "n_negative",
        "n_positive",
        "n_values",
        "value_sum",
        F.date_diff(F.lit(cutoff.date()), F.col("ds")).alias("days_ago"),
        age_days("first_time", cutoff).alias("first_age_days"),
        age_days("last_time", cutoff).alias("last_age_days"),
    )


def engaged_pairs(interactions: DataFrame, cutoff: datetime) -> DataFrame:
    """One row per user and item that engaged: user_idx, item_idx, last_time, days_ago (of last_time, 1: the last day).

    A pair that has only a dislike is left out.
    """
    return interactions.where(F.col("n_events") > 0).select(
        "user_idx", "item_idx", "last_time", days_ago("last_time", cutoff).alias("days_ago")
    )


def days_ago(time: str, cutoff: datetime) -> Column:
    """How many UTC days before `cutoff` (00:00 UTC) the timestamp column `time` lies, 1: on the day before."""
    return F.ceil(age_days(time, cutoff))
