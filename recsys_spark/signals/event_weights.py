"""Event weights: the role of an event, the weight of its type, the transform of its value, the decay by age.

Owns: the meaning of `[events.types]` and `[interactions]` as Spark columns.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.schema import EventType

# "For good".  Later than any run, and early enough for the nanoseconds of pandas, which end in 2262.
FOREVER = datetime(2200, 1, 1, tzinfo=UTC)

# Weights are summed as whole units and 2**-36 parts of one, both as integers: exact, so that the sum of a user's events
# does not depend on their order, and 2**27 events of one user on one item fit into 63 bits.
_FRACTION = float(2**36)

_DAY_SECONDS = 86400.0
_INFINITY = float("inf")


def known_events(events: DataFrame, cutoff: datetime, window_days: int = 0) -> DataFrame:
    """The events before `cutoff` (00:00 UTC) and not more than `window_days` before it, 0 = all."""
    known = events.where(F.col("event_time") < F.lit(cutoff))
    return known.where(in_window(cutoff, window_days)) if window_days else known


def in_window(cutoff: datetime, window_days: int) -> Column:
    """Whether an event is at most `window_days` older than `cutoff` (00:00 UTC), 0 = any age.

    Decided by `ds`, the partition column, so that days outside the window are not read.
    """
    if not window_days:
        return F.lit(True)
    return F.col("ds") >= F.lit((cutoff - timedelta(days=window_days)).date())


def has_role(types: Mapping[str, EventType], role: Literal["engage", "impression", "dislike"]) -> Column:
    """Whether the event's type has `role`.  A type that the configuration no longer names has none."""
    return F.col("event_type").isin([name for name, kind in types.items() if kind.role == role])


def is_positive(types: Mapping[str, EventType]) -> Column:
    """Whether the event engages with a weight above zero: a return does not, nor does a type of weight zero."""
    return F.col("event_type").isin([name for name, kind in types.items() if kind.role == "engage" and kind.weight > 0])


def is_negative(types: Mapping[str, EventType]) -> Column:
    """Whether the event engages with a weight below zero, as a return does."""
    return F.col("event_type").isin([name for name, kind in types.items() if kind.role == "engage" and kind.weight < 0])


def needs_length(types: Mapping[str, EventType]) -> bool:
    """Whether any type scales its value by the item's own length."""
    return any(kind.role == "engage" and kind.value_transform == "relative" for kind in types.values())


def lengths(items: DataFrame) -> DataFrame:
    """item_id and length of the items that have a usable one."""
    usable = (F.col("length") > 0) & (F.col("length") < _INFINITY)
    return items.where(usable).select("item_id", "length")


def event_weight(types: Mapping[str, EventType], cutoff: datetime, half_life_days: float) -> Column:
    """Weight of one event at `cutoff`: type weight x transformed value x 0.5^(age / half_life_days), double.

    Null for a type that does not engage.  Reads `event_type`, `event_time`, `value`, and `length` (null or above
    zero) if a type is relative.  half_life_days: 0 = no decay.
    """
    engaging = {name: kind for name, kind in types.items() if kind.role == "engage"}
    weight = _by_type({name: F.lit(kind.weight) * _value_factor(kind) for name, kind in engaging.items()}).cast(
        "double"
    )
    if not half_life_days:
        return weight
    return weight * F.pow(F.lit(0.5), age_days("event_time", cutoff) / F.lit(half_life_days))


def age_days(time: str, cutoff: datetime) -> Column:
    """Age at `cutoff` of the timestamp column `time`, fractional days, double."""
    return (F.lit(cutoff.timestamp()) - F.col(time).cast("double")) / F.lit(_DAY_SECONDS)


def excluded_until(types: Mapping[str, EventType]) -> Column:
    """Time until which the event hides its item from its user, null if its type is no dislike."""
    expiries = {
        name: F.col("event_time") + F.make_dt_interval(days=F.lit(kind.exclude_days))
        if kind.exclude_days
        else F.lit(FOREVER)
        for name, kind in types.items()
        if kind.role == "dislike"
    }
    # Not every client can read times far beyond FOREVER.
    expiry = _by_type(expiries).cast("timestamp")
    return F.when(expiry > F.lit(FOREVER), F.lit(FOREVER)).otherwise(expiry)


def exact_sum(weight: Column) -> Column:
    """Aggregate: the sum of `weight` to 2**-36, the same bits for every order of the rows; 0 if all are null."""
    whole = weight.cast("long")
    fraction = F.rint((weight - whole) * F.lit(_FRACTION)).cast("long")
    total = F.sum(whole).cast("double") + F.sum(fraction).cast("double") / F.lit(_FRACTION)
    return F.coalesce(total, F.lit(0.0))


def finite_value() -> Column:
    """The event's value, null if it is not finite, 0 if it is below zero: a value may not change a weight's sign."""
    value = F.col("value")
    return F.when((value > -_INFINITY) & (value < _INFINITY), F.greatest(value, F.lit(0.0)))


def _value_factor(kind: EventType) -> Column:
    """The factor of the weight by the event's value; 1 where there is no value, or no length to divide it by."""
    match kind.value_transform:
        case "none":
            return F.lit(1.0)
        case "log":
            factor = F.log1p(finite_value())
        case "cap":
            factor = _at_most(finite_value(), kind.value_cap)
        case "relative":
            factor = _at_most(finite_value() / F.col("length"), kind.value_cap)
    return F.coalesce(factor, F.lit(1.0))


def _at_most(value: Column, bound: float) -> Column:
    # least() would skip a null and return the bound.
    return F.when(value > F.lit(bound), F.lit(bound)).otherwise(value)


def _by_type(answers: Mapping[str, Column]) -> Column:
    """The answer for the event's own type, null for a type without one."""
    return F.coalesce(F.lit(None), *[F.when(F.col("event_type") == name, answer) for name, answer in answers.items()])
