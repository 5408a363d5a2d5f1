"""Settings of lists out of their bounds are refused with their place."""

import pytest

from recsys_spark.config_file import load_config
from recsys_spark.errors import ConfigError
from recsys_spark.list_settings import DiversitySettings


@pytest.mark.parametrize(
    "text",
    [
        "candidates.diversity.mmr_weight=1.0",
        "candidates.diversity.category_cap=-1",
        "candidates.diversity.calibration_weight=1.5",
        "candidates.diversity.popularity_damping=-0.1",
        "candidates.diversity.unknown=1",
        "hindsight.window_days=-1",
        "audit.max_item_jump=1.1",
        "publish.grace_hours=47",
        "candidates.k=0",
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=text.rpartition(".")[2].partition("=")[0]):
        load_config(sets=(text,))


def test_lists_give_up_nothing_by_default() -> None:
    assert not any(load_config().candidates.diversity.model_dump().values())
    assert set(DiversitySettings.model_fields) == set(load_config().candidates.diversity.model_dump())
