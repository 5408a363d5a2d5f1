"""The group `offer`: a bad price is no price, and the index keeps its other columns."""

from pyspark.sql import SparkSession

from recsys_spark.features.groups import offer
from tests.engagement import CUTOFF, TYPES_SET


def test_compute_puts_usable_prices_in_the_place_of_the_catalogue_s(spark: SparkSession, make_config) -> None:
    rows = [("x", "tea", 3.0), ("y", "tea", -3.0), ("z", "tea", 1.0), ("new", None, None)]
    index = spark.createDataFrame(rows, "item_id string, category string, price double")
    frame = offer.compute(index, {}, make_config(TYPES_SET), CUTOFF)
    assert frame.columns == ["item_id", "category", "price", "price_level"]
    found = {row.item_id: (row.price, row.price_level) for row in frame.collect()}
    assert found == {"x": (3.0, 3 / 4), "y": (None, None), "z": (1.0, 1 / 4), "new": (None, None)}
