"""Who is judged on what, against the protocol in memory and on a small log that can be counted by hand."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.cli.demo.holdout import hold_out, popular_items
from recsys_spark.config.load import load_config
from recsys_spark.evaluation.protocol import (
    fit_item_users,
    head_items,
    judged_users,
    later_events,
    popular_lists,
    with_history,
)
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import CUTOFF, DAY, Event, make_context, make_events, make_items, make_users, run_steps
from tests.local_frame import local_frame

TYPE = "purchase"
PROPOSED = spark_schema(TABLES["source_candidates"], without=("run_id",))


def log(seed: int = 3, n: int = 400) -> list[Event]:
    """Users, anonymous ones among them, and items that come and go, before and after the cutoff."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(n):
        user, age = int(rng.integers(0, 25)), float(rng.uniform(-40, 80))
        item = f"item-{int(rng.integers(0, 12)) + (6 if age < 0 else 0):02d}"
        name = None if user == 0 else f"user-{user + (5 if age < 0 else 0):02d}"
        kind = TYPE if rng.random() < 0.9 else "return"
        events.append(Event(name, item, kind, CUTOFF - timedelta(days=age)))
    # At the first moment of the window, and at the first one after it.
    edges = (("item-00", -1), ("item-07", 0), ("item-08", 28))
    return events + [Event("user-edge", item, TYPE, CUTOFF + timedelta(days=days)) for item, days in edges]


@pytest.fixture(scope="module")
def world(spark: SparkSession) -> tuple[list[Event], dict[str, DataFrame]]:
    events = log()
    context = make_context(spark, load_config(sets=("segments.attribute=country",)))
    frames = {
        "events": make_events(spark, [event for event in events if event.event_time < CUTOFF]),
        "items": make_items(spark, {"item-17": {"created_at": CUTOFF - timedelta(days=1)}}),
        "users": make_users(spark, {"user-29": {}}),
    }
    proposed = [{"source": "als", "user_idx": 0, "items": [{"item_idx": 0, "rank": 1, "score": 1.0}]}]
    return events, run_steps(frames, context) | {"source_candidates": local_frame(spark, proposed, PROPOSED)}


def purchases(events: list[Event]) -> pa.Table:
    bought = [event for event in events if event.user_id is not None and event.event_type == TYPE]
    columns = {name: [getattr(event, name) for event in bought] for name in ("user_id", "item_id")}
    time = pa.array([event.event_time for event in bought], pa.timestamp("us", "UTC"))
    return pa.table({**columns, "event_time": time})


def judged(spark: SparkSession, world: tuple[list[Event], dict[str, DataFrame]], *sets: str) -> dict[str, dict]:
    events, inputs = world
    later = later_events(make_events(spark, events), CUTOFF, 28)
    rows = judged_users(inputs, later, load_config(sets=sets), CUTOFF).collect()
    return {row["user_id"]: row.asDict(recursive=True) for row in rows}


@pytest.fixture(scope="module")
def found(spark: SparkSession, world: tuple[list[Event], dict[str, DataFrame]]) -> dict[str, dict]:
    """Who is judged by the defaults."""
    return judged(spark, world)


def test_known_users_and_known_targets_are_those_of_the_protocol_in_memory(
    world: tuple[list[Event], dict[str, DataFrame]], found: dict[str, dict]
) -> None:
    events, inputs = world
    names = {row["item_idx"]: row["item_id"] for row in inputs["item_index"].collect()}
    expected = hold_out(purchases(events), DAY)
    known = {
        user: {names[one["item_idx"]] for one in row["targets"] if one["is_known"]}
        for user, row in found.items()
        if row["n_items"]
    }
    assert {user: items for user, items in known.items() if items} == dict(
        zip(expected.users, map(set, expected.targets), strict=True)
    )
    seen = dict(zip(expected.users, expected.seen, strict=True))
    assert all(found[user]["n_items"] == len(items) for user, items in seen.items())
    assert all({names[idx] for idx in found[user]["excluded"]} >= items for user, items in seen.items())


def test_a_history_is_all_that_a_user_had_engaged_with(
    spark: SparkSession, world: tuple[list[Event], dict[str, DataFrame]]
) -> None:
    events, inputs = world
    config, later = load_config(), later_events(make_events(spark, events), CUTOFF, 28)
    rows = with_history(judged_users(inputs, later, config, CUTOFF), inputs, config, CUTOFF).collect()
    names = {row["item_idx"]: row["item_id"] for row in inputs["item_index"].collect()}
    bought = purchases([event for event in events if event.event_time < CUTOFF])
    pairs = set(zip(bought["user_id"].to_pylist(), bought["item_id"].to_pylist(), strict=True))
    assert {row["user_id"]: sorted(names[idx] for idx in row["history"] or []) for row in rows} == {
        row["user_id"]: sorted(item for user, item in pairs if user == row["user_id"]) for row in rows
    }
    assert any(row["history"] is None for row in rows), "a new user has none"


def test_new_users_and_new_items_are_judged_too(
    world: tuple[list[Event], dict[str, DataFrame]], found: dict[str, dict]
) -> None:
    events, inputs = world
    (launched,) = [row["item_idx"] for row in inputs["item_index"].collect() if row["item_id"] == "item-17"]
    before = {event.user_id for event in events if event.event_time < CUTOFF and event.event_type == TYPE}
    new = {user for user, row in found.items() if not row["n_items"]}
    assert new
    assert not new & before
    targets = {(one["item_idx"], one["is_known"]) for row in found.values() for one in row["targets"]}
    assert {(launched, False), (-1, False)} <= targets, "an item of the catalogue, and one that nobody knew"


def test_what_may_be_repeated_is_a_target_again(
    spark: SparkSession, world: tuple[list[Event], dict[str, DataFrame]], found: dict[str, dict]
) -> None:
    fewer, more = found, judged(spark, world, 'candidates.seen="keep"')
    assert sum(len(row["targets"]) for row in more.values()) > sum(len(row["targets"]) for row in fewer.values())


def test_popular_lists_are_those_of_the_protocol_in_memory(world: tuple[list[Event], dict[str, DataFrame]]) -> None:
    events, inputs = world
    names = {row["item_idx"]: row["item_id"] for row in inputs["item_index"].collect()}
    rows = popular_lists(inputs, load_config(sets=("candidates.available_within_days=0",)), CUTOFF, 5).collect()
    assert [[names[item["item_idx"]] for item in row["items"]] for row in rows] == [
        popular_items(purchases(events), DAY, days)[:5] for days in (28, None)
    ]


def test_item_users_are_counted_once(world: tuple[list[Event], dict[str, DataFrame]]) -> None:
    events, inputs = world
    item_users, n_users = fit_item_users(inputs, load_config(), CUTOFF)
    index = {row["item_id"]: row["item_idx"] for row in inputs["item_index"].collect()}
    bought = purchases([event for event in events if event.event_time < CUTOFF])
    pairs = set(zip(bought["user_id"].to_pylist(), bought["item_id"].to_pylist(), strict=True))
    assert n_users == len({user for user, _ in pairs})
    for item, at in index.items():
        assert item_users[at] == sum(one == item for _, one in pairs), item


@pytest.mark.parametrize(
    ("counts", "head"),
    [([5, 3, 2], [1, 0, 0]), ([4, 3, 2, 1], [1, 1, 0, 0]), ([2, 2, 2], [1, 1, 1]), ([0, 0], [0, 0]), ([], [])],
)
def test_head_is_the_fewest_items_with_half_of_all(counts: list[int], head: list[int]) -> None:
    np.testing.assert_array_equal(head_items(np.array(counts, np.int64)), np.array(head, bool))
