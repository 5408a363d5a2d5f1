"""The bundle that is current, judged on what came after it: by hand on a small log, and where nothing can be judged."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.evaluation import step_hindsight
from recsys_spark.features.declared import declared_tables
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.spark_check import check_schema, spark_schema
from recsys_spark.warehouse.tables import QUALITY, TABLES
from tests.engagement import CUTOFF, DAY, Event, make_context, make_events, make_items, make_users, run_steps
from tests.local_frame import computed, local_frame
from tests.staged_lists import list_rows

SHOP_TYPES = 'events.types={purchase={role="engage",weight=1.0},show={role="impression"}}'

Judged = tuple[dict[str, DataFrame], dict[str, float]]
Judge = Callable[..., Judged]

HEAD = PublishRow(7, "publish", "20250301-001-9f2c81aa", DAY, 6, (), "", "", 48, datetime(2025, 3, 1, tzinfo=UTC), "")
TODAY = DAY + timedelta(days=7)
LATER = DAY + timedelta(days=25)
ITEMS = [f"item-{at}" for at in range(5)]


def _frame(spark: SparkSession, name: str, rows: list[dict]) -> DataFrame:
    return local_frame(spark, rows, spark_schema(declared_tables().get(name) or TABLES[name], without=("run_id",)))


@pytest.fixture(scope="module")
def inputs(spark: SparkSession) -> dict[str, DataFrame]:
    """Ten users had one of two items each; after the date all but one get an item that their list has second."""
    before = [Event(f"u{at}", ITEMS[at % 2], "purchase", CUTOFF - timedelta(days=3)) for at in range(10)]
    before += [Event(f"u{at}", "item-2", "purchase", CUTOFF - timedelta(days=2)) for at in range(2)]
    after = [Event(f"u{at}", "item-3" if at else "item-4", "purchase", CUTOFF + timedelta(days=2)) for at in range(10)]
    late = [Event(f"u{at}", "item-4", "purchase", CUTOFF + timedelta(days=20)) for at in range(10)]
    old = [Event("w", item, "purchase", CUTOFF - timedelta(days=20)) for item in ("item-3", "item-4")]
    frames = {
        "events": make_events(spark, [*old, *before]),
        "items": make_items(spark, {}),
        "users": make_users(spark, {}),
    }
    made = run_steps(frames, make_context(spark, load_config()))
    lists = {f"u{at}": [("item-2", 1, 1.0), ("item-3", 2, 0.5)] for at in range(10)}
    current = {name: made[name] for name in ("interactions", "user_index", "item_index", "user_features")}
    current["item_features"] = _frame(spark, "item_features", [])
    current["candidates"] = _frame(spark, "candidates", list_rows(lists))
    current["fallback_candidates"] = _frame(spark, "fallback_candidates", list_rows({"": [("item-0", 1, 1.0)]}))
    return {"events": make_events(spark, [*old, *before, *after, *late]), "items": frames["items"]} | {
        f"current_{name}": one for name, one in current.items()
    }


@pytest.fixture(scope="module")
def with_impressions(spark: SparkSession, inputs: dict[str, DataFrame]) -> dict[str, DataFrame]:
    """Each user was shown the second of their list before nine of them engaged with it, and the first; u0 was not."""
    shown = [Event(f"u{at}", item, "show", CUTOFF + timedelta(days=1)) for at in range(1, 10) for item in ITEMS[2:4]]
    showings = make_events(spark, shown, position=1, propensity=0.5)
    return {**inputs, "events": computed(inputs["events"].unionByName(showings))}


@pytest.fixture(scope="module")
def judge(spark: SparkSession) -> Judge:
    """What the step makes of tables on a day, and its figures."""

    def run(inputs: dict[str, DataFrame], *sets: str, current: PublishRow | None = HEAD, day: date = TODAY) -> Judged:
        context = Context(load_config(sets=sets), day, "20250308-001-9f2c81aa", 1, spark, current=current)
        known = {name: one for name, one in inputs.items() if current is not None or not name.startswith("current_")}
        known["events"] = computed(known["events"].where(f"ds < DATE '{day}'"))
        outputs = {name: computed(one) for name, one in step_hindsight.run(known, context).items()}
        spark.catalog.clearCache()
        return outputs, context.figures

    return run


@pytest.fixture(scope="module")
def week(judge: Judge, with_impressions: dict[str, DataFrame]) -> Judged:
    """The bundle watched for a week, judged some weeks later."""
    return judge(with_impressions, SHOP_TYPES, "hindsight.window_days=7", day=LATER)


def test_lists_are_judged_on_what_their_users_did_since(week: Judged) -> None:
    quality, figures = week[0]["quality"], week[1]
    check_schema(quality, QUALITY, without=("run_id",))
    rows = {(row["list"], row["users_or_items"], row["metric"], row["k"]): row for row in quality.collect()}
    recall = rows["published", "all", "recall", 20]
    assert (recall["n_users"], recall["estimate"]) == (10, pytest.approx(0.9))
    assert recall["low"] < 0.9 < recall["high"]
    assert (recall["judged_run_id"], recall["judged_from"], recall["judged_to"]) == (HEAD.run_id, DAY, TODAY)
    # Popularity has all that may be shown, less what a user had: it finds everything.
    assert rows["most engaged in 28 days", "all", "recall", 20]["estimate"] == pytest.approx(1.0)
    assert recall["over_popular"] == pytest.approx(-0.1)
    assert recall["over_popular_low"] <= -0.1 <= recall["over_popular_high"]
    assert rows["published", "all", "mrr", 20]["estimate"] == pytest.approx(0.45)
    coverage = rows["published", "all", "coverage", 20]
    assert (coverage["estimate"], coverage["low"]) == (pytest.approx(0.4), None)
    expected = {"against_publish_seq": 7.0, "n_users": 10.0, "recall": 0.9, "popular": 1.0, "k": 20.0, "coverage": 0.4}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_a_window_ends_what_is_watched(week: Judged) -> None:
    assert week[1]["recall"] == pytest.approx(0.9)
    assert week[1]["window_days"] == 7
    assert {row["judged_to"] for row in week[0]["quality"].collect()} == {TODAY}


def test_what_was_shown_is_judged_by_what_followed(week: Judged) -> None:
    outputs, _ = week
    assert outputs["ranking_examples"].collect() == []
    found = [row for row in outputs["quality"].collect() if row["k"] == 0]
    rows = {(row["users_or_items"], row["metric"]): row for row in found}
    assert rows["all", "ctr"]["estimate"] == pytest.approx(9 / 18)
    assert rows["all", "ctr"]["n_users"] == 18
    assert rows["all", "conversion"]["estimate"] == pytest.approx(1.0)
    assert rows["all", "value"]["estimate"] == pytest.approx(1.0)
    assert rows["all", "ctr_ips"]["estimate"] == pytest.approx(0.5)
    assert rows["all", "ctr"]["low"] <= 0.5 <= rows["all", "ctr"]["high"]
    assert {group for group, _ in rows} == {"all"}, "there are no experiments"


def test_a_longer_watch_sees_more(judge: Judge, inputs: dict[str, DataFrame]) -> None:
    outputs, figures = judge(inputs, day=LATER)
    assert figures["recall"] == pytest.approx(9 * 0.5 / 10)
    quality = outputs["quality"].collect()
    assert {row["judged_to"] for row in quality} == {LATER}, "within the window of the defaults"
    assert not [row for row in quality if row["k"] == 0], "nothing is judged by showings that are not configured"


@pytest.mark.parametrize(
    ("sets", "current", "day"),
    [((), None, TODAY), (("hindsight.window_days=0",), HEAD, TODAY), ((), HEAD, DAY)],
    ids=["nothing published", "off", "the same date"],
)
def test_nothing_is_judged_where_nothing_can_be(
    judge: Judge, inputs: dict[str, DataFrame], sets: tuple[str, ...], current: PublishRow | None, day: date
) -> None:
    outputs, figures = judge(inputs, *sets, current=current, day=day)
    assert outputs["quality"].collect() == []
    assert figures == {"against_publish_seq": 7.0 if current else 0.0}


def test_a_bundle_that_cannot_be_judged_keeps_nothing_back(
    judge: Judge, inputs: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_spark.evaluation.protocol.MAX_ID_BYTES", 1)
    outputs, figures = judge(inputs)
    assert outputs["quality"].collect() == []
    assert figures == {"against_publish_seq": 7.0, "window_days": 7.0, "failed": 1.0}


def test_a_window_in_which_nobody_did_anything_has_no_headline(judge: Judge, inputs: dict[str, DataFrame]) -> None:
    outputs, figures = judge(inputs, day=DAY + timedelta(days=1))
    assert figures["n_users"] == 0
    assert "recall" not in figures
    assert {row["metric"] for row in outputs["quality"].collect()} <= {"coverage", "gini"}


def test_examples_are_kept_if_asked_for(judge: Judge, with_impressions: dict[str, DataFrame]) -> None:
    sets = ("hindsight.ranking_examples=true", "hindsight.window_days=0", "hindsight.drawn_examples=0")
    outputs, figures = judge(with_impressions, SHOP_TYPES, *sets)
    check_schema(outputs["ranking_examples"], declared_tables()["ranking_examples"], without=("run_id",))
    rows = {(row["user_id"], row["item_id"]): row for row in outputs["ranking_examples"].collect()}
    assert len(rows) == 18
    assert all(row["label"] == (item == "item-3") for (_, item), row in rows.items())
    assert rows["u1", "item-3"]["user_recent_items"][0] in ITEMS, "features are those of the bundle"
    assert {name: figures[name] for name in ("n_examples", "n_examples_engaged", "n_examples_drawn")} == {
        "n_examples": 18.0,
        "n_examples_engaged": 9.0,
        "n_examples_drawn": 0.0,
    }
    assert outputs["quality"].collect() == []
