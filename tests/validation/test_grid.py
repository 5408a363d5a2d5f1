"""Every setting that is tried is one of the product's, is left to the run by default, and has a value that can be."""

import pytest

from recsys_spark.config.choices import with_settings
from recsys_spark.config.load import load_config
from recsys_spark.retrieval.declared import check_params, discover
from recsys_spark.validation.fits import FITTED
from recsys_spark.validation.grid import USUAL, WIDE, Grid


@pytest.mark.parametrize("grid", [USUAL, WIDE], ids=["usual", "wide"])
def test_every_trial_is_of_settings_that_the_run_may_choose(grid: Grid) -> None:
    config = load_config()
    assert set(grid.then) <= set(grid.first) == FITTED <= set(discover())
    for source, first in grid.first.items():
        for settings in (*first, *(one for stage in grid.then.get(source, ()) for one in stage.settings)):
            assert set(settings) <= set(config.validation.auto), settings
            changed = with_settings(config, settings)
            assert source in check_params(changed)
    for source, kind in grid.kinds.items():
        assert len({settings.get(kind) for settings in grid.first[source]}) > 1


def test_every_fallback_is_auto_by_default_and_what_it_names_has_its_value() -> None:
    config = load_config()
    assert config.validation.auto == list(config.validation.fallback)
    assert with_settings(config, config.validation.fallback) == config
