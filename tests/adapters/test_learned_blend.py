"""Weights are learnt from what followed earlier runs, if there is enough of it, and as a plain loop would have it."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark.adapters.blend_scopes import Settings
from recsys_spark.adapters.learned_blend import Fit, Lesson, PastRun, _choices, fit_learned
from recsys_spark.config import Config
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.spark import spark_schema
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events, make_items

N_USERS, N_ITEMS = 240, 40
SINCE = CUTOFF - timedelta(days=7)
SETTINGS = Settings(("als", "top"), (1.0, 1.0), 60, 10)


def frame(spark: SparkSession, table: str, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, spark_schema(TABLES[table], without=("run_id",)))


def own_items(user: int) -> list[int]:
    """The list of `als` for a user: ten items from a place of their own on."""
    return [(7 * user + at) % N_ITEMS for at in range(10)]


def ranked(items: list[int]) -> list[Row]:
    return [Row(item_idx=item, rank=at + 1, score=20.0 - at) for at, item in enumerate(items)]


@pytest.fixture(scope="module")
def past(spark: SparkSession) -> PastRun:
    """A run a week ago, whose users had item 0."""
    lists = [("als", user, None, ranked(own_items(user))) for user in range(N_USERS)]
    lists += [("top", None, None, ranked(list(range(N_ITEMS))))]
    interactions = [(user, 0, 1.0, SINCE - timedelta(days=1), 1, None) for user in range(N_USERS)]
    features = [(f"u{user:03d}", None, []) for user in range(N_USERS)]
    tables = {
        "source_candidates": frame(spark, "source_candidates", [(*row, None, None, None) for row in lists]),
        "interactions": frame(spark, "interactions", interactions),
        "user_index": frame(spark, "user_index", [(user, f"u{user:03d}") for user in range(N_USERS)]),
        "item_index": frame(spark, "item_index", [(item, f"i{item:02d}") for item in range(N_ITEMS)]),
        "user_features": frame(spark, "user_features", features),
    }
    return PastRun("a", SINCE, {name: rows.persist() for name, rows in tables.items()})


def events_of(spark: SparkSession, chosen: Callable[[int], list[int]], n_users: int = N_USERS) -> dict[str, DataFrame]:
    """Everything was sold before the run; then, from its date on, users engage with what is chosen for them."""
    sold = [Event(None, f"i{item:02d}", "buy", SINCE - timedelta(days=1)) for item in range(N_ITEMS)]
    followed = [
        Event(f"u{user:03d}", f"i{item:02d}", "buy", SINCE + timedelta(hours=user % 100))
        for user in range(n_users)
        for item in chosen(user)
    ]
    later = [Event("u000", "i02", "buy", CUTOFF)]  # proposed, and not known yet
    return {"events": make_events(spark, [*sold, *followed, *later]), "items": make_items(spark, {})}


@pytest.fixture
def lesson(make_config: Callable[..., Config]) -> Callable[..., Lesson]:
    def make(*sets: str) -> Lesson:
        config = make_config(TYPES_SET, "candidates.learn_runs=1", "candidates.learn_depth=3", *sets)
        return Lesson(config, SETTINGS, CUTOFF, 5)

    return make


def both(user: int) -> list[int]:
    """Mostly the second of the own list, for every fourth user the first of all."""
    return [1] if user % 4 == 0 else [own_items(user)[1]]


def test_choices_are_what_was_proposed_and_what_followed(
    spark: SparkSession, past: PastRun, lesson: Callable[..., Lesson]
) -> None:
    choices = _choices(past, events_of(spark, both), lesson())
    for user in range(N_USERS):
        mine = [item for item in own_items(user) if item != 0][:3]
        pool = sorted({*mine, 1, 2, 3})
        rows = slice(choices.indptr[user], choices.indptr[user + 1])
        assert choices.chosen[rows].tolist() == [item in both(user) for item in pool]
        whole = [
            item for item in own_items(user) if item != 0
        ]  # what a list says of an item beyond its first three too
        first = np.array([1 / np.log2(whole.index(item) + 2) if item in whole else 0.0 for item in pool])
        np.testing.assert_allclose(choices.said[rows, 0, 0], first, rtol=1e-6)
        top = [1 / np.log2(item + 2) for item in pool]  # ranks of the whole list, item 0 first
        np.testing.assert_allclose(choices.said[rows, 1, 0], top, rtol=1e-6)


def test_fit_learned_weighs_both_lists(spark: SparkSession, past: PastRun, lesson: Callable[..., Lesson]) -> None:
    def mixed(user: int) -> list[int]:
        return [own_items(user)[1]] if user % 2 == 0 else [1 + user // 2 % 10]

    fit = fit_learned([past], events_of(spark, mixed), lesson("candidates.learn_depth=10"))
    assert (fit.method, fit.run_ids) == ("learned", ("a",)), fit.why
    assert fit.weights is not None
    assert (fit.weights.sum(axis=1) > 0.5).all()
    again = fit_learned([past], events_of(spark, mixed), lesson("candidates.learn_depth=10"))
    np.testing.assert_array_equal(again.weights, fit.weights)


def test_fit_learned_lets_one_list_decide_that_finds_more_alone(
    spark: SparkSession, past: PastRun, lesson: Callable[..., Lesson], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "recsys_spark.adapters.learned_blend.fit_weights", lambda choices, ridge: np.array([[0.0, 0.0], [1.0, 0.0]])
    )
    fit = fit_learned([past], events_of(spark, lambda user: [own_items(user)[0]]), lesson())
    assert fit.method == "als"
    assert fit.why.startswith("all lists together find -")
    assert fit.why.endswith("more than als alone, which is not sure")
    assert fit.weights is not None
    # The other list orders what als says nothing of.
    np.testing.assert_allclose(fit.weights, [[1.0, 0.0], [0.0, 0.0]], atol=2e-6)
    assert fit.weights[1, 0] > 0


@pytest.mark.parametrize(
    ("runs", "n_users", "why"),
    [(0, N_USERS, "0 runs of earlier dates, learn_runs is 1"), (1, 80, "78 users chose what was proposed, fewer than")],
)
def test_fit_learned_is_rrf_and_says_so_without_enough_to_learn_from(
    spark: SparkSession, past: PastRun, lesson: Callable[..., Lesson], runs: int, n_users: int, why: str
) -> None:
    fit: Fit = fit_learned([past] * runs, events_of(spark, lambda user: [own_items(user)[1]], n_users), lesson())
    assert (fit.method, fit.weights) == ("rrf", None)
    assert fit.why.startswith(why)


def test_fit_learned_draws_no_more_users_than_it_may(
    spark: SparkSession, past: PastRun, lesson: Callable[..., Lesson]
) -> None:
    fit = fit_learned([past], events_of(spark, both), lesson("candidates.learn_users=150"))
    assert 100 <= fit.n_users <= 150
    assert before(days=7) == SINCE
