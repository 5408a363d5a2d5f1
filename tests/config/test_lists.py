"""Settings of lists out of their bounds are refused with their place."""

import pytest

from recsys_spark.config.lists import DiversitySettings
from recsys_spark.config.load import load_config
from recsys_spark.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "candidates.diversity.mmr_weight=1.0",
        "candidates.diversity.category_cap=-1",
        "candidates.diversity.calibration_weight=1.5",
        "candidates.diversity.popularity_damping=-0.1",
        "candidates.diversity.unknown=1",
        "candidates.variants={main={share=0.1}}",
        "candidates.variants={a={share=0.6},b={share=0.6}}",
        "candidates.variants={a={share=0.0}}",
        "hindsight.window_days=-1",
        "audit.max_item_jump=1.1",
        "publish.grace_hours=47",
        "candidates.k=0",
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=text.partition("=")[0].rpartition(".")[2]):
        load_config(sets=(text,))


def test_lists_give_up_nothing_by_default() -> None:
    assert not any(load_config().candidates.diversity.model_dump().values())
    assert set(DiversitySettings.model_fields) == set(load_config().candidates.diversity.model_dump())


def test_a_variant_is_bounded_as_all_others_are() -> None:
    with pytest.raises(ConfigError, match=r"mmr_weight: expected less than 1, got 2\.0"):
        load_config(sets=("candidates.variants={a={share=0.1,diversity={mmr_weight=2.0}}}",))


def test_a_variant_is_as_all_others_but_for_what_it_says() -> None:
    varied = "varied={share=0.2,diversity={mmr_weight=0.3,category_cap=4}}"
    variants = f"candidates.variants={{{varied},fused={{share=0.1,method='scores'}}}}"
    sets = (variants, "candidates.k=7", "candidates.method='rrf'")
    settings = load_config(sets=sets).candidates.by_variant()
    assert list(settings) == ["main", "fused", "varied"]
    assert [one.method for one in settings.values()] == ["rrf", "scores", "rrf"]
    assert [one.diversity.mmr_weight for one in settings.values()] == [0.0, 0.0, 0.3]
    assert [one.diversity.category_cap for one in settings.values()] == [0, 0, 4]
    assert {one.k for one in settings.values()} == {7}
