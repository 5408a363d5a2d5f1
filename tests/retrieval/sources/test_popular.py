"""Popularity counts visitors, not lines; every score is checked against a count by hand."""

import random
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.retrieval.declared import check_params
from recsys_spark.retrieval.sources.popular import generate
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import TYPES, TYPES_SET, Event, before, make_context, make_events, settings

ITEMS = [f"i{number:02d}" for number in range(40)]


@dataclass(frozen=True)
class Visit:
    """An event and its session."""

    event: Event
    session_id: str | None = None


def bought(user_id: str | None, item_id: str, session_id: str | None = None, **age: float) -> Visit:
    return Visit(Event(user_id, item_id, "buy", before(**(age or {"days": 1}))), session_id)


def lists_of(
    spark: SparkSession, make_config, visits: list[Visit], *sets: str, segments: dict[str, str] | None = None
) -> dict[tuple[str, str | None], list[tuple[str, float]]]:
    """(source, segment) -> [(item_id, score)], from the rows that the source makes."""
    config = make_config(TYPES_SET, "segments.attribute=country", *sets)
    rows = proposals(spark, config, make_visits(spark, visits), segments or {}).collect()
    for row in rows:
        assert row["user_idx"] is None
        assert [item["rank"] for item in row["items"]] == list(range(1, len(row["items"]) + 1))
    return {
        (row["source"], row["segment"]): [(ITEMS[item["item_idx"]], item["score"]) for item in row["items"]]
        for row in rows
    }


def make_visits(spark: SparkSession, visits: list[Visit]) -> DataFrame:
    events = make_events(spark, [visit.event for visit in visits])
    sessions = F.create_map(
        *[F.lit(part) for number, visit in enumerate(visits) for part in (str(number), visit.session_id)]
    )
    return events.withColumn("session_id", sessions[F.col("event_key")] if visits else F.lit(None).cast("string"))


def proposals(spark: SparkSession, config, events: DataFrame, segments: dict[str, str]) -> DataFrame:
    index = spark.createDataFrame(list(enumerate(ITEMS)), spark_schema(TABLES["item_index"], without=("run_id",)))
    features = spark.createDataFrame(
        [(user, segment, []) for user, segment in segments.items()],
        spark_schema(TABLES["user_features"], without=("run_id",)),
    )
    inputs = {"events": events, "item_index": index, "user_features": features}
    return generate(inputs, check_params(config)["popular"], make_context(spark, config)).lists


def test_popular_counts_a_user_once_per_item(spark: SparkSession, make_config) -> None:
    visits = [bought("u1", "i01", days=age) for age in range(1, 9)] + [bought("u2", "i02"), bought("u3", "i02")]
    assert lists_of(spark, make_config, visits)["popular/global", None] == [("i02", 2.0), ("i01", 1.0)]


def test_popular_counts_anonymous_sessions_at_their_weight(spark: SparkSession, make_config) -> None:
    visits = [
        bought(None, "i01", "s1"),
        bought(None, "i01", "s1"),
        bought(None, "i01", "s2"),
        bought(None, "i02"),  # without a session every event is a visitor
        bought(None, "i02"),
        bought(None, "i02"),
        bought("u1", "i03", "s1"),
        bought("u1", "i03", "s2"),
    ]
    lists = lists_of(spark, make_config, visits, "sources.popular.anonymous_weight=0.25")
    assert lists["popular/global", None] == [("i03", 1.0), ("i02", 0.75), ("i01", 0.5)]
    lists = lists_of(spark, make_config, visits, "sources.popular.anonymous_weight=0.0")
    assert lists["popular/global", None] == [("i03", 1.0)]


def test_popular_counts_only_types_that_engage_with_a_weight_above_zero(spark: SparkSession, make_config) -> None:
    visits = [
        Visit(Event(f"u{kind}", "i01", kind, before(days=1))) for kind in ("return", "show", "hide", "block", "poke")
    ]
    visits += [Visit(Event("u1", "i02", "rate", before(days=1)))]
    assert lists_of(spark, make_config, visits)["popular/global", None] == [("i02", 1.0)]


def test_popular_keeps_to_its_window_and_never_sees_the_date(spark: SparkSession, make_config) -> None:
    visits = [
        bought("u1", "i01", days=14),
        bought("u1", "i02", days=14, seconds=1),
        bought("u1", "i03", days=0, microseconds=1),
        bought("u1", "i04", days=0),
    ]
    lists = lists_of(spark, make_config, visits, "sources.popular.trend_half_life_days=1.0")
    assert lists["popular/global", None] == [("i01", 1.0), ("i03", 1.0)]


def test_popular_trending_halves_a_visitor_by_their_newest_visit(spark: SparkSession, make_config) -> None:
    visits = [bought("u1", "i01", days=10), bought("u1", "i01", days=5), bought("u2", "i01", days=15)]
    visits += [bought("u1", "i02", days=20), bought("u1", "i03", days=20, seconds=1)]
    lists = lists_of(spark, make_config, visits)
    # Four half-lives of five days are looked back on, to the second.
    assert lists["popular/trending", None] == [("i01", 0.5 + 0.125), ("i02", 0.0625)]


def test_popular_trending_keeps_to_its_own_window_when_the_other_is_longer(spark: SparkSession, make_config) -> None:
    visits = [bought("u1", "i01", days=25), bought("u1", "i02", days=20)]
    lists = lists_of(spark, make_config, visits, "sources.popular.window_days=30")
    assert lists["popular/global", None] == [("i01", 1.0), ("i02", 1.0)]
    assert lists["popular/trending", None] == [("i02", 0.0625)]


def test_popular_breaks_ties_by_the_smaller_index_and_cuts_after(spark: SparkSession, make_config) -> None:
    visits = [bought("u1", item) for item in ("i09", "i03", "i07", "i05")] + [bought("u2", "i09")]
    lists = lists_of(spark, make_config, visits, "sources.popular.max_items=3")
    assert [item for item, _ in lists["popular/global", None]] == ["i09", "i03", "i05"]


def test_popular_makes_lists_of_segments_with_enough_users(spark: SparkSession, make_config) -> None:
    visits = [bought(f"u{number}", "i01") for number in range(3)] + [bought("u0", "i02"), bought("v0", "i03")]
    segments = {"u0": "FR", "u1": "FR", "u2": "FR", "v0": "IS"}
    lists = lists_of(spark, make_config, visits, "sources.popular.min_segment_users=2", segments=segments)
    assert {key: value for key, value in lists.items() if key[1]} == {
        ("popular/segment", "FR"): [("i01", 3.0), ("i02", 1.0)]
    }


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("global", {("popular/global", None)}),
        ("trending", {("popular/trending", None)}),
        ("segment", {("popular/segment", "FR")}),
    ],
)
def test_popular_makes_only_the_lists_that_are_wanted(spark: SparkSession, make_config, name: str, made: set) -> None:
    sets = (f'sources.popular.lists=["{name}"]', "sources.popular.min_segment_users=1")
    assert set(lists_of(spark, make_config, [bought("u1", "i01")], *sets, segments={"u1": "FR"})) == made


def test_popular_makes_no_list_of_nothing(spark: SparkSession, make_config) -> None:
    assert lists_of(spark, make_config, [bought("u1", "i01", days=40)]) == {}


def test_popular_matches_a_count_over_every_event_whatever_the_partitioning(spark: SparkSession, make_config) -> None:
    rng = random.Random(5)
    visits = []
    for _ in range(400):
        user = rng.choice([None, *[f"u{number}" for number in range(25)]])
        session = rng.choice([None, "s1", "s2", "s3"])
        kind = rng.choice(["buy", "rate", "return", "show"])
        event = Event(user, rng.choice(ITEMS), kind, before(seconds=rng.randint(0, 30 * 86400)))
        visits.append(Visit(event, session))
    config = make_config(TYPES_SET)
    oracle = _oracle(visits)
    answers = []
    for partitions in (3, 7):
        with settings(spark, spark__sql__shuffle__partitions=partitions):
            rows = proposals(spark, config, make_visits(spark, visits).repartition(partitions), {}).collect()
        answers.append({row["source"]: row["items"] for row in rows})
    assert answers[0] == answers[1]
    for name, scores in oracle.items():
        found = [(ITEMS[item["item_idx"]], item["score"]) for item in answers[0][f"popular/{name}"]]
        wanted = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        assert [item for item, _ in found] == [item for item, _ in wanted]
        # float32 in the table
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted], rel=2**-23)


def _oracle(visits: list[Visit]) -> dict[str, dict[str, float]]:
    """Scores of the global and the trending list with the defaults: 14 days, half-life 5 days, anonymous 0.1."""
    newest: dict[tuple, float] = {}
    for number, visit in enumerate(visits):
        event = visit.event
        age = (before() - event.event_time) / timedelta(days=1)
        if TYPES[event.event_type].role == "engage" and TYPES[event.event_type].weight > 0 and age > 0:
            visitor = ("user", event.user_id) if event.user_id else ("session", visit.session_id or f"event {number}")
            newest[visitor, event.item_id] = min(age, newest.get((visitor, event.item_id), age))
    scores: dict[str, dict[str, float]] = {"global": {}, "trending": {}}
    for (visitor, item), age in newest.items():
        weight = 1.0 if visitor[0] == "user" else 0.1
        if age <= 14:
            scores["global"][item] = round(scores["global"].get(item, 0.0) + weight, 9)
        if age <= 20:
            scores["trending"][item] = scores["trending"].get(item, 0.0) + weight * 0.5 ** (age / 5)
    return scores


def test_popular_reads_no_later_day_than_the_date(spark: SparkSession, make_config) -> None:
    visits = [bought("u1", "i01"), bought("u2", "i01"), bought("u1", "i02")]
    later = [Visit(replace(visit.event, event_time=before(days=-1))) for visit in [bought("u9", "i03")] * 5]
    assert lists_of(spark, make_config, visits + later) == lists_of(spark, make_config, visits)
