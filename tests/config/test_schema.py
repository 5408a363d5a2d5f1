"""Seeds and the shape of settings."""

from datetime import date

import pytest
from pydantic import ValidationError

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import derive_seed


def test_derive_seed_differs_by_step_and_day_and_is_fixed_for_ever() -> None:
    # Pinned: a release that changes it would change every sampled result of a rerun.
    assert derive_seed(1, "als", date(2025, 1, 31)) == 4238242363906806906
    seeds = {derive_seed(seed, step, date(2025, 1, day)) for seed in (1, 2) for step in ("a", "b") for day in (1, 2)}
    assert len(seeds) == 8
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_settings_cannot_be_changed_after_loading() -> None:
    config = load_config()
    with pytest.raises(ValidationError):
        config.candidates.k = 5
