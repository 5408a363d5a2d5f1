"""What one event counts for, held against the arithmetic that conf/base.toml states."""

import math
import random
from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.schema import EventType
from recsys_spark.config.types import MAX_DAYS
from recsys_spark.signals.event_weights import (
    FOREVER,
    event_weight,
    exact_sum,
    excluded_until,
    has_role,
    in_window,
    is_negative,
    known_events,
    needs_length,
)
from tests.engagement import CUTOFF, TYPES, Event, before, make_events, settings
from tests.local_frame import local_frame

NAN, INF = float("nan"), float("inf")


def _weights(frame: DataFrame, half_life_days: float = 0.0) -> dict[str, float | None]:
    rows = frame.select("item_id", event_weight(TYPES, CUTOFF, half_life_days).alias("weight")).collect()
    return {row.item_id: row.weight for row in rows}


# Type, value, length of the item, and the weight.
Cases = dict[str, tuple[str, float | None, float | None, float | None]]
TRANSFORMED: Cases = {
    "none": ("buy", 7.0, None, 1.0),
    "log": ("rate", 3.0, None, 0.5 * math.log(1 + 3.0)),
    "cap_below": ("read", 4.0, None, 0.1 * 4.0),
    "cap_above": ("read", 40.0, None, 0.1 * 10.0),
    "relative": ("watch", 30.0, 60.0, 2.0 * 30 / 60),
    "relative_above": ("watch", 240.0, 60.0, 2.0 * 1.5),
    "negative_type": ("return", 1.0, None, -1.0),
    "impression": ("show", 1.0, None, None),
    "dislike": ("block", 1.0, None, None),
    "unnamed": ("poke", 1.0, None, None),
}
BAD_VALUES: Cases = {
    "log_null": ("rate", None, None, 0.5),
    "log_nan": ("rate", NAN, None, 0.5),
    "log_inf": ("rate", INF, None, 0.5),
    "log_below_zero": ("rate", -5.0, None, 0.0),
    "cap_null": ("read", None, None, 0.1),
    "cap_nan": ("read", NAN, None, 0.1),
    "cap_huge": ("read", 1e12, None, 0.1 * 10.0),
    "cap_below_zero": ("read", -5.0, None, 0.0),
    "relative_null": ("watch", None, 60.0, 2.0),
    "relative_no_length": ("watch", 30.0, None, 2.0),
    "relative_below_zero": ("watch", -INF, 60.0, 2.0),
}


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[str, float | None]:
    """Weights of all cases."""
    cases = TRANSFORMED | BAD_VALUES
    events = make_events(spark, [Event("u", name, case[0], before(days=1), case[1]) for name, case in cases.items()])
    lengths = local_frame(spark, [(name, case[2]) for name, case in cases.items()], "item_id string, length double")
    return _weights(events.join(lengths, on="item_id", how="left"))


def test_event_weight_transforms_the_value_by_type(found: dict[str, float | None]) -> None:
    _check_cases(found, TRANSFORMED)


def test_event_weight_is_never_turned_by_a_bad_value(found: dict[str, float | None]) -> None:
    _check_cases(found, BAD_VALUES)


def _check_cases(found: dict[str, float | None], cases: Cases) -> None:
    expected = {name: case[3] for name, case in cases.items()}
    assert {name for name in cases if found[name] is None} == {
        name for name, weight in expected.items() if weight is None
    }
    # The last bit of log1p and of a product may differ between the JVM's mathematics and Python's.
    for name, weight in expected.items():
        assert weight is None or found[name] == pytest.approx(weight, rel=1e-15), name


def test_event_weight_halves_with_every_half_life(spark: SparkSession) -> None:
    ages = {"now": timedelta(0), "half": timedelta(days=10), "hours": timedelta(hours=6), "old": timedelta(days=400)}
    events = make_events(spark, [Event("u", name, "buy", CUTOFF - age) for name, age in ages.items()])
    lengths = events.withColumn("length", F.lit(None).cast("double"))
    expected = {"now": 1.0, "half": 0.5, "hours": 0.5 ** (0.25 / 10), "old": 0.5**40}
    assert _weights(lengths, half_life_days=10.0) == pytest.approx(expected, rel=1e-14)
    assert set(_weights(lengths, half_life_days=0.0).values()) == {1.0}


def test_known_events_ends_before_the_cutoff_and_begins_with_the_window(spark: SparkSession) -> None:
    tick = timedelta(microseconds=1)
    times = {"at": CUTOFF, "last": CUTOFF - tick, "first": before(days=3), "older": before(days=3) - tick}
    events = make_events(spark, [Event("u", name, "buy", time) for name, time in times.items()])
    found = {
        days: {row.item_id for row in known_events(events, CUTOFF, days).select("item_id").collect()} for days in (0, 3)
    }
    assert found == {0: {"last", "first", "older"}, 3: {"last", "first"}}
    assert len(events.where(in_window(CUTOFF, 0)).collect()) == len(times)


def test_has_role_knows_only_configured_types(spark: SparkSession) -> None:
    names = ["buy", "return", "show", "hide", "poke"]
    events = make_events(spark, [Event("u", name, name, before(days=1)) for name in names])
    conditions = {role: has_role(TYPES, role) for role in ("engage", "impression", "dislike")}
    conditions |= {"negative": is_negative(TYPES), "none": has_role({"buy": EventType()}, "dislike")}
    rows = events.select("item_id", *[condition.alias(name) for name, condition in conditions.items()]).collect()
    found = {name: {row.item_id for row in rows if row[name]} for name in conditions}
    assert found == {
        "engage": {"buy", "return"},
        "impression": {"show"},
        "dislike": {"hide"},
        "negative": {"return"},
        "none": set(),
    }


def test_excluded_until_adds_the_days_of_the_type(spark: SparkSession) -> None:
    types = TYPES | {"bury": EventType(role="dislike", exclude_days=MAX_DAYS)}
    events = make_events(spark, [Event("u", name, name, before(days=2)) for name in ("hide", "block", "bury", "buy")])
    rows = events.select("item_id", excluded_until(types).cast("double").alias("until")).collect()
    assert {row.item_id: row.until for row in rows} == {
        "hide": before(days=2 - 30).timestamp(),
        "block": FOREVER.timestamp(),
        "bury": before(days=2 - MAX_DAYS).timestamp(),
        "buy": None,
    }


def test_excluded_until_is_null_without_a_dislike_type(spark: SparkSession) -> None:
    events = make_events(spark, [Event("u", "i", "buy", before(days=2))])
    frame = events.select(excluded_until({"buy": EventType()}).alias("until"))
    assert frame.schema["until"].dataType.simpleString() == "timestamp"
    assert frame.collect()[0].until is None


def test_exact_sum_is_the_same_for_every_order(spark: SparkSession) -> None:
    rng = random.Random(7)
    weights = [rng.uniform(-1, 1) * 10 ** rng.randrange(-6, 7) for _ in range(2000)]
    sums = set()
    for n_partitions in (1, 3, 7):
        rng.shuffle(weights)
        frame = local_frame(spark, [(one,) for one in weights], "weight double").repartition(n_partitions)
        with settings(spark, spark__sql__shuffle__partitions=n_partitions):
            sums.add(frame.agg(exact_sum(F.col("weight")).alias("total")).collect()[0].total)
    assert len(sums) == 1
    # Each weight is rounded by 2**-37 at most; the total itself to a double.
    assert sums.pop() == pytest.approx(math.fsum(weights), abs=2000 * 2**-37 + 1e-9)


def test_exact_sum_of_opposites_is_zero_and_of_nulls_too(spark: SparkSession) -> None:
    values = [0.1, 0.7, 1e9 + 0.3, 2 / 3]
    rows = [(sign * one, None) for one in values for sign in (1, -1)]
    frame = local_frame(spark, rows, "weight double, none double")
    row = frame.agg(exact_sum(F.col("weight")).alias("zero"), exact_sum(F.col("none")).alias("nulls")).collect()[0]
    assert (row.zero, row.nulls) == (0.0, 0.0)


def test_needs_length_only_for_an_engaging_relative_type() -> None:
    relative = EventType(value_transform="relative")
    assert needs_length({"watch": relative})
    assert not needs_length({"watch": EventType(), "shown": relative.model_copy(update={"role": "impression"})})
