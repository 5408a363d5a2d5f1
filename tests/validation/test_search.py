"""Settings are searched stage by stage, what comes to the same once, and kinds beside the other sources."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys_spark.config.choices import value_of, with_settings
from recsys_spark.config.schema import Config
from recsys_spark.validation import search as module
from recsys_spark.validation.choose import choose
from recsys_spark.validation.grid import Grid, Stage
from recsys_spark.validation.tried import Chosen, Earlier
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


KINDS = ["jaccard", "cosine", "rp3beta"]
NEAR = {"item_cf.min_co_occurrence": 1}


@pytest.mark.parametrize(
    ("before", "gain", "chosen"),
    [
        (None, 0.0, 0),  # the best by itself
        (None, 0.02, 0),  # less than a standard error
        (None, 0.2, 2),
        ("cosine", 0.0, 0),  # what an earlier run chose comes first
        ("cosine", 0.2, 2),
    ],
)
def test_another_kind_is_chosen_where_the_blend_gains_by_it(
    make_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    gain: float,
    chosen: int,
) -> None:
    grid = Grid(
        {"item_cf": [NEAR | {"item_cf.similarity": kind} for kind in KINDS], "als": OF_ALS},
        {"item_cf": (Stage([{"sources.item_cf.half_life_days": 0.0}]),)},
        {"item_cf": "item_cf.similarity"},
    )
    noise = np.tile([-0.5, 0.5], 30)

    def beside(
        folds: object, trials: dict[str, object], source: str, fitted: list[object], given: dict[str, float]
    ) -> list[np.ndarray]:
        assert (list(trials), source) == (["als"], "item_cf")
        assert len(fitted) == len(KINDS)
        return [np.full(60, 0.5), np.full(60, 0.5), 0.5 + gain + noise]

    monkeypatch.setattr(module, "recalls_beside", beside)
    config = make_config('sources.enabled=["popular","item_cf","als"]', "als.factors=8", "candidates.method=auto")
    settings = NEAR | {"item_cf.similarity": before, "sources.item_cf.half_life_days": 7.0}
    earlier = Earlier(settings, frozenset(["item_cf"]), frozenset()) if before else None
    auto = frozenset(config.validation.auto)
    found = choose([grouped_log()], config, auto, {}, lambda _: None, grid, earlier)
    alone = [one for one in found.tried if one.kind == "item_cf"]
    rivals = [one for one in found.tried if one.kind == "item_cf, beside the others"]
    kinds = [value_of(with_settings(config, one.settings), "item_cf.similarity") for one in rivals]
    assert sorted(kinds) == sorted(KINDS)
    (row,) = [one for one in [*alone, *rivals] if one.chosen]
    assert row.settings == rivals[chosen].settings
    assert {name: found.settings.get(name) for name in row.settings} == dict(row.settings)
    if before is None:
        assert rivals[0].settings == max(alone, key=lambda one: one.recall.mean()).settings
    elif kinds[0] == before:
        assert rivals[0].settings == settings  # exactly as it was


def test_a_kind_that_a_person_wrote_is_the_only_one(make_config: Callable[..., Config]) -> None:
    config = make_config(
        'sources.enabled=["item_cf","als"]',
        "als.factors=8",
        "candidates.method=auto",
        "item_cf.similarity=cosine",
    )
    first = {"item_cf": [NEAR | {"item_cf.similarity": kind} for kind in KINDS], "als": OF_ALS[:1]}
    found = chosen_by(config, Grid(first, {}, {"item_cf": "item_cf.similarity"}))
    assert not [one for one in found.tried if "beside" in one.kind]
    assert "item_cf.similarity" not in found.settings
