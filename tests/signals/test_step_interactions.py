"""Events become weights, dislikes and exposures as the configuration says, whatever their order and number."""

import math
import random
import re
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.signals import step_index, step_interactions
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows
from recsys_spark.warehouse.tables import EXPOSURES, INTERACTIONS
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
from tests.local_frame import computed, computed_tables

Answer = tuple[dict[str, DataFrame], Context]


def _run(spark: SparkSession, config: Config, events: DataFrame, items: DataFrame | None = None) -> Answer:
    """What both steps made, worked out, and their figures."""
    inputs = {"events": events, "items": items or make_items(spark, {}), "users": make_users(spark, {})}
    context = make_context(spark, config)
    for step in (step_index, step_interactions):
        inputs |= computed_tables(step.run(inputs, context))
    spark.catalog.clearCache()
    return inputs, context


def _by_id(tables: dict[str, DataFrame], name: str = "interactions") -> list[dict]:
    """Rows with the ids in place of their places; a place that is missing has no id."""
    users = {row.user_idx: row.user_id for row in tables["user_index"].collect()} | {None: None}
    items = {row.item_idx: row.item_id for row in tables["item_index"].collect()} | {None: None}
    rows = [row.asDict() for row in tables[name].collect()]
    return [row | {"user_id": users[row["user_idx"]], "item_id": items[row["item_idx"]]} for row in rows]


def _pairs(tables: dict[str, DataFrame]) -> dict[tuple[str, str], tuple]:
    return {
        (row["user_id"], row["item_id"]): (row["weight"], row["last_time"], row["n_events"], row["excluded_until"])
        for row in _by_id(tables)
    }


def _naive(time):
    """Spark hands out timestamps without a zone, in UTC."""
    return time and time.replace(tzinfo=None)


def _random_log(rng: random.Random, n_events: int, suffix: str = "") -> list[Event]:
    types = ["buy", "rate", "watch", "read", "return", "show", "hide", "block", "poke"]
    values = [None, 0.0, 1.0, 2.5, 40.0, -3.0, float("nan"), 1e12]
    return [
        Event(
            None if (user := rng.choice(["ann", "bob", "\u00e9", "e\u0301", None])) is None else user + suffix,
            rng.choice(["x", "y", "z", "\U0001f600", "\uff5e"]),
            rng.choice(types),
            before(days=rng.choice([0.5, 1, 1, 20, 28, 60, 61, 400]), seconds=rng.randrange(0, 40000)),
            rng.choice(values),
        )
        for _ in range(n_events)
    ]


# The same three users and two writings of an accent a second time, as others, so that they share no user day.
_LOG = [*_random_log(random.Random(1), 300), *_random_log(random.Random(2), 300, " again")]
_LENGTHS: dict[str, dict] = {"x": {"length": 5.0}, "y": {"length": 0.0}, "z": {"length": float("nan")}}
_ORACLE_SETS = (
    TYPES_SET,
    "interactions.window_days=60",
    "interactions.half_life_days=9.5",
    "interactions.max_events_per_user_day=3",
)


@pytest.fixture(scope="module")
def of_three(spark: SparkSession) -> Answer:
    """What the random log becomes, in three partitions."""
    with settings(spark, spark__sql__shuffle__partitions=3):
        events = make_events(spark, _LOG).repartition(3)
        return _run(spark, load_config(sets=_ORACLE_SETS), events, make_items(spark, _LENGTHS))


def test_run_matches_the_oracle_on_random_logs(of_three: Answer) -> None:
    tables, context = of_three
    expected = oracle_interactions(_LOG, load_config(sets=_ORACLE_SETS), {"x": 5.0})
    found = _pairs(tables)
    assert found.keys() == expected.keys()
    for pair, (weight, last_time, n_events, until) in expected.items():
        # A float32 holds seven digits.
        assert found[pair][0] == pytest.approx(weight, rel=1e-6, abs=1e-9), pair
        assert found[pair][1:] == (_naive(last_time), n_events, _naive(until)), pair
    check_schema(tables["interactions"], INTERACTIONS, without=("run_id",))
    check_rows(measure_rows(tables["interactions"], INTERACTIONS), INTERACTIONS, "in a test")
    assert context.figures["n_anonymous"] == sum(
        event.user_id is None and before(days=60) <= event.event_time < CUTOFF for event in _LOG
    )


def test_run_gives_the_same_rows_for_every_partitioning_and_order(spark: SparkSession, of_three: Answer) -> None:
    with settings(spark, spark__sql__shuffle__partitions=7):
        events = make_events(spark, _LOG[::-1]).repartition(7)
        of_seven = _run(spark, load_config(sets=_ORACLE_SETS), events, make_items(spark, _LENGTHS))
    for name in ("interactions", "exposures"):
        rows = [sorted(map(str, tables[name].collect())) for tables, _ in (of_three, of_seven)]
        assert rows[0] == rows[1], name
        assert rows[0], name
    assert of_three[1].figures == of_seven[1].figures


_PLANTED = {
    "returned": [
        Event("ann", "x", "buy", before(days=2)),
        Event("ann", "x", "return", before(days=1)),
        Event("ann", "x", "return", before(days=3)),
        Event("bob", "x", "buy", before(days=2)),
        Event("bob", "x", "buy", before(days=2)),
        Event("bob", "x", "return", before(days=1)),
    ],
    "disliked": [
        Event("ann", "bought", "buy", before(days=3)),
        Event("ann", "bought", "hide", before(days=2)),
        Event("ann", "bought", "hide", before(days=10)),
        Event("ann", "old", "block", before(days=2000)),
        Event("ann", "old", "hide", before(days=1)),
        Event("bob", "expired", "hide", before(days=90)),
        Event("bob", "bought", "buy", before(days=1)),
    ],
    "bot": [
        *(Event("bot", f"b{number % 4}", "buy", before(days=1)) for number in range(400)),
        Event("bot", "b0", "buy", before(days=3)),
        Event("human", "b0", "buy", before(days=1)),
        *[Event("human", "b0", "show", before(days=1))] * 50,  # impressions do not fill the bound
    ],
    "shown": [
        Event("looker", "s", "show", before(days=1)),
        Event("looker", "s", "show", before(days=1)),
        Event(None, "s", "show", before(days=1)),
        Event("looker", "t", "show", before(days=31)),
        Event("looker", "t", "show", CUTOFF),
        Event("buyer", "t", "buy", before(days=1)),
    ],
    "many": [Event(f"u{number % 40}", f"i{number % 7}", "buy", before(days=1)) for number in range(600)],
    "anonymous": [Event(None, "x", "buy", before(days=1))],
}
_SHOWN = {"surface": "home", "position": 3, "propensity": 0.25, "session_id": "s1"}


@pytest.fixture(scope="module")
def planted(spark: SparkSession) -> Answer:
    """All cases of `_PLANTED` in one log; the index of items has lost `i3`."""
    sets = ("interactions.half_life_days=0", "interactions.window_days=30", "interactions.max_events_per_user_day=20")
    context = make_context(spark, load_config(sets=(TYPES_SET, *sets)))
    events = make_events(spark, [event for case in _PLANTED.values() for event in case], **_SHOWN)
    inputs = {"events": events, "items": make_items(spark, {}), "users": make_users(spark, {})}
    inputs |= computed_tables(step_index.run(inputs, context))
    inputs["item_index"] = computed(inputs["item_index"].where("item_id <> 'i3'"))
    inputs |= computed_tables(step_interactions.run(inputs, context))
    spark.catalog.clearCache()
    return inputs, context


def _of_items(tables: dict[str, DataFrame], *items: str) -> dict[tuple[str, str], tuple]:
    return {pair: values for pair, values in _pairs(tables).items() if pair[1] in items}


def test_run_clips_negative_sums_and_keeps_the_row(planted: Answer) -> None:
    assert _of_items(planted[0], "x") == {
        ("ann", "x"): (0.0, _naive(before(days=1)), 3, None),
        ("bob", "x"): (1.0, _naive(before(days=1)), 3, None),
    }


def test_run_excludes_a_disliked_item_until_the_last_dislike_expires(planted: Answer) -> None:
    assert _of_items(planted[0], "bought", "old", "expired") == {
        ("ann", "bought"): (1.0, _naive(before(days=3)), 1, _naive(before(days=2 - 30))),
        ("ann", "old"): (0.0, _naive(before(days=1)), 0, _naive(FOREVER)),
        ("bob", "expired"): (0.0, _naive(before(days=90)), 0, _naive(before(days=90 - 30))),
        ("bob", "bought"): (1.0, _naive(before(days=1)), 1, None),
    }


def test_run_scales_a_user_day_over_the_bound(planted: Answer) -> None:
    tables, context = planted
    found = {
        pair: (weight, n_events) for pair, (weight, _, n_events, _) in _of_items(tables, "b0", "b1", "b2", "b3").items()
    }
    assert found == {
        ("bot", "b0"): (100 * 20 / 400 + 1, 101),
        ("bot", "b1"): (100 * 20 / 400, 100),
        ("bot", "b2"): (100 * 20 / 400, 100),
        ("bot", "b3"): (100 * 20 / 400, 100),
        ("human", "b0"): (1.0, 1),
    }
    assert context.figures["n_capped_user_days"] == 1


def test_run_sends_impressions_to_exposures_alone(planted: Answer) -> None:
    tables, _ = planted
    check_schema(tables["exposures"], EXPOSURES, without=("run_id",))
    names = ("user_id", "item_id", "event_time", "surface", "position", "propensity", "session_id")
    exposures = sorted(tuple(row[name] for name in names) for row in _by_id(tables, "exposures"))
    day, shown = _naive(before(days=1)), ("home", 3, 0.25, "s1")
    assert exposures == [("human", "b0", day, *shown)] * 50 + [("looker", "s", day, *shown)] * 2
    assert set(_of_items(tables, "s", "t")) == {("buyer", "t")}


def test_run_loses_no_pair_in_the_joins_and_a_lost_id_is_seen(planted: Answer) -> None:
    tables, _ = planted
    bought = {(event.user_id, event.item_id) for event in _PLANTED["many"]}
    rows = [row for row in _by_id(tables) if row["user_id"] in {user for user, _ in bought}]
    assert len(rows) == len(bought)
    kept = sorted((row["user_id"], row["item_id"]) for row in rows if row["item_id"] is not None)
    assert kept == sorted(pair for pair in bought if pair[1] != "i3")
    figures = measure_rows(tables["interactions"], INTERACTIONS)
    assert figures.n_null["item_idx"] == len({user for user, item in bought if item == "i3"})
    assert figures.n_null["user_idx"] == 0


def test_run_measures_the_matrix(planted: Answer) -> None:
    n_users = 2 + 2 + 1 + 40  # ann and bob; the bot and the human; the buyer; and the many: no looker, nor anonymous
    n_items = 1 + 3 + 4 + 1 + 6  # of each case, less the one without an index
    n_interactions = 2 + 4 + 5 + 1 + 40 * 7
    assert planted[1].figures == {
        "n_users": float(n_users),
        "n_items": float(n_items),
        "n_interactions": float(n_interactions),
        "density": n_interactions / (n_users * n_items),
        "n_anonymous": 2.0,
        "n_capped_user_days": 1.0,
    }


@pytest.fixture(scope="module")
def in_new_york(spark: SparkSession) -> tuple[dict[tuple[str, str], tuple], str]:
    """Pairs of a log whose size Spark is not told, in a session with the zone of New York, and how they were made."""
    # 23:30 UTC and 00:30 UTC around the start of the window are one day in New York.
    start = before(days=30)
    log = [
        Event("ann", "in", "buy", start + timedelta(minutes=30)),
        Event("ann", "out", "buy", start - timedelta(minutes=30)),
        *[Event("bot", "i", "buy", before(days=1))] * 5,
    ]
    events = make_events(spark, log)
    unsized = spark.createDataFrame(events.collect(), events.schema)
    sets = ("window_days=30", "half_life_days=30", "max_events_per_user_day=2")
    context = make_context(spark, load_config(sets=(TYPES_SET, *(f"interactions.{one}" for one in sets))))
    inputs = {"events": unsized, "items": make_items(spark, {}), "users": make_users(spark, {})}
    with settings(spark, spark__sql__session__timeZone="America/New_York"):
        inputs |= step_index.run(inputs, context)
        inputs |= step_interactions.run(inputs, context)
        pairs, plan = _pairs(inputs), inputs["interactions"]._jdf.queryExecution().toString()
    spark.catalog.clearCache()
    return pairs, plan


def test_run_broadcasts_the_capped_days(in_new_york: tuple[dict, str]) -> None:
    _, plan = in_new_york
    assert re.search(r"BroadcastHashJoin \[user_id#\d+, ds#\d+\]", plan)
    assert not re.search(r"SortMergeJoin \[user_id#\d+, ds#\d+\]", plan)


def test_run_reads_days_in_utc_whatever_the_zone_of_the_session(in_new_york: tuple[dict, str]) -> None:
    pairs, _ = in_new_york
    assert {pair: values[0] for pair, values in pairs.items() if pair[0] == "ann"} == {
        ("ann", "in"): pytest.approx(math.pow(0.5, (30 - 0.5 / 24) / 30), rel=1e-6)
    }


@pytest.mark.parametrize(
    "log",
    [[], [Event(None, "x", "buy", before(days=1))], [Event("a", "x", "poke", before(days=1))]],
    ids=["nothing", "anonymous", "unknown"],
)
def test_run_gives_empty_tables_without_an_engaged_user(spark: SparkSession, make_config, log: list[Event]) -> None:
    with settings(spark, spark__sql__shuffle__partitions=1):
        tables, context = _run(spark, make_config(TYPES_SET), make_events(spark, log))
    assert [tables[name].collect() for name in ("interactions", "exposures")] == [[], []]
    assert context.figures["density"] == 0.0


def test_debiased_weights_rank_items_nearer_to_what_users_like(spark: SparkSession, make_config) -> None:
    """A log whose policy has favourites of its own: what it shows seldom, and far down, is engaged with seldom."""
    log = biased_log(n_users=2000, n_items=12, n_positions=6, eta=1.0, seed=4)
    places = log.position.tolist()
    pairs = [(f"u{user:05d}", f"i{item:02d}") for user, item in zip(log.user_idx, log.item_idx, strict=True)]
    bought = [pair for pair, engaged in zip(pairs, log.engaged, strict=True) if engaged]
    events = make_events(spark, [Event(*pair, "buy", before(days=1)) for pair in bought])
    for at in range(1, 7):
        seen = [pair for pair, position in zip(pairs, places, strict=True) if position == at]
        shown = make_events(spark, [Event(*pair, "show", before(days=2)) for pair in seen], position=at)
        events = events.unionByName(shown)
    config = make_config(TYPES_SET, "interactions.half_life_days=0", "interactions.debias_clip=1000")
    tables, context = _run(spark, config, computed(events))
    debiased = [0.0] * 12
    for row in tables["interactions"].collect():
        debiased[row["item_idx"]] += row["weight"]
    # Without it an engagement counts one, whatever it followed.
    plain, figures = np.bincount(log.item_idx[log.engaged], minlength=12).tolist(), context.figures
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
