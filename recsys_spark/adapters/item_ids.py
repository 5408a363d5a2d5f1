"""External ids for lists of item indices.

Owns: the ids that a worker is sent, and the records of `item_neighbors`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.spark.broadcast import MAX_ID_BYTES, check_bytes
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.spark_check import spark_type
from recsys_spark.warehouse.tables import NEIGHBORS


def fit_item_ids(item_index: DataFrame) -> pa.Array:
    """The id of every item, by item_idx, on the driver.  Raises KernelError if they have more than MAX_ID_BYTES."""
    size: Any = item_index.selectExpr("sum(octet_length(item_id)) AS n_bytes").first()
    check_bytes("item_cf", "ids of items", size["n_bytes"] or 0, MAX_ID_BYTES, "interactions.window_days")
    table = item_index.select("item_idx", "item_id").toArrow().sort_by("item_idx")
    return table["item_id"].combine_chunks()


def with_item_ids(neighbors: DataFrame, ids: pa.Array) -> DataFrame:
    """item_id, item_idx, neighbors as in `item_neighbors`; neighbors: col_idx, neighbors (array<int>), scores."""
    sent = neighbors.sparkSession.sparkContext.broadcast(ids)
    schema = f"item_id string, item_idx int, neighbors {spark_type(NEIGHBORS).simpleString()}"
    return neighbors.select("col_idx", "neighbors", "scores").mapInArrow(_name(sent), schema)


def _name(sent: Any) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def name(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ids = sent.value
        listed = arrow_type(NEIGHBORS)
        for batch in batches:
            indices = batch["neighbors"].flatten()
            entries = pa.StructArray.from_arrays(
                [ids.take(indices), indices, batch["scores"].flatten()], fields=list(listed.value_type)
            )
            offsets = batch["neighbors"].offsets
            offsets = pa.compute.subtract(offsets, offsets[0])
            yield pa.RecordBatch.from_arrays(
                [ids.take(batch["col_idx"]), batch["col_idx"], pa.ListArray.from_arrays(offsets, entries, type=listed)],
                names=["item_id", "item_idx", "neighbors"],
            )

    return name
