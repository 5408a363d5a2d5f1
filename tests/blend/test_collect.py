"""Who gets a list and what is kept out of it, on Spark frames of a few rows."""

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark.blend import collect
from recsys_spark.blend.collect import fit_settings, fit_shared, fit_shown, weight_of
from recsys_spark.config.schema import Candidates
from recsys_spark.errors import KernelError
from tests.blend_inputs import ITEM_IDS, make_inputs
from tests.engagement import CUTOFF, TYPES_SET, Event, before, make_events, make_items


def ranked(*items: int) -> list[Row]:
    return [Row(item_idx=item, rank=at + 1, score=10.0 - at) for at, item in enumerate(items)]


def test_weight_of_a_list_is_its_own_then_its_sources_then_one() -> None:
    weights = {"popular": 2.0, "popular/trending": 3.0}
    assert [weight_of(name, weights) for name in ("popular/trending", "popular/global", "popular", "als")] == [
        3,
        2,
        2,
        1,
    ]


def test_fit_shown_takes_what_was_engaged_with_or_created_lately(spark: SparkSession, make_config) -> None:
    events = [
        Event(None, "i0", "buy", before(days=28)),
        Event("u0", "i1", "buy", before(days=29)),
        Event("u0", "i2", "return", before(days=1)),
        Event("u0", "i2", "show", before(days=1)),
        Event("u0", "i9", "buy", before(days=1)),  # not indexed
    ]
    created = {"i1": before(days=29), "i2": CUTOFF, "i3": before(days=28), "i4": None}
    inputs = make_inputs(spark) | {
        "events": make_events(spark, events),
        "items": make_items(spark, {name: {"created_at": time} for name, time in created.items()}),
    }
    usual = 'sources.enabled=["popular","als"]'
    shown = fit_shown(inputs, make_config(TYPES_SET, usual), CUTOFF)
    assert (shown.item_idx.tolist(), shown.item_id.to_pylist()) == ([0, 3], ["i0", "i3"])
    # i4 is in the catalogue alone, and nobody knows since when; i1 was had, long ago.
    content = fit_shown(inputs, make_config(TYPES_SET, 'sources.enabled=["content"]'), CUTOFF)
    assert content.item_idx.tolist() == [0, 3, 4]
    by_brand = fit_shown(inputs, make_config(TYPES_SET, usual, 'als.item_attributes=["brand"]'), CUTOFF)
    assert by_brand.item_idx.tolist() == [0, 3, 4]
    everything = fit_shown(inputs, make_config(TYPES_SET, "candidates.available_within_days=0"), CUTOFF)
    assert everything.item_idx.tolist() == [0, 1, 2, 3, 4]


def test_fit_shown_refuses_more_bytes_than_it_may_collect(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_ID_BYTES", 9)
    config = make_config("candidates.available_within_days=0")
    with pytest.raises(
        KernelError, match=r"blend: expected at most 9 bytes of ids .*, got 10; lower available_within_days"
    ):
        fit_shown(make_inputs(spark), config, CUTOFF)


def _fit(spark: SparkSession, inputs: dict[str, DataFrame], candidates: Candidates):
    shown = collect.VisibleItems(*_shown(spark))
    settings = fit_settings(inputs["source_candidates"], candidates)
    return fit_shared(inputs["source_candidates"], settings, shown)


def _shown(spark: SparkSession):
    table = spark.createDataFrame(list(enumerate(ITEM_IDS)), "item_idx int, item_id string").toArrow()
    return table["item_idx"].to_numpy(), table["item_id"].combine_chunks()


SOURCE_ROWS = [
    ("top", None, None, ranked(0, 1, 2), None, None, None),
    ("near", None, "FR", ranked(3), None, None, None),
    ("als", 1, None, ranked(4, 0), None, None, None),
]


def test_fit_shared_refuses_more_bytes_than_it_may_collect(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_SHARED_BYTES", 4 * 12 - 1)
    with pytest.raises(KernelError, match=r"expected at most 47 bytes of lists .*, got 48; lower max_items"):
        _fit(spark, make_inputs(spark, source_candidates=SOURCE_ROWS), make_config().candidates)
