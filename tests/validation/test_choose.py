"""Settings and blends that find what is planted are chosen; what is useless leaves; what a person set stays."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.config import Config
from recsys_spark.errors import KernelError
from recsys_spark.validation import choose as module
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_alone
from recsys_spark.validation.choose import Chosen, choose
from recsys_spark.validation.fits import Trial, TrialLog, fit_trial
from recsys_spark.validation.grid import Grid, Stage
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


def test_a_stage_is_laid_over_as_many_of_the_best_as_it_says(make_config: Callable[..., Config]) -> None:
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=8")
    found = chosen_by([grouped_log()], config)
    of_als = [one for one in found.tried if one.kind == "als"]
    first = [one for one in of_als if "als.factors" not in one.settings]
    longer = [one for one in of_als if one.settings.get("als.factors") == 16]
    assert len(longer) == 2
    best = sorted(first, key=lambda one: -one.recall.mean())
    assert {tuple(sorted((one.settings | {"als.factors": 16}).items())) for one in best[:2]} == {
        tuple(sorted(one.settings.items())) for one in longer
    }


def test_a_stage_that_follows_is_tried_only_where_the_one_before_found_more(make_config: Callable[..., Config]) -> None:
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=1")
    longer = Stage([{"als.factors": 8}]), Stage([{"als.factors": 16}], follows=True)
    worse = Stage([{"als.regularization": 100.0}]), Stage([{"als.factors": 16}], follows=True)
    ridge = [{"als.alpha": 20.0, "als.regularization": 0.05, "als.unobserved": 0.0}]
    for stages, is_tried in ((longer, True), (worse, False)):
        auto = frozenset(config.validation.auto)
        found = choose([grouped_log()], config, auto, {}, lambda _: None, Grid({"als": ridge}, {"als": stages}))
        assert any(one.settings.get("als.factors") == 16 for one in found.tried) == is_tried


def test_what_comes_to_the_same_settings_is_tried_once(make_config: Callable[..., Config]) -> None:
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=4")
    first, stages = ({"als.factors": 4}, {"als.factors": 8}), (Stage([{"als.factors": 8}, {"als.factors": 6}]),)
    auto = frozenset(config.validation.auto)
    found = choose([grouped_log()], config, auto, {}, lambda _: None, Grid({"als": first}, {"als": stages}))
    assert [one.settings for one in found.tried if one.kind == "als"] == [{}, {"als.factors": 8}, {"als.factors": 6}]


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


@pytest.mark.parametrize("gain", [0.2, 0.0])
def test_another_kind_is_chosen_where_the_blend_gains_by_it(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    kinds = ["jaccard", "cosine", "rp3beta"]
    grid = Grid(
        GRID.first | {"item_cf": [{"item_cf.similarity": kind} for kind in kinds]},
        {"item_cf": (Stage([{"sources.item_cf.half_life_days": 0.0}]),)},
        {"item_cf": "item_cf.similarity"},
    )

    def beside(folds: object, trials: dict[str, object], fitted: list[object]) -> list[np.ndarray]:
        assert list(trials) == ["als"]
        assert len(fitted) == len(kinds)
        return [np.full(60, 0.5), np.full(60, 0.5 + gain / 2), np.full(60, 0.5 + gain)]

    monkeypatch.setattr(module, "recalls_beside", beside)
    config = make_config(*SETS, "candidates.method=auto")
    found = choose([grouped_log(3)], config, frozenset(config.validation.auto), {}, lambda _: None, grid)
    alone = [one for one in found.tried if one.kind == "item_cf"]
    rivals = [one for one in found.tried if one.kind == "item_cf, beside the others"]
    (chosen,) = [one for one in [*alone, *rivals] if one.chosen]
    best = max(alone, key=lambda one: one.recall.mean())
    assert rivals[0].settings == best.settings
    assert chosen is (rivals[2] if gain else next(one for one in alone if one.chosen))
    assert {name: found.settings.get(name) for name in chosen.settings} == dict(chosen.settings)
    assert len({one.settings.get("item_cf.similarity", "jaccard") for one in rivals}) == len(kinds)
