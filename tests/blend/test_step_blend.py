"""The day's lists, from source lists of every scope, against a plain loop over users."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark.als import step_als
from recsys_spark.blend import step_blend
from recsys_spark.blend.collect import variant_of
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.features import step_features
from recsys_spark.ingest.rules import parse_rules
from recsys_spark.item_cf import step_item_cf
from recsys_spark.retrieval import step_retrieve
from recsys_spark.signals import step_index, step_interactions
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows, spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import (
    TYPES_SET,
    Event,
    before,
    make_context,
    make_events,
    make_items,
    make_users,
    settings,
)
from tests.local_frame import computed_tables
from tests.staged import staged

N_USERS, N_ITEMS = 25, 30
SEGMENTS = ["FR", "IS", None]


def frame(spark: SparkSession, table: str, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, spark_schema(TABLES[table], without=("run_id",)))


def random_list(rng: random.Random, length: int) -> list[int]:
    return rng.sample(range(N_ITEMS), length)


def random_day(rng: random.Random) -> dict[str, list]:
    """Rows of the inputs of blend, and what they are made of."""
    interactions = [
        (user, item, 1.0, before(days=rng.choice([1, 40, 400])), 1, None)
        for user in range(N_USERS)
        for item in random_list(rng, rng.randint(0, 12))
    ]
    lists = [("top/global", None, None, random_list(rng, 25)), ("top/new", None, None, random_list(rng, 10))]
    lists += [("top/near", None, segment, random_list(rng, 8)) for segment in ("FR", "IS")]
    lists += [("als", user, None, random_list(rng, 9)) for user in range(0, N_USERS, 2)]
    lists += [("knn", user, None, random_list(rng, 4)) for user in range(0, N_USERS, 3)]
    shown = set(random_list(rng, 24))
    return {"interactions": interactions, "lists": lists, "shown": sorted(shown)}


def make_inputs(spark: SparkSession, day: dict[str, list]) -> dict[str, DataFrame]:
    proposals = [
        (*names, [Row(item_idx=item, rank=at + 1, score=50.0 - at) for at, item in enumerate(items)])
        for *names, items in day["lists"]
    ]
    return {
        "events": make_events(spark, [Event(None, f"i{item:02d}", "buy", before(days=3)) for item in day["shown"]]),
        "items": make_items(spark, {}),
        "users": make_users(spark, {}),
        "exposures": frame(spark, "exposures", []),
        "source_candidates": frame(spark, "source_candidates", [(*row, None, None, None) for row in proposals]),
        "interactions": frame(spark, "interactions", day["interactions"]),
        "user_index": frame(spark, "user_index", [(user, f"u{user:02d}") for user in range(N_USERS)]),
        "item_index": frame(spark, "item_index", [(item, f"i{item:02d}") for item in range(N_ITEMS)]),
        "user_features": frame(
            spark, "user_features", [(f"u{user:02d}", SEGMENTS[user % 3], []) for user in range(N_USERS)]
        ),
    }


def oracle(day: dict[str, list], user: int | None, segment: str | None, config: Config) -> list[tuple]:
    """[(item_id, [(source, rank)])] of one user, or of a segment, by a loop over the lists."""
    excluded = {item for row_user, item, *_ in day["interactions"] if row_user == user}
    points: dict[int, int] = defaultdict(int)
    reasons: dict[int, list] = defaultdict(list)
    for source, of_user, of_segment, items in sorted(day["lists"], key=lambda row: row[0]):
        weight = config.candidates.source_weights.get(source, 1.0)
        is_mine = of_user == user if of_user is not None else of_segment in (None, segment)
        if is_mine and weight > 0:
            admissible = [item for item in items if item in day["shown"] and item not in excluded]
            for rank, item in enumerate(admissible[: config.candidates.k], start=1):
                points[item] += round(weight / (config.candidates.rrf_k + rank) * 2**40)
                reasons[item].append((source, rank))
    best = sorted(points, key=lambda item: (-points[item], item))[: config.candidates.k]
    return [(f"i{item:02d}", reasons[item]) for item in best]


def found(items: list[Row]) -> list[tuple]:
    return [(item["item_id"], [(one["source"], one["rank"]) for one in item["sources"]]) for item in items]


RUNGS = ("history", "features", "segment", "everybody", "none")


def rung_of(sources: set[str]) -> str:
    """The best that a list is made of, of a user who did something."""
    if not sources:
        return "none"
    return "history" if sources & {"als", "knn"} else "segment" if "top/near" in sources else "everybody"


def run(spark: SparkSession, config: Config, inputs: dict[str, DataFrame]) -> tuple[dict[str, DataFrame], Context]:
    context = make_context(spark, config)
    return staged(step_blend.run(inputs, context), context), context


def plain_lists(day: dict[str, list], config: Config) -> dict[str, list[tuple]]:
    """The lists of the oracle by user, of everybody who did anything in the last year."""
    active = {user for user, _, _, last, *_ in day["interactions"] if last > before(days=365)}
    return {f"u{user:02d}": oracle(day, user, SEGMENTS[user % 3], config) for user in active}


SETS = (TYPES_SET, "candidates.k=7", "candidates.source_weights={als=2.0}")


@pytest.fixture
def config(make_config) -> Config:
    return make_config(*SETS)


def whole_day() -> dict[str, list]:
    """Of the users, 0 to 3 have done nothing yet, and 4 has had everything."""
    day = random_day(random.Random(11))
    day["interactions"] = [row for row in day["interactions"] if row[0] > 4]
    day["interactions"] += [(4, item, 1.0, before(days=1), 1, None) for item in range(N_ITEMS)]
    return day


# als has a list for users 0, 2 and 8, none for 1; nobody knows when 3 signed up.
SIGNED_UP = {"u00": before(days=5), "u01": before(days=5), "u02": before(days=400), "u08": before(days=5)}


@dataclass(frozen=True)
class Blended:
    """What blend made of `whole_day`."""

    config: Config
    outputs: dict[str, DataFrame]
    lists: list[Row]
    fallback: list[Row]
    figures: dict[str, float]


@pytest.fixture(scope="module")
def blended(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Blended]:
    """By the number of partitions; made once."""

    @cache
    def make(partitions: int) -> Blended:
        config = load_config(sets=(f"storage.root={tmp_path_factory.mktemp('blend')}", *SETS))
        users = make_users(spark, {user: {"created_at": time} for user, time in SIGNED_UP.items()})
        inputs = make_inputs(spark, whole_day()) | {"users": users}
        with settings(spark, spark__sql__shuffle__partitions=partitions):
            outputs, context = run(spark, config, {name: rows.repartition(partitions) for name, rows in inputs.items()})
            lists, fallback = (outputs[name].collect() for name in ("candidates", "fallback_candidates"))
        return Blended(config, outputs, lists, fallback, context.figures)

    return make


@pytest.mark.parametrize("partitions", [3, 7])
def test_blend_matches_a_plain_loop_whatever_the_partitioning(
    blended: Callable[[int], Blended], partitions: int
) -> None:
    day, made = whole_day(), blended(partitions)
    lists, figures, config = made.lists, made.figures, made.config
    # A newcomer for whom a source made a list is served like others.
    expected = plain_lists(day, config) | {"u00": oracle(day, 0, SEGMENTS[0], config)}
    assert {row["user_id"]: found(row["items"]) for row in lists} == expected
    assert {row["segment"]: found(row["items"]) for row in made.fallback} == {
        segment: oracle(day, None, segment, config) for segment in SEGMENTS
    }
    assert {row["variant"] for row in lists} == {"main"}
    sources = {row["user_id"]: [one["source"] for item in row["items"] for one in item["sources"]] for row in lists}
    rungs = ["features" if user == "u00" else rung_of(set(mine)) for user, mine in sources.items()]
    assert {name: figures[f"rung:{name}"] for name in RUNGS} == {name: rungs.count(name) for name in RUNGS}
    n_candidates = sum(len(row["items"]) for row in lists)
    assert figures["n_users"] == len(expected) == len(lists)
    assert figures["n_candidates"] == n_candidates
    assert figures["n_shown"] == len(day["shown"])
    assert figures["share_short"] == sum(len(row["items"]) < 7 for row in lists) / len(lists)
    assert figures["share_empty"] == sum(not row["items"] for row in lists) / len(lists)
    proposed = [source for mine in sources.values() for source in mine]
    for source in ("als", "knn", "top/global", "top/near", "top/new"):
        assert figures[f"share:{source}"] == proposed.count(source) / n_candidates


def test_blend_writes_rows_of_contract_form(blended: Callable[[int], Blended]) -> None:
    for name, output in blended(3).outputs.items():
        check_schema(output, TABLES[name], without=("run_id",))
        check_rows(measure_rows(output, TABLES[name]), TABLES[name], name)


def test_blend_gives_who_has_seen_everything_an_empty_list(blended: Callable[[int], Blended]) -> None:
    made = blended(3)
    assert [row["user_id"] for row in made.lists if not row["items"]] == ["u04"]
    assert made.figures["share_empty"] == 1 / len(made.lists)
    assert made.figures["share_short"] >= 1 / len(made.lists)
    assert made.figures["rung:none"] == 1.0


def test_blend_makes_lists_for_newcomers_by_what_is_known_of_them(blended: Callable[[int], Blended]) -> None:
    made = blended(3)
    lists = {row["user_id"]: found(row["items"]) for row in made.lists}
    assert {user for user in lists if user < "u04"} == {"u00"}
    assert lists["u00"] == oracle(whole_day(), 0, SEGMENTS[0], made.config)
    assert made.figures["rung:features"] == 1.0
    assert made.figures["n_users"] == len(lists) == len(made.lists)


def test_blend_makes_the_fallback_for_everybody_without_any_list(spark: SparkSession, config: Config) -> None:
    day = random_day(random.Random(14)) | {"lists": [], "interactions": []}
    outputs, context = run(spark, config, make_inputs(spark, day))
    assert outputs["candidates"].collect() == []
    assert [(row["segment"], row["items"]) for row in outputs["fallback_candidates"].collect()] == [(None, [])]
    assert context.figures["n_users"] == 0


def test_blend_serves_a_log_of_one_event(spark: SparkSession, make_config) -> None:
    context = make_context(spark, make_config(TYPES_SET, 'sources.enabled=["popular","item_cf","als"]'))
    events = make_events(spark, [Event("u1", "i1", "buy", before(days=1))])
    tables = {"events": events, "items": make_items(spark, {}), "users": make_users(spark, {})}
    tables |= computed_tables(step_index.run(tables, context))
    tables |= step_interactions.run(tables, context)
    tables |= computed_tables({"interactions": tables["interactions"]})
    tables |= computed_tables({"user_features": step_features.run(tables, context)["user_features"]})
    for module in (step_item_cf, step_als):
        tables |= module.run(tables, context)
    tables |= computed_tables(step_retrieve.run(tables, context))
    outputs = staged(step_blend.run(tables, context), context)
    # The only user has bought the only item; whoever comes next is shown it.
    assert [(row["user_id"], row["items"]) for row in outputs["candidates"].collect()] == [("u1", [])]
    (row,) = outputs["fallback_candidates"].collect()
    assert (row["segment"], [item["item_id"] for item in row["items"]]) == (None, ["i1"])


def test_blend_says_in_blend_fits_how_each_variant_is_made(spark: SparkSession, make_config) -> None:
    """A list for many that no weight is given has none; a segment's popular list has that of everybody."""
    weights = "candidates.score_weights={als=0.5,'popular/global'=0.25}"
    variants = "candidates.variants={plain={share=0.2,method='rrf'}}"
    config = make_config(TYPES_SET, "candidates.k=7", "candidates.method=scores", weights, variants)
    inputs = make_inputs(spark, random_day(random.Random(15)))
    context = make_context(spark, config)
    outputs = staged(step_blend.run(inputs, context), context)
    fits = {row["variant"]: row for row in outputs["blend_fits"].collect()}
    assert [(fits[name]["method"], fits[name]["scaling"]) for name in ("main", "plain")] == [
        ("scores", "background"),
        ("rrf", None),
    ]
    found = {one["source"]: one["weight"] for one in fits["main"]["weights"]}
    own = {name: 1.0 for name in found if "/" not in name}
    assert found == dict.fromkeys(found, 0.0) | own | {"als": 0.5} | _popular(found)
    assert {one["weight"] for one in fits["plain"]["weights"]} == {1.0}
    assert outputs["candidates"].count() > 0


def _popular(found: dict[str, float]) -> dict[str, float]:
    return dict.fromkeys({"popular/global", "popular/segment"} & set(found), 0.25)


def test_blend_keeps_the_rules_of_the_date_in_every_list_and_says_which(spark: SparkSession, config: Config) -> None:
    day = random_day(random.Random(16))
    inputs, (blocked, pinned) = make_inputs(spark, day), (f"i{item:02d}" for item in day["shown"][:2])
    inputs["items"] = make_items(spark, {pinned: {"brand": "acme"}})
    rows = [
        {"rule_id": "recall", "kind": "block", "item_id": blocked},
        {"rule_id": "front", "kind": "pin", "item_id": pinned, "position": 1},
        {"rule_id": "ours", "kind": "boost", "brand": "acme", "factor": 2.0},
        {"rule_id": "ended", "kind": "block", "brand": "acme", "ends_at": before(days=1)},
        {"rule_id": "nothing", "kind": "block", "item_id": "nobody has it"},
    ]
    context = replace(make_context(spark, config), rules=parse_rules(rows, "test"))
    outputs = staged(step_blend.run(inputs, context), context)
    lists = [row["items"] for table in ("candidates", "fallback_candidates") for row in outputs[table].collect()]
    assert any(item == blocked for items in plain_lists(day, config).values() for item, _ in items), "but for the rule"
    assert all(item["item_id"] != blocked for items in lists for item in items)
    had = {f"u{user:02d}" for user, item, *_ in day["interactions"] if f"i{item:02d}" == pinned}
    firsts = {row["user_id"]: row["items"][0] for row in outputs["candidates"].collect() if row["items"]}
    assert {user for user, item in firsts.items() if item["item_id"] == pinned} == set(firsts) - had
    reasons = {one["source"] for user in set(firsts) - had for one in firsts[user]["sources"]}
    assert {"rule/front", "rule/ours"} <= reasons
    assert context.figures["n_rules"] == 4.0
    assert context.figures["n_rules_without_items"] == 1.0


def test_blend_diversifies_and_calibrates_lists_and_is_the_same_without(spark: SparkSession, make_config) -> None:
    day = random_day(random.Random(17))
    inputs = make_inputs(spark, day)
    kinds = {f"i{item:02d}": {"category": "even" if item % 2 == 0 else "odd"} for item in range(N_ITEMS)}
    inputs["items"] = make_items(spark, kinds)
    tastes = [(f"u{user:02d}", SEGMENTS[user % 3], [("even", 1.0)]) for user in range(N_USERS)]
    inputs["user_features"] = spark.createDataFrame(
        tastes, "user_id string, segment string, category_affinities array<struct<category: string, share: double>>"
    )
    inputs |= {name: frame(spark, name, []) for name in ("item_factors", "item_embeddings")}
    without = "candidates.variants={without={share=0.4,diversity={calibration_weight=0.0}}}"
    sets = (TYPES_SET, "candidates.k=7", 'sources.enabled=["popular"]')  # nothing proposes what nobody had
    calibrated = make_config(*sets, "candidates.diversity.calibration_weight=0.9", without)
    capped = make_config(*sets, "candidates.diversity.category_cap=2")

    def lists_by(config: Config) -> dict[str, dict[str, list[tuple]]]:
        lists: dict[str, dict[str, list[tuple]]] = defaultdict(dict)
        for row in run(spark, config, inputs)[0]["candidates"].collect():
            lists[row["variant"]][row["user_id"]] = found(row["items"])
        return lists

    def are_even(items: list[tuple]) -> list[bool]:
        return [kinds[item]["category"] == "even" for item, _ in items]

    plain, by_taste, capped_lists = plain_lists(day, capped), lists_by(calibrated), lists_by(capped)["main"]
    assert capped_lists.keys() == plain.keys()
    assert any(are_even(items).count(False) > 2 for items in plain.values())
    assert all(max(are_even(items).count(one) for one in (True, False)) <= 2 for items in capped_lists.values())
    assert by_taste.keys() == {"main", "without"}
    assert by_taste["without"] == {user: plain[user] for user in by_taste["without"]}
    n_even = sum(sum(are_even(items)) for items in by_taste["main"].values())
    assert n_even > sum(sum(are_even(plain[user])) for user in by_taste["main"])
    assert all(len(items) == len(plain[user]) for user, items in by_taste["main"].items())


def test_blend_makes_the_list_of_one_variant_for_each_user(spark: SparkSession, make_config) -> None:
    day, sets = random_day(random.Random(18)), (TYPES_SET, "candidates.k=7")
    alone, curious = "alone={share=0.4,source_weights={als=0.0}}", "curious={share=0.3,explore_share=0.5}"
    config = make_config(*sets, f"candidates.variants={{{alone},{curious}}}")
    outputs = run(spark, config, make_inputs(spark, day))[0]
    rows = outputs["candidates"].collect()
    lists = {row["user_id"]: (row["variant"], found(row["items"])) for row in rows}
    for name, settings_of in (("main", config), ("alone", make_config(*sets, "candidates.source_weights={als=0.0}"))):
        expected = plain_lists(day, settings_of)
        mine = {user: items for user, (variant, items) in lists.items() if variant == name}
        assert mine == {user: expected[user] for user in mine}
        assert not any(why[0][0] == "explore" for items in mine.values() for _, why in items)
    assert any(why[0][0] == "explore" for variant, items in lists.values() if variant == "curious" for _, why in items)
    assert {variant for variant, _ in lists.values()} == {"main", "alone", "curious"}
    methods = {row["variant"]: row["method"] for row in outputs["blend_fits"].collect()}
    assert methods == {"main": "rrf", "alone": "rrf", "curious": "rrf"}
    assert len(lists) == len(rows), "nobody has two"
    larger = spark.range(20_000).select(F.col("id").cast("string").alias("user_id"))
    counts = larger.groupBy(variant_of(config.candidates).alias("variant")).count().collect()
    shares = {row["variant"]: row["count"] / 20_000 for row in counts}
    assert shares == pytest.approx({"main": 0.3, "alone": 0.4, "curious": 0.3}, abs=0.015)


def test_blend_explores_new_items_in_a_share_of_the_places(spark: SparkSession, make_config) -> None:
    day = random_day(random.Random(20))
    inputs, old = make_inputs(spark, day), day["shown"][:20]
    created = {f"i{item:02d}": {"created_at": before(days=300)} for item in old}
    inputs["items"] = make_items(spark, created)
    sets = (TYPES_SET, "candidates.k=6")
    outputs, context = run(spark, make_config(*sets, "candidates.explore.share=0.34"), inputs)
    plain = plain_lists(day, make_config(*sets))
    fresh = {f"i{item:02d}" for item in day["shown"][20:]}
    n_explored = 0
    for row in outputs["candidates"].collect():
        items = found(row["items"])
        explored = [item for item, why in items if why and why[0][0] == "explore"]
        assert set(explored) <= fresh
        kept = [item for item in items if item[0] not in explored]
        assert kept == plain[row["user_id"]][: len(kept)], "the others keep their order"
        n_explored += len(explored)
    assert n_explored > 0
    assert context.figures["n_fresh"] == context.figures["n_fresh_explored"] == len(fresh)
    assert context.figures["share_explored"] == n_explored / context.figures["n_candidates"]
    reasons = {
        one["source"]
        for row in outputs["fallback_candidates"].collect()
        for item in row["items"]
        for one in item["sources"]
    }
    assert "explore" not in reasons
