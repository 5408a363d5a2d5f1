"""The group `reach`, on showings that can be counted by hand."""

from pyspark.sql import SparkSession

from recsys_spark.features.groups import reach
from tests.engagement import CUTOFF, TYPES_SET, before

PAIRS = "item_idx int, user_idx int, last_time timestamp, n_events int, weight float"


def test_compute_counts_showings_and_the_pairs_that_engaged(spark: SparkSession, make_config) -> None:
    shown = [(0, 0, before(days=9)), (0, 0, before(days=8)), (0, 1, before(days=28)), (0, 2, before(days=29))]
    engaged = [(0, other, before(days=days), 1, 1.0) for other, days in ((0, 8.5), (1, 30), (2, 1))]
    inputs = {
        "exposures": spark.createDataFrame(shown, "item_idx int, user_idx int, event_time timestamp"),
        "interactions": spark.createDataFrame(engaged, PAIRS),
    }
    index = spark.createDataFrame([(0, "a"), (1, "b")], "item_idx int, item_id string")
    frame = reach.compute(index, inputs, make_config(TYPES_SET), CUTOFF)
    rows = {row.item_id: (row.n_exposures_28d, row.conversion_28d) for row in frame.collect()}
    assert rows == {"a": (3, 1 / 2), "b": (0, None)}
