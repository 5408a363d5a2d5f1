"""Settings of fits are bounded before anything is fitted."""

import pytest

from recsys_spark.config.load import load_config
from recsys_spark.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("als.factors", 0),
        ("als.alpha", 0.0),
        ("als.regularization", -0.1),
        ("als.nu", 1.5),
        ("als.iterations", 0),
        ("als.exchange", "mail"),
        ("als.min_items_per_user", 0),
        ("als.attribute_weight", 0.0),
        ("als.block_bytes", 1000),
        ("item_cf.num_neighbors", 0),
        ("item_cf.similarity", "near"),
    ],
)
def test_load_config_refuses_a_fit_that_cannot_be(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting.partition(".")[2]):
        load_config(sets=(f"{setting}={value}",))
