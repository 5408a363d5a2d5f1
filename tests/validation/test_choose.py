"""Settings and blends that find what is planted are chosen; what is useless leaves; what a person set stays."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import KernelError
from recsys_spark.validation import search as module
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_alone
from recsys_spark.validation.choose import Chosen, choose
from recsys_spark.validation.fits import Trial, TrialLog, fit_trial
from recsys_spark.validation.grid import Grid, Stage
from recsys_spark.validation.tried import Earlier
from tests.trial_world import grouped_log

SETS = ('sources.enabled=["popular","item_cf","als"]', "als.factors=8")


RIDGES = ((20.0, 0.05), (0.001, 100.0))  # the second leaves nothing of any factor
GRID = Grid(
    {
        "item_cf": [{"item_cf.similarity": "cosine", "item_cf.min_co_occurrence": least} for least in (1, 3)],
        "als": [{"als.alpha": alpha, "als.regularization": ridge, "als.unobserved": 0.0} for alpha, ridge in RIDGES],
    },
    {"als": (Stage([{"als.half_life_days": days} for days in (0.0, 180.0)]), Stage([{"als.factors": 16}], n_best=2))},
)


def chosen_by(judged: list[Judged], config: Config) -> Chosen:
    auto = frozenset(config.validation.auto)
    return choose(judged, config, auto, {}, lambda _: None, GRID)


def test_what_finds_most_is_chosen_and_every_trial_is_told(make_config: Callable[..., Config]) -> None:
    config = make_config(*SETS, "candidates.method=auto")
    young = replace(grouped_log(4), shared={})  # of which nothing was popular yet
    found = chosen_by([grouped_log(3), young], config)
    assert found.settings["als.alpha"] == 20.0
    assert "als.factors" not in found.settings
    assert found.settings["candidates.method"] == "scores"
    weights = found.settings["candidates.score_weights"]
    assert set(weights) == {"item_cf", "als", "popular/global"}
    assert max(weights.values()) == 1
    assert weights["popular/global"] < 0.2
    of_als = [one for one in found.tried if one.kind == "als"]
    best = max(of_als, key=lambda one: one.recall.mean())
    assert [one.name for one in of_als if one.chosen] == [best.name]
    assert all(len(one.recall) == 120 for one in of_als)  # half of the users of both folds
    ways = {one.name: one for one in found.tried if one.kind == "blend"}
    assert set(ways) >= {"rrf", "item_cf", "als", "popular/global"}
    assert sum(one.chosen for one in ways.values()) == 1


def test_a_setting_that_a_person_wrote_stays(make_config: Callable[..., Config]) -> None:
    config = make_config(*SETS, "als.alpha=3.0", "als.regularization=0.5", "candidates.method=rrf")
    found = chosen_by([grouped_log()], config)
    assert not {"als.alpha", "als.regularization", "candidates.method"} & set(found.settings)
    assert not [one for one in found.tried if one.kind == "blend"]


def test_sources_that_spark_fitted_are_weighed_too(make_config: Callable[..., Config]) -> None:
    judged = grouped_log()
    config = make_config('sources.enabled=["popular","item_cf","als"]', "als.factors=8")
    trial = fit_trial("item_cf", judged.log, config)
    found = choose(
        [judged],
        make_config('sources.enabled=["popular","content"]'),
        frozenset(["candidates.method"]),
        {"content": [trial]},
        lambda _: None,
        GRID,
    )
    assert found.settings["candidates.score_weights"]["content"] == 1
    (alone,) = [one for one in found.tried if one.kind == "blend" and one.name == "content"]
    assert alone.recall.mean() > recall_alone(judged, trial, judged.part(SETTINGS)).mean() - 0.3


def test_factors_of_one_order_for_all_are_not_chosen_though_they_find_more(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is fitted with the weak ridge is said to have collapsed."""

    def spoiled(source: str, log: TrialLog, config: Config) -> Trial | None:
        trial = fit_trial(source, log, config)
        assert trial is not None
        return replace(trial, has_collapsed=config.als.regularization == 0.05)

    monkeypatch.setattr(module, "fit_trial", spoiled)
    config = make_config('sources.enabled=["als"]', "als.factors=8", "candidates.method=rrf")
    found = chosen_by([grouped_log()], config)
    of_als = [one for one in found.tried if one.kind == "als"]
    (chosen,) = [one for one in of_als if one.chosen]
    assert chosen.settings.get("als.regularization") != 0.05


def test_what_an_earlier_run_chose_stays_unless_something_gains_on_it(make_config: Callable[..., Config]) -> None:
    config = make_config(*SETS, "candidates.method=auto")
    first = chosen_by([grouped_log(3)], config)

    def again(**changes: object) -> tuple[Chosen, str]:
        settings = first.settings | {name.replace("__", "."): value for name, value in changes.items()}
        before = Earlier(settings, frozenset(["item_cf", "als"]), frozenset())
        auto = frozenset(config.validation.auto)
        found = choose([grouped_log(3)], config, auto, {}, lambda _: None, GRID, before)
        return found, next(one.name for one in found.tried if one.kind == "blend" and one.chosen)

    weights = {"item_cf": 0.97, "als": 1.0}  # nothing is said of popular/global
    found, way = again(als__alpha=20.001, candidates__score_weights=weights)
    assert (found.settings["als.alpha"], way) == (20.001, "as before: scores")
    assert found.settings["candidates.score_weights"] == weights | {"popular/global": 0.0}
    assert [one.why != "" for one in found.tried if one.kind == "als" and one.chosen] == [True]
    found, way = again(als__regularization=100.0, candidates__score_weights={"als": 0.001, "popular/global": 1.0})
    assert found.settings["als.regularization"] == 0.05
    assert "as before" not in way


def test_what_stages_gain_on_an_earlier_choice_is_taken(make_config: Callable[..., Config]) -> None:
    """Each of 2, 4 factors finds more than those before; an earlier run had come to the first of them."""
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=1")
    ridge = [{"als.alpha": 20.0, "als.regularization": 0.05, "als.unobserved": 0.0}]
    longer = Stage([{"als.factors": 2}]), Stage([{"als.factors": 4}], follows=True)
    auto = frozenset(config.validation.auto)
    for before in (None, Earlier(ridge[0] | {"als.factors": 2}, frozenset(["als"]), frozenset())):
        grid = Grid({"als": ridge}, {"als": longer})
        found = choose([grouped_log()], config, auto, {}, lambda _: None, grid, before)
        assert found.settings["als.factors"] == 4


def test_what_cannot_be_fitted_is_none_to_choose_and_what_is_not_tried_is_told(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(source: str, log: TrialLog, config: Config) -> Trial | None:
        if config.als.factors == 6:
            raise KernelError("als: expected a ridge above 0")
        return fit_trial(source, log, config)

    monkeypatch.setattr(module, "fit_trial", fit)
    sources = 'sources.enabled=["als","two_tower"]'
    config = make_config(sources, "candidates.method=rrf", "validation.fallback.als.factors=4")
    auto, grid = frozenset(config.validation.auto), Grid({"als": ({"als.factors": 6}, {"als.factors": 8})}, {})
    found = choose([grouped_log()], config, auto, {}, lambda _: None, grid)
    assert [one.settings for one in found.tried if one.kind == "als"] == [{}, {"als.factors": 8}]
    assert [one.name for one in found.tried if one.kind == "two_tower"] == ["not tried"]
