"""What is known of all items, from the tables of a run."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.blend import item_traits
from recsys_spark.blend.item_traits import fit_rule_targets, fit_traits, has_room_for_categories, has_room_for_vectors
from recsys_spark.blend.kernels.diversity import NOTHING, Diversity
from recsys_spark.errors import KernelError
from tests.engagement import make_items
from tests.staged_lists import frame

NOW = datetime(2025, 1, 31, tzinfo=UTC)
ALL = Diversity(mmr_weight=0.3, category_cap=2, brand_cap=2, calibration_weight=0.1, popularity_damping=0.5)


@pytest.fixture(scope="module")
def inputs(spark: SparkSession) -> dict[str, DataFrame]:
    """Items w to z; w has factors, no brand and no interaction; z is in no catalogue."""
    engaged = [(user, item) for user, item in ((0, 1), (1, 1), (1, 2), (2, 3))]
    rows = [{"user_idx": u, "item_idx": i, "weight": 1.0, "last_time": NOW, "n_events": 1} for u, i in engaged]
    catalogue = {"w": {"category": "lamp"}, "x": {"category": "rug", "brand": "a"}, "y": {"brand": "b"}}
    factors = [{"item_id": "w", "item_idx": 0, "vector": [1.0, 2.0], "weight": 1.0, "n": 1, "shown": True}]
    return {
        "item_index": frame(spark, "item_index", [{"item_idx": at, "item_id": one} for at, one in enumerate("wxyz")]),
        "items": make_items(spark, catalogue),
        "interactions": frame(spark, "interactions", rows),
        "item_factors": frame(spark, "item_factors", factors),
        "item_embeddings": frame(spark, "item_embeddings", []),
    }


def test_rules_may_name_every_item(inputs: dict[str, DataFrame]) -> None:
    found = fit_rule_targets(inputs)
    rows = sorted(zip(found.item_idx.tolist(), found.item_id, found.category, found.brand, strict=True))
    assert rows == [(0, "w", "lamp", None), (1, "x", "rug", "a"), (2, "y", None, "b"), (3, "z", None, None)]


def test_traits_are_by_index_and_say_what_an_item_lacks(inputs: dict[str, DataFrame]) -> None:
    traits, names = fit_traits(inputs, ALL)
    np.testing.assert_array_equal(traits.vectors, np.array([[1, 2], [0, 0], [0, 0], [0, 0]], np.float32))
    assert [None if code < 0 else names[code].as_py() for code in traits.categories] == ["lamp", "rug", None, None]
    brands = traits.brands.tolist()
    assert (brands[0], brands[3]) == (-1, -1)
    assert len({brands[1], brands[2], -1}) == 3
    np.testing.assert_allclose(traits.popularity, np.array([1, 2, 1, 1]) / 5)


def test_there_is_room_for_categories_where_items_have_any_and_ids_are_few(
    spark: SparkSession, inputs: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert has_room_for_categories(inputs)
    assert not has_room_for_categories(inputs | {"items": make_items(spark, {"w": {"brand": "a"}})})
    monkeypatch.setattr(item_traits, "MAX_ID_BYTES", 2)
    assert not has_room_for_categories(inputs)


def test_nothing_is_collected_that_is_not_wanted(inputs: dict[str, DataFrame]) -> None:
    traits, names = fit_traits(inputs, NOTHING)
    assert (traits.vectors, traits.categories, traits.brands, traits.popularity, names) == (None,) * 5


def test_embeddings_stand_in_where_als_is_off(spark: SparkSession, inputs: dict[str, DataFrame]) -> None:
    rows = [{"item_id": "y", "item_idx": 2, "vector": [3.0], "norm": 3.0, "model_version": "m", "shown": True}]
    others = {
        "item_factors": frame(spark, "item_factors", []),
        "item_embeddings": frame(spark, "item_embeddings", rows),
    }
    traits, _ = fit_traits(inputs | others, Diversity(mmr_weight=0.3))
    np.testing.assert_array_equal(traits.vectors, np.array([[0], [0], [3], [0]], np.float32))


def test_too_many_vectors_are_refused_with_the_setting(
    inputs: dict[str, DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert has_room_for_vectors(inputs)
    monkeypatch.setattr(item_traits, "MAX_VECTOR_BYTES", 31)
    assert not has_room_for_vectors(inputs)
    with pytest.raises(
        KernelError, match=r"at most 31 bytes of item vectors, got 32; lower diversity\.mmr_weight to 0"
    ):
        fit_traits(inputs, Diversity(mmr_weight=0.3))
