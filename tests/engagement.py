"""Small logs built by hand, and what the steps must make of them, computed by slow plain Python over every event."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.schema import Config, EventType
from recsys_spark.context import Context
from recsys_spark.features import step_features
from recsys_spark.signals import step_index, step_interactions
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.local_frame import computed_tables, local_frame

DAY = date(2025, 3, 1)
CUTOFF = datetime(2025, 3, 1, tzinfo=UTC)
RUN_ID = "20250301-001-0123abcd"

# One type for every rule, as a --set text and as the models that it becomes.
TYPES_SET = (
    'events.types={buy={role="engage",weight=1.0},rate={role="engage",weight=0.5,value_transform="log"},'
    'watch={role="engage",weight=2.0,value_transform="relative",value_cap=1.5},'
    'read={role="engage",weight=0.1,value_transform="cap",value_cap=10.0},'
    'return={role="engage",weight=-1.0},show={role="impression"},hide={role="dislike",exclude_days=30},'
    'block={role="dislike"}}'
)
TYPES = {
    "buy": EventType(weight=1.0),
    "rate": EventType(weight=0.5, value_transform="log"),
    "watch": EventType(weight=2.0, value_transform="relative", value_cap=1.5),
    "read": EventType(weight=0.1, value_transform="cap", value_cap=10.0),
    "return": EventType(weight=-1.0),
    "show": EventType(role="impression"),
    "hide": EventType(role="dislike", exclude_days=30),
    "block": EventType(role="dislike"),
}
FOREVER = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """A line of a log."""

    user_id: str | None
    item_id: str
    event_type: str
    event_time: datetime
    value: float | None = None


def before(**age: float) -> datetime:
    """The time that lies by a timedelta(**age) before the cutoff."""
    return CUTOFF - timedelta(**age)


def make_events(spark: SparkSession, events: Iterable[Event], **fields: Any) -> DataFrame:
    """An events frame; `fields` are the same in every row."""
    rows = [
        {"event_key": str(number), "batch_seq": 1, "file_sha256": "f" * 64, "line": number + 1}
        | {"ds": event.event_time.astimezone(UTC).date()}
        | vars(event)
        | fields
        for number, event in enumerate(events)
    ]
    return _frame(spark, "events", rows)


def make_items(spark: SparkSession, rows: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """The catalogue of items as of the date."""
    return _frame(spark, "items", [{"item_id": name, **_CATALOGUE_ROW, **row} for name, row in rows.items()])


def make_users(spark: SparkSession, rows: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """The catalogue of users as of the date."""
    return _frame(spark, "users", [{"user_id": name, **_CATALOGUE_ROW, **row} for name, row in rows.items()])


_CATALOGUE_ROW = {"valid_from": datetime(2020, 1, 1, tzinfo=UTC), "content_sha256": "c" * 64, "batch_seq": 1}


def _frame(spark: SparkSession, table: str, rows: list[dict[str, Any]]) -> DataFrame:
    return local_frame(spark, rows, spark_schema(TABLES[table]))


def make_context(spark: SparkSession, config: Config, day: date = DAY, **known: Any) -> Context:
    """The context of a run of `day`; known: further fields."""
    return Context(config=config, day=day, run_id=RUN_ID, seed=1, spark=spark, **known)


def run_steps(inputs: dict[str, DataFrame], context: Context) -> dict[str, DataFrame]:
    """The inputs and what index, interactions and features made of them, worked out after each step as in a run."""
    tables = dict(inputs)
    for step in (step_index, step_interactions, step_features):
        tables |= computed_tables(step.run(tables, context))
    return tables


@contextmanager
def settings(spark: SparkSession, **values: object) -> Iterator[None]:
    """Spark settings (dots written as __) for a block."""
    names = {name.replace("__", "."): str(value) for name, value in values.items()}
    old = {name: spark.conf.get(name) for name in names}
    for name, value in names.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in old.items():
            spark.conf.set(name, value)


def oracle_weight(event: Event, lengths: Mapping[str, float], half_life_days: float) -> float:
    """Weight of one event at the cutoff, in the words of conf/base.toml."""
    kind = TYPES[event.event_type]
    value = event.value if event.value is not None and math.isfinite(event.value) else None
    value = None if value is None else max(value, 0.0)
    factor = 1.0
    if value is not None and kind.value_transform == "log":
        factor = math.log(1 + value)
    elif value is not None and kind.value_transform == "cap":
        factor = min(value, kind.value_cap)
    elif value is not None and kind.value_transform == "relative" and event.item_id in lengths:
        factor = min(value / lengths[event.item_id], kind.value_cap)
    age = (CUTOFF - event.event_time) / timedelta(days=1)
    return kind.weight * factor * (0.5 ** (age / half_life_days) if half_life_days else 1.0)


def oracle_interactions(
    events: Iterable[Event], config: Config, lengths: Mapping[str, float]
) -> dict[tuple[str, str], tuple[float, datetime, int, datetime | None]]:
    """(user_id, item_id) -> (weight, last_time, n_events, excluded_until), by one pass over the events per pair."""
    bounds = config.interactions
    known = [event for event in events if event.user_id is not None and event.event_time < CUTOFF]
    window = before(days=bounds.window_days or 36500)
    engaged = [event for event in known if _role(event) == "engage" and event.event_time >= window]
    disliked = [event for event in known if _role(event) == "dislike"]
    answer = {}
    for pair in {(event.user_id, event.item_id) for event in engaged + disliked}:
        engaged_here = [event for event in engaged if (event.user_id, event.item_id) == pair]
        disliked_here = [event for event in disliked if (event.user_id, event.item_id) == pair]
        weight = 0.0
        for event in engaged_here:
            mine = [one for one in engaged if one.user_id == pair[0]]
            n_on_day = sum(one.event_time.date() == event.event_time.date() for one in mine)
            scale = min(1.0, bounds.max_events_per_user_day / n_on_day)
            weight += scale * oracle_weight(event, lengths, bounds.half_life_days)
        answer[pair] = (
            max(weight, 0.0),
            max(event.event_time for event in engaged_here or disliked_here),
            len(engaged_here),
            max((_expiry(event) for event in disliked_here), default=None),
        )
    return answer


COUNTED_DAYS = (1, 7, 28, 90)


def oracle_user(
    user_id: str, events: Iterable[Event], config: Config, catalogue: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Every feature of a user, by one pass over the events each."""
    events = list(events)
    mine = [event for event in _engaged(events, config) if event.user_id == user_id]
    values = [max(one.value, 0.0) for one in mine if one.value is not None and math.isfinite(one.value)]
    items = {event.item_id for event in mine}
    newest = {item: max(event.event_time for event in mine if event.item_id == item) for item in items}
    order = sorted(newest, key=lambda item: (-newest[item].timestamp(), item.encode()))
    shown = [one for one in _shown(events, config) if one.user_id == user_id]
    return {
        "recent_items": order[: config.features.recent_items],
        "n_items": len(newest),
        **{f"n_items_{days}d": len({one.item_id for one in _of_last(days, mine)}) for days in COUNTED_DAYS},
        "n_active_days": len({event.event_time.date() for event in mine}),
        "mean_value": sum(values) / len(values) if values else None,
        **_counts_and_ages(mine),
        **_oracle_taste(user_id, items, events, config, catalogue),
        **_oracle_conversion(shown, mine, events, config),
    }


def oracle_item(
    item_id: str, events: Iterable[Event], config: Config, catalogue: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Every feature of an item, by one pass over the events each.  catalogue: a row of every indexed item."""
    events = list(events)
    engaged = _engaged(events, config)
    mine = [event for event in engaged if event.item_id == item_id]
    active = {event.user_id for event in _of_last(28, engaged)} - {None}
    n_users = {days: len({one.user_id for one in _of_last(days, mine)} - {None}) for days in COUNTED_DAYS}
    n_week, n_weeks = len(_of_last(7, mine)), len(_of_last(35, mine)) - len(_of_last(7, mine))
    created = catalogue.get(item_id, {}).get("created_at")
    known = [(CUTOFF - created) / timedelta(days=1)] if created and created < CUTOFF else []
    ages = _counts_and_ages(mine)
    return {
        "n_anonymous_28d": sum(event.user_id is None for event in _of_last(28, mine)),
        "n_users": len({event.user_id for event in mine} - {None}),
        **{f"n_users_{days}d": n_users[days] for days in COUNTED_DAYS},
        "popularity_28d": n_users[28] / len(active) if active else None,
        "trend_7d": (n_week + 1) / (n_weeks / 4 + 1) if mine else None,
        "age_days": known[0] if known else ages["days_since_first"],
        "price": oracle_price(catalogue.get(item_id, {})),
        "price_level": oracle_price_level(item_id, catalogue),
        **ages,
        **_oracle_conversion([one for one in _shown(events, config) if one.item_id == item_id], mine, events, config),
    }


def oracle_price(row: Mapping[str, Any]) -> float | None:
    """The price of a row of the catalogue, None if it is none."""
    price = row.get("price")
    return price if price is not None and 0 <= price <= 1e12 else None


def oracle_price_level(item_id: str, catalogue: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean over the priced items of the category: 1 for a cheaper one, a half for one of the same price, else 0."""
    own, category = oracle_price(catalogue.get(item_id, {})), catalogue.get(item_id, {}).get("category")
    if own is None:
        return None
    peers = [oracle_price(row) for row in catalogue.values() if row.get("category") == category]
    scores = [(price < own) + (price == own) / 2 for price in peers if price is not None]
    return sum(scores) / len(scores)


def _oracle_taste(
    user_id: str, items: set[str], events: list[Event], config: Config, catalogue: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    pairs = oracle_interactions(events, config, {})
    weights = {item: pairs[user_id, item][0] for item in items}
    prices = [price for item in items if (price := oracle_price(catalogue.get(item, {}))) is not None]
    levels = {item: level for item in items if (level := oracle_price_level(item, catalogue)) is not None}
    n_level = sum(weights[item] for item in levels)
    totals: dict[str, float] = {}
    for item in items:
        category = catalogue.get(item, {}).get("category")
        if category is not None and weights[item] > 0:
            totals[category] = totals.get(category, 0.0) + weights[item]
    ordered = sorted(totals, key=lambda name: (-round(totals[name], 6), name))
    shares = [(name, totals[name] / sum(totals.values())) for name in ordered]
    return {
        "mean_price": sum(prices) / len(prices) if prices else None,
        "price_level": sum(weights[item] * levels[item] for item in levels) / n_level if n_level > 0 else None,
        "category_affinities": shares[: config.features.max_categories],
    }


def _oracle_conversion(shown: list[Event], engaged: list[Event], events: list[Event], config: Config) -> dict[str, Any]:
    kept = {pair for pair, (weight, *_) in oracle_interactions(events, config, {}).items() if weight > 1e-9}
    first: dict[tuple[str | None, str], datetime] = {}
    for event in shown:
        pair = (event.user_id, event.item_id)
        first[pair] = min(first.get(pair, event.event_time), event.event_time)
    converted = {
        pair for pair, time in first.items()
        if pair in kept and any((one.user_id, one.item_id) == pair and one.event_time >= time for one in engaged)
    }  # fmt: skip
    return {"n_exposures_28d": len(shown), "conversion_28d": len(converted) / len(first) if first else None}


def _counts_and_ages(mine: list[Event]) -> dict[str, Any]:
    ages = [(CUTOFF - event.event_time) / timedelta(days=1) for event in mine]
    n_negative = sum(TYPES[event.event_type].weight < 0 for event in mine)
    n_positive = sum(TYPES[event.event_type].weight > 0 for event in mine)
    return {
        "n_events": len(mine),
        **{f"n_events_{days}d": len(_of_last(days, mine)) for days in COUNTED_DAYS},
        "n_negative_events": n_negative,
        "return_rate": n_negative / n_positive if n_positive else None,
        "days_since_first": max(ages, default=None),
        "days_since_last": min(ages, default=None),
    }


def _of_last(days: int, events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.event_time >= before(days=days)]


def _shown(events: Iterable[Event], config: Config) -> list[Event]:
    """Showings of the last 28 days to known users."""
    days = min(28, config.interactions.window_days or 28)
    shown = [one for one in events if _role(one) == "impression" and one.user_id is not None]
    return [one for one in _of_last(days, shown) if one.event_time < CUTOFF]


def _engaged(events: Iterable[Event], config: Config) -> list[Event]:
    days = config.interactions.window_days or 36500
    return [one for one in events if _role(one) == "engage" and before(days=days) <= one.event_time < CUTOFF]


def _role(event: Event) -> str:
    return TYPES[event.event_type].role if event.event_type in TYPES else ""


def _expiry(event: Event) -> datetime:
    days = TYPES[event.event_type].exclude_days
    return event.event_time + timedelta(days=days) if days else FOREVER
