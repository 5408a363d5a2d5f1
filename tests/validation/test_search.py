"""Settings are searched stage by stage, what comes to the same once, and kinds beside the other sources."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys_spark.config import Config
from recsys_spark.validation import search as module
from recsys_spark.validation.choose import choose
from recsys_spark.validation.grid import Grid, Stage
from recsys_spark.validation.tried import Chosen
from tests.trial_world import grouped_log

RIDGES = ((20.0, 0.05), (0.001, 100.0))  # the second leaves nothing of any factor
OF_ALS = [{"als.alpha": alpha, "als.regularization": ridge, "als.unobserved": 0.0} for alpha, ridge in RIDGES]


def chosen_by(config: Config, grid: Grid) -> Chosen:
    return choose([grouped_log()], config, frozenset(config.validation.auto), {}, lambda _: None, grid)


def test_a_stage_is_laid_over_as_many_of_the_best_as_it_says(make_config: Callable[..., Config]) -> None:
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=8")
    stages = Stage([{"als.half_life_days": days} for days in (0.0, 180.0)]), Stage([{"als.factors": 16}], n_best=2)
    found = chosen_by(config, Grid({"als": OF_ALS}, {"als": stages}))
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
    for stages, is_tried in ((longer, True), (worse, False)):
        found = chosen_by(config, Grid({"als": OF_ALS[:1]}, {"als": stages}))
        assert any(one.settings.get("als.factors") == 16 for one in found.tried) == is_tried


def test_what_comes_to_the_same_settings_is_tried_once(make_config: Callable[..., Config]) -> None:
    config = make_config('sources.enabled=["als"]', "candidates.method=rrf", "validation.fallback.als.factors=4")
    first, stages = ({"als.factors": 4}, {"als.factors": 8}), (Stage([{"als.factors": 8}, {"als.factors": 6}]),)
    found = chosen_by(config, Grid({"als": first}, {"als": stages}))
    assert [one.settings for one in found.tried if one.kind == "als"] == [{}, {"als.factors": 8}, {"als.factors": 6}]


@pytest.mark.parametrize("gain", [0.2, 0.0])
def test_another_kind_is_chosen_where_the_blend_gains_by_it(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    kinds = ["jaccard", "cosine", "rp3beta"]
    grid = Grid(
        {"item_cf": [{"item_cf.similarity": kind} for kind in kinds], "als": OF_ALS},
        {"item_cf": (Stage([{"sources.item_cf.half_life_days": 0.0}]),)},
        {"item_cf": "item_cf.similarity"},
    )

    def beside(folds: object, trials: dict[str, object], fitted: list[object]) -> list[np.ndarray]:
        assert list(trials) == ["als"]
        assert len(fitted) == len(kinds)
        return [np.full(60, 0.5), np.full(60, 0.5 + gain / 2), np.full(60, 0.5 + gain)]

    monkeypatch.setattr(module, "recalls_beside", beside)
    config = make_config('sources.enabled=["popular","item_cf","als"]', "als.factors=8", "candidates.method=auto")
    found = chosen_by(config, grid)
    alone = [one for one in found.tried if one.kind == "item_cf"]
    rivals = [one for one in found.tried if one.kind == "item_cf, beside the others"]
    (chosen,) = [one for one in [*alone, *rivals] if one.chosen]
    best = max(alone, key=lambda one: one.recall.mean())
    assert rivals[0].settings == best.settings
    assert chosen is (rivals[2] if gain else next(one for one in alone if one.chosen))
    assert {name: found.settings.get(name) for name in chosen.settings} == dict(chosen.settings)
    assert len({one.settings.get("item_cf.similarity", "jaccard") for one in rivals}) == len(kinds)
