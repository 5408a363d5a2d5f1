"""The group `taste`, on a shelf whose prices and categories can be counted by hand."""

import pytest
from pyspark.sql import SparkSession

from recsys_spark.features.groups import taste
from tests.engagement import CUTOFF, TYPES_SET, make_items
from tests.local_frame import local_frame

SHELF = {
    "cup": {"category": "cups", "price": 4.0},
    "green": {"category": "tea", "price": 1.0},
    "black": {"category": "tea", "price": 3.0},
    "gift": {"price": float("nan")},
    "lid": {"category": "Lids"},
}
NAMES = list(SHELF)


def _rows(spark: SparkSession, make_config, pairs: list[tuple[int, str, float, int]], *sets: str) -> dict:
    numbered = [(user, NAMES.index(item), weight, n_events) for user, item, weight, n_events in pairs]
    inputs = {
        "items": make_items(spark, SHELF),
        "item_index": local_frame(spark, list(enumerate(NAMES)), "item_idx int, item_id string"),
        "interactions": local_frame(spark, numbered, "user_idx int, item_idx int, weight float, n_events int"),
    }
    index = local_frame(spark, [(0, "ann"), (1, "bob")], "user_idx int, user_id string")
    frame = taste.compute(index, inputs, make_config(TYPES_SET, *sets), CUTOFF)
    return {row.user_id: row for row in frame.collect()}


def test_compute_weighs_prices_and_categories(spark: SparkSession, make_config) -> None:
    pairs = [(0, "cup", 1.0, 1), (0, "green", 2.0, 1), (0, "black", 4.0, 9), (0, "gift", 64.0, 1), (0, "lid", 1.0, 1)]
    rows = _rows(spark, make_config, pairs)
    assert rows["ann"].mean_price == (4.0 + 1.0 + 3.0) / 3
    assert rows["ann"].price_level == pytest.approx((1 * 1 / 2 + 2 * 1 / 4 + 4 * 3 / 4) / (1 + 2 + 4), rel=1e-12)
    assert [tuple(one) for one in rows["ann"].category_affinities] == [("tea", 6 / 8), ("Lids", 1 / 8), ("cups", 1 / 8)]
    assert (rows["bob"].mean_price, rows["bob"].price_level, rows["bob"].category_affinities) == (None, None, [])


def test_compute_shares_the_weight_of_all_categories_when_it_lists_few(spark: SparkSession, make_config) -> None:
    pairs = [(0, "cup", 1.0, 1), (0, "green", 3.0, 1)]
    row = _rows(spark, make_config, pairs, "features.max_categories=1")["ann"]
    assert [tuple(one) for one in row.category_affinities] == [("tea", 3 / 4)]


def test_compute_has_no_taste_without_weight(spark: SparkSession, make_config) -> None:
    rows = _rows(spark, make_config, [(0, "cup", 0.0, 1), (1, "cup", 1.0, 0)])  # a return; nothing but a dislike
    assert (rows["ann"].mean_price, rows["ann"].price_level, rows["ann"].category_affinities) == (4.0, None, [])
    assert (rows["bob"].mean_price, rows["bob"].price_level, rows["bob"].category_affinities) == (None, None, [])
