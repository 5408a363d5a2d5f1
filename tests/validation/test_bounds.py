"""What is for the run to choose never makes more than can be sent to every worker."""

from collections.abc import Callable

import pytest

from recsys_spark.config.choices import with_settings
from recsys_spark.config.schema import Config
from recsys_spark.validation.bounds import bounded_settings, is_bounded


@pytest.mark.parametrize("n_items", [1, 10_000, 200_000, 300_000, 600_000, 5_000_000])
def test_settings_that_are_auto_fit_any_catalogue(n_items: int, make_config: Callable[..., Config]) -> None:
    config = make_config()
    found = bounded_settings(config, n_items)
    assert (found == {}) == (n_items <= 10_000)
    bounded = with_settings(config, found)
    for source in bounded.sources.enabled:
        if source != "popular":
            assert is_bounded(source, bounded, n_items), source
    assert {"popular", "item_cf", "als"} <= set(bounded.sources.enabled)


def test_what_a_person_wrote_stays_and_is_refused_where_it_is_too_much(make_config: Callable[..., Config]) -> None:
    written = (
        'sources.enabled=["low_pass","successors"]',
        "sources.low_pass.rank=256",
        "als.factors=512",
    )
    config = make_config(*written)
    found = bounded_settings(config, 600_000)
    assert set(found) == {"item_cf.num_neighbors"}
    assert not is_bounded("low_pass", config, 600_000)
    assert is_bounded("low_pass", config, 200_000)
    assert not is_bounded("successors", config, 600_000)
