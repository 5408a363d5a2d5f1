"""Events become weights, dislikes and exposures as the configuration says, whatever their order and number."""

import math
import random
import re
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.steps import index, interactions
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import EXPOSURES, INTERACTIONS
from recsys_spark.tables.check import check_rows, check_schema, measure_rows
from tests.biased_log import biased_log, rank_correlation
from tests.engagement import (
    CUTOFF,
    FOREVER,
    TYPES_SET,
    Event,
    before,
    make_context,
    make_events,
    make_items,
    make_users,
    oracle_interactions,
    settings,
)


def _run(
    spark: SparkSession, config: Config, events: DataFrame, items: DataFrame | None = None
) -> tuple[dict[str, DataFrame], Context]:
    inputs = {"events": events, "items": items or make_items(spark, {}), "users": make_users(spark, {})}
    context = make_context(spark, config)
    inputs |= index.run(inputs, context)
    return inputs | interactions.run(inputs, context), context


def _by_id(tables: dict[str, DataFrame], name: str = "interactions") -> list:
    joined = tables[name].join(tables["user_index"], on="user_idx", how="left")
    return joined.join(tables["item_index"], on="item_idx", how="left").collect()


def _pairs(tables: dict[str, DataFrame]) -> dict[tuple[str, str], tuple]:
    return {
        (row.user_id, row.item_id): (row.weight, row.last_time, row.n_events, row.excluded_until)
        for row in _by_id(tables)
    }


def _naive(time):
    """Spark hands out timestamps without a zone, in UTC."""
    return time and time.replace(tzinfo=None)


def _random_log(rng: random.Random, n_events: int) -> list[Event]:
    types = ["buy", "rate", "watch", "read", "return", "show", "hide", "block", "poke"]
    values = [None, 0.0, 1.0, 2.5, 40.0, -3.0, float("nan"), 1e12]
    return [
        Event(
            rng.choice(["ann", "bob", "\u00e9", "e\u0301", None]),
            rng.choice(["x", "y", "z", "\U0001f600", "\uff5e"]),
            rng.choice(types),
            before(days=rng.choice([0.5, 1, 1, 20, 28, 60, 61, 400]), seconds=rng.randrange(0, 40000)),
            rng.choice(values),
        )
        for _ in range(n_events)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_run_matches_the_oracle_on_random_logs(spark: SparkSession, make_config, seed: int) -> None:
    config = make_config(
        TYPES_SET,
        "interactions.window_days=60",
        "interactions.half_life_days=9.5",
        "interactions.max_events_per_user_day=3",
    )
    log = _random_log(random.Random(seed), 300)
    items = make_items(spark, {"x": {"length": 5.0}, "y": {"length": 0.0}, "z": {"length": float("nan")}})
    tables, context = _run(spark, config, make_events(spark, log), items)
    expected = oracle_interactions(log, config, {"x": 5.0})
    found = _pairs(tables)
    assert found.keys() == expected.keys()
    for pair, (weight, last_time, n_events, until) in expected.items():
        # A float32 holds seven digits.
        assert found[pair][0] == pytest.approx(weight, rel=1e-6, abs=1e-9), pair
        assert found[pair][1:] == (_naive(last_time), n_events, _naive(until)), pair
    check_schema(tables["interactions"], INTERACTIONS, without=("run_id",))
    check_rows(measure_rows(tables["interactions"], INTERACTIONS), INTERACTIONS, "in a test")
    assert context.figures["n_anonymous"] == sum(
        event.user_id is None and before(days=60) <= event.event_time < CUTOFF for event in log
    )


def test_run_clips_negative_sums_and_keeps_the_row(spark: SparkSession, make_config) -> None:
    log = [
        Event("ann", "x", "buy", before(days=2)),
        Event("ann", "x", "return", before(days=1)),
        Event("ann", "x", "return", before(days=3)),
        Event("bob", "x", "buy", before(days=2)),
        Event("bob", "x", "buy", before(days=2)),
        Event("bob", "x", "return", before(days=1)),
    ]
    config = make_config(TYPES_SET, "interactions.half_life_days=0")
    found = _pairs(_run(spark, config, make_events(spark, log))[0])
    assert found == {
        ("ann", "x"): (0.0, _naive(before(days=1)), 3, None),
        ("bob", "x"): (1.0, _naive(before(days=1)), 3, None),
    }


def test_run_excludes_a_disliked_item_until_the_last_dislike_expires(spark: SparkSession, make_config) -> None:
    log = [
        Event("ann", "bought", "buy", before(days=3)),
        Event("ann", "bought", "hide", before(days=2)),
        Event("ann", "bought", "hide", before(days=10)),
        Event("ann", "old", "block", before(days=2000)),
        Event("ann", "old", "hide", before(days=1)),
        Event("bob", "expired", "hide", before(days=90)),
        Event("bob", "bought", "buy", before(days=1)),
    ]
    config = make_config(TYPES_SET, "interactions.half_life_days=0", "interactions.window_days=30")
    found = _pairs(_run(spark, config, make_events(spark, log))[0])
    assert found == {
        ("ann", "bought"): (1.0, _naive(before(days=3)), 1, _naive(before(days=2 - 30))),
        ("ann", "old"): (0.0, _naive(before(days=1)), 0, _naive(FOREVER)),
        ("bob", "expired"): (0.0, _naive(before(days=90)), 0, _naive(before(days=90 - 30))),
        ("bob", "bought"): (1.0, _naive(before(days=1)), 1, None),
    }


def test_run_scales_a_user_day_over_the_bound(spark: SparkSession, make_config) -> None:
    bot_day = [Event("bot", f"i{number % 4}", "buy", before(days=1)) for number in range(400)]
    other = [Event("bot", "i0", "buy", before(days=3)), Event("ann", "i0", "buy", before(days=1))]
    looks = [Event("ann", "i0", "show", before(days=1))] * 50  # impressions do not fill the bound
    config = make_config(TYPES_SET, "interactions.half_life_days=0", "interactions.max_events_per_user_day=20")
    tables, context = _run(spark, config, make_events(spark, bot_day + other + looks))
    found = {pair: (weight, n_events) for pair, (weight, _, n_events, _) in _pairs(tables).items()}
    assert found == {
        ("bot", "i0"): (100 * 20 / 400 + 1, 101),
        ("bot", "i1"): (100 * 20 / 400, 100),
        ("bot", "i2"): (100 * 20 / 400, 100),
        ("bot", "i3"): (100 * 20 / 400, 100),
        ("ann", "i0"): (1.0, 1),
    }
    assert context.figures["n_capped_user_days"] == 1


def test_run_broadcasts_the_capped_days(spark: SparkSession, make_config) -> None:
    log = [Event("bot", "i", "buy", before(days=1))] * 5
    tables, _ = _run(spark, make_config(TYPES_SET, "interactions.max_events_per_user_day=2"), make_events(spark, log))
    plan = tables["interactions"]._jdf.queryExecution().toString()
    assert re.search(r"BroadcastHashJoin \[user_id#\d+, ds#\d+\]", plan)
    assert not re.search(r"SortMergeJoin \[user_id#\d+, ds#\d+\]", plan)


def test_run_sends_impressions_to_exposures_alone(spark: SparkSession, make_config) -> None:
    log = [
        Event("ann", "x", "show", before(days=1)),
        Event("ann", "x", "show", before(days=1)),
        Event(None, "x", "show", before(days=1)),
        Event("ann", "y", "show", before(days=31)),
        Event("ann", "y", "show", CUTOFF),
        Event("bob", "y", "buy", before(days=1)),
    ]
    shown = {"surface": "home", "position": 3, "propensity": 0.25, "session_id": "s1"}
    tables, _ = _run(spark, make_config(TYPES_SET, "interactions.window_days=30"), make_events(spark, log, **shown))
    check_schema(tables["exposures"], EXPOSURES, without=("run_id",))
    exposures = [
        (row.user_id, row.item_id, row.event_time, row.surface, row.position, row.propensity, row.session_id)
        for row in _by_id(tables, "exposures")
    ]
    assert exposures == [("ann", "x", _naive(before(days=1)), "home", 3, 0.25, "s1")] * 2
    assert set(_pairs(tables)) == {("bob", "y")}


def test_run_loses_no_pair_in_the_joins_and_a_lost_id_is_seen(spark: SparkSession, make_config) -> None:
    log = [Event(f"u{number % 40}", f"i{number % 7}", "buy", before(days=1)) for number in range(600)]
    events = make_events(spark, log)
    inputs = {"events": events, "items": make_items(spark, {}), "users": make_users(spark, {})}
    context = make_context(spark, make_config(TYPES_SET))
    inputs |= index.run(inputs, context)
    whole = interactions.run(inputs, context)["interactions"]
    assert whole.count() == len({(event.user_id, event.item_id) for event in log})
    assert whole.where("user_idx IS NULL OR item_idx IS NULL").count() == 0
    inputs["item_index"] = inputs["item_index"].where("item_id <> 'i3'")
    short = interactions.run(inputs, context)["interactions"]
    assert measure_rows(short, INTERACTIONS).n_null["item_idx"] == len(
        {event.user_id for event in log if event.item_id == "i3"}
    )


def test_run_measures_the_matrix(spark: SparkSession, make_config) -> None:
    log = [
        Event("ann", "x", "buy", before(days=1)),
        Event("ann", "y", "buy", before(days=1)),
        Event("bob", "x", "buy", before(days=1)),
        Event("cleo", "z", "show", before(days=1)),
        Event(None, "x", "buy", before(days=1)),
    ]
    _, context = _run(spark, make_config(TYPES_SET), make_events(spark, log))
    assert context.figures == {
        "n_users": 2.0,
        "n_items": 2.0,
        "n_interactions": 3.0,
        "density": 3 / (2 * 2),
        "n_anonymous": 1.0,
        "n_capped_user_days": 0.0,
    }


@pytest.mark.parametrize(
    "log", [[], [Event(None, "x", "buy", before(days=1))], [Event("a", "x", "poke", before(days=1))]]
)
def test_run_gives_empty_tables_without_an_engaged_user(spark: SparkSession, make_config, log: list[Event]) -> None:
    tables, context = _run(spark, make_config(TYPES_SET), make_events(spark, log))
    assert [tables[name].count() for name in ("interactions", "exposures")] == [0, 0]
    assert context.figures["density"] == 0.0


def test_run_gives_the_same_rows_for_every_partitioning_and_order(spark: SparkSession, make_config) -> None:
    config = make_config(TYPES_SET, "interactions.half_life_days=11", "interactions.max_events_per_user_day=7")
    log = _random_log(random.Random(5), 400)
    items = make_items(spark, {"x": {"length": 7.0}})
    hashes = set()
    for n_partitions, order in ((3, 1), (7, -1)):
        coalesce = {"spark__sql__adaptive__coalescePartitions__enabled": "false"}
        with settings(spark, spark__sql__shuffle__partitions=n_partitions, **coalesce):
            events = make_events(spark, log[::order]).repartition(n_partitions)
            tables, _ = _run(spark, config, events, items)
            hashes.add(measure_rows(tables["interactions"], INTERACTIONS).content_hash)
            hashes.add(measure_rows(tables["exposures"], EXPOSURES).content_hash)
            spark.catalog.clearCache()
    assert len(hashes) == 2


def test_run_reads_days_in_utc_whatever_the_zone_of_the_session(spark: SparkSession, make_config) -> None:
    # 23:30 UTC and 00:30 UTC around the start of the window are one day in New York.
    start = before(days=30)
    log = [
        Event("ann", "in", "buy", start + timedelta(minutes=30)),
        Event("ann", "out", "buy", start - timedelta(minutes=30)),
    ]
    events = make_events(spark, log)
    config = make_config(TYPES_SET, "interactions.window_days=30", "interactions.half_life_days=30")
    with settings(spark, spark__sql__session__timeZone="America/New_York"):
        found = _pairs(_run(spark, config, events)[0])
    assert {pair: values[0] for pair, values in found.items()} == {
        ("ann", "in"): pytest.approx(math.pow(0.5, (30 - 0.5 / 24) / 30), rel=1e-6)
    }


def test_debiased_weights_rank_items_nearer_to_what_users_like(spark: SparkSession, make_config) -> None:
    """A log whose policy has favourites of its own: what it shows seldom, and far down, is engaged with seldom."""
    log = biased_log(n_users=2000, n_items=12, n_positions=6, eta=1.0, seed=4)
    pairs = [(f"u{user:05d}", f"i{item:02d}") for user, item in zip(log.user_idx, log.item_idx, strict=True)]
    bought = [pair for pair, engaged in zip(pairs, log.engaged, strict=True) if engaged]
    events = make_events(spark, [Event(*pair, "buy", before(days=1)) for pair in bought])
    for at in range(1, 7):
        seen = [pair for pair, position in zip(pairs, log.position, strict=True) if position == at]
        shown = make_events(spark, [Event(*pair, "show", before(days=2)) for pair in seen], position=at)
        events = events.unionByName(shown)

    def weight_of_items(*sets: str) -> tuple[list[float], dict[str, float]]:
        tables, context = _run(spark, make_config(TYPES_SET, "interactions.half_life_days=0", *sets), events)
        sums = tables["interactions"].groupBy("item_idx").agg(F.sum("weight").alias("w")).orderBy("item_idx").collect()
        return [row["w"] for row in sums], context.figures

    plain, _ = weight_of_items()
    debiased, figures = weight_of_items("interactions.debias_clip=1000")
    assert rank_correlation(np.array(plain), log.relevance) < 0.5
    assert rank_correlation(np.array(debiased), log.relevance) > 0.9
    assert sum(debiased) == pytest.approx(sum(plain), rel=1e-5), "the mean weight is as it was"
    assert figures["share_debiased"] == 1.0
    assert [figures[f"examined:{at}"] for at in (1, 2, 3)] == pytest.approx([1, 1 / 2, 1 / 3], rel=0.15)


def test_an_engagement_before_or_without_a_showing_counts_once(spark: SparkSession, make_config) -> None:
    log = [
        Event("u0", "x", "buy", before(days=3)),
        Event("u0", "x", "show", before(days=2)),
        Event("u1", "x", "buy", before(days=3)),
        Event("u2", "y", "show", before(days=3)),
        Event("u2", "y", "buy", before(days=3)),
    ]
    config = make_config(TYPES_SET, "interactions.half_life_days=0", "interactions.debias_clip=10")
    tables, context = _run(spark, config, make_events(spark, log))
    # y was shown to one of two users who were shown anything: 2, beside 1 and 1; the mean is 4/3.
    weights = {pair: row[0] for pair, row in _pairs(tables).items()}
    assert weights == pytest.approx({("u0", "x"): 0.75, ("u1", "x"): 0.75, ("u2", "y"): 1.5})
    assert context.figures["mean_inverse"] == pytest.approx(4 / 3)
    assert context.figures["share_debiased"] == pytest.approx(1 / 3)
