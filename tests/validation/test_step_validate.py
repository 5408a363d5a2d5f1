"""Choices are made of what was held out, stored, reused while they hold, and laid over the settings of later steps."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.validation import step_validate
from recsys_spark.validation.grid import Grid
from recsys_spark.warehouse.spark_check import check_schema
from recsys_spark.warehouse.tables import CHOICES
from tests.engagement import CUTOFF, DAY, Event, make_context, make_items
from tests.indexed_log import indexed_log
from tests.local_frame import computed

N_USERS, N_ITEMS = 60, 60
FIGURES: dict[str, float] = {}  # of the step interactions
SETS = (
    "events.types={buy={}}",
    "validation.min_users=20",
    'validation.fallback.sources.enabled=["popular","item_cf","als"]',
    "candidates.available_within_days=0",
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The figures of the step interactions, the first day of the log, and a grid of two trials."""
    FIGURES.update(n_interactions=300.0, n_users=float(N_USERS))
    monkeypatch.setattr(step_validate, "days_with_rows", lambda *_: [DAY - timedelta(days=100)])
    ridges = [{"als.factors": 8, "als.alpha": 20.0, "als.regularization": 0.05}, {"als.alpha": 0.001}]
    grid = Grid({"item_cf": [{"item_cf.similarity": "cosine"}], "als": ridges}, {})
    monkeypatch.setattr(step_validate, "USUAL", grid)
    return FIGURES


@pytest.fixture(scope="module")
def log() -> list[Event]:
    """Users of three groups buy what is of their own, a part of it in the last days."""
    rng = np.random.default_rng(6)
    found = []
    for user in range(N_USERS):
        own = rng.permutation(np.arange(user % 3, N_ITEMS, 3))
        ages = [*rng.integers(40, 100, 5).tolist(), *rng.integers(1, 19, 2).tolist()]
        found += [
            Event(f"u{user:02}", f"i{item:02}", "buy", CUTOFF - timedelta(days=age, hours=-1))
            for item, age in zip(own.tolist(), ages, strict=False)
        ]
    return found


def choices_of(
    context: Context, log: list[Event], base: DataFrame | None = None
) -> tuple[list[dict[str, Any]], DataFrame]:
    tables = indexed_log(context, log)
    tables["items"] = make_items(context.spark, {})
    tables |= {"base_choices": base} if base is not None else {}
    frame = step_validate.run(tables, context)["choices"]
    check_schema(frame, CHOICES, without=("run_id",))
    return [row.asDict() for row in frame.collect()], frame


def settings_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = [row for row in rows if row["kind"] == "settings"]
    return dict(json.loads(row["settings"]))


def test_choices_are_made_stored_and_reused(
    spark: SparkSession,
    make_config: Callable[..., Config],
    log: list[Event],
    known: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = make_context(spark, make_config(*SETS), done={"interactions": {"figures": FIGURES}})
    rows, frame = choices_of(context, log)
    chosen = settings_of(rows)
    assert chosen["als.regularization"] == 0.05
    assert chosen["candidates.method"] in ("scores", "rrf")
    assert {row["held_out"] for row in rows} == {"20 days from 2025-02-09, 2025-01-20, 2024-12-31 on"}
    assert {row["kind"] for row in rows} >= {"item_cf", "als", "popular/global", "blend", "settings"}
    (of_als,) = [row for row in rows if row["kind"] == "als" and row["chosen"]]
    assert 0 <= of_als["low"] < of_als["recall"] < of_als["high"] <= 1.2
    assert context.figures["n_folds"] == 3
    assert context.figures["n_judged"] > 20
    base = computed(frame)
    # Six days later they are as they were, whatever happened since; a week later they are made anew.
    later = replace(context, day=DAY + timedelta(days=6), figures={})
    again, _ = choices_of(later, log, base)
    assert sorted(again, key=str) == sorted(rows, key=str)
    assert later.figures == {"n_trials": 0.0, "age_days": 6.0}
    with monkeypatch.context() as patch:  # a catalogue that has grown past what its vectors may be
        patch.setattr(
            step_validate, "bounded_settings", lambda config, n_items: {"als.factors": config.als.factors - 1}
        )
        assert not step_validate._fits(again, {"item_index": base}, later.config)
    for changed, setting in (
        (replace(context, day=DAY + timedelta(days=7), figures={}), ""),
        (replace(context, figures={}), "grown"),
        (replace(context, config=make_config(*SETS, "candidates.rrf_k=7"), figures={}), ""),
    ):
        known["n_interactions"] = 460.0 if setting else 300.0
        anew, _ = choices_of(changed, log, base)
        assert changed.figures["n_trials"] > 0
        assert {row["made_on"] for row in anew} == {changed.day}
        stood = any(row["name"].startswith("as before: ") for row in anew)  # what was chosen stands against what is new
        assert stood == (changed.config == context.config)
    # Who wants choices anew at once says so for one run; those stay for the next.
    at_once = make_config(*SETS, "validation.every_days=1")
    assert step_validate._hash(at_once) == step_validate._hash(context.config)
    tomorrow = replace(context, day=DAY + timedelta(days=1), config=at_once)
    assert not step_validate._still_holds(rows, tomorrow, 300)
    assert step_validate._still_holds(rows, replace(tomorrow, config=context.config), 300)


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (("validation.min_users=61",), "60 users to judge by, [validation] min_users is 61"),
        (("validation.min_users=60",), r"users to judge by, [validation] min_users is 60"),
        (("validation.every_days=0",), "[validation] every_days is 0"),
    ],
)
def test_where_nothing_can_be_chosen_the_fallbacks_hold_and_it_says_why(
    spark: SparkSession, make_config: Callable[..., Config], log: list[Event], sets: tuple[str, ...], why: str
) -> None:
    context = make_context(spark, make_config(*SETS, *sets), done={"interactions": {"figures": FIGURES}})
    rows, frame = choices_of(context, log[: 7 * 10])
    assert settings_of(rows) == {}
    (row,) = rows
    assert why in row["why"]
    assert context.figures["n_trials"] == 0
    # Such a day is no reason not to try the next.
    assert step_validate._earlier({"base_choices": frame}, row["config_hash"]) == []


def test_a_source_that_only_spark_fits_is_weighed_as_it_is_configured(
    spark: SparkSession, make_config: Callable[..., Config], log: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near users are found by Spark; a source that needs a table of a later step is not tried.

    The first user of all has done nothing before the last days, so that no small run has them.
    """
    log = [Event("a", "i00", "buy", CUTOFF - timedelta(days=2)), *log]
    enabled = 'sources.enabled=["item_cf","user_cf","two_tower"]'
    context = make_context(spark, make_config(*SETS, enabled), done={"interactions": {"figures": FIGURES}})
    rows, _ = choices_of(context, log)
    ways = {row["name"]: row["recall"] for row in rows if row["kind"] == "blend"}
    assert ways["user_cf"] > 0.8 * ways["item_cf"] > 0.1  # near users are of the user's own group
    assert "two_tower" not in ways
    weights = settings_of(rows).get("candidates.score_weights")
    assert weights is None or set(weights) == {"item_cf", "user_cf", "two_tower"}
