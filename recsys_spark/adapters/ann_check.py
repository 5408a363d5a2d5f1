"""Are the shards that a manifest names whole?  Read back and checked by the workers, as a reader would open them.

Owns: that check over the cluster.  Called by the gates.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import DamagedError
from recsys_spark.spark.arrow_vectors import Batches
from recsys_spark.warehouse.location import Location


def shard_faults(shards: DataFrame, root: Location) -> list[str]:
    """What is wrong with each shard that cannot be used, one line each; shards: rows of `ann_shards`."""
    rows = {row["shard"]: row.asDict() for row in shards.collect()}
    if not rows:
        return []
    sent = shards.sparkSession.sparkContext.broadcast(rows)
    tasks = shards.sparkSession.createDataFrame([(number,) for number in rows], "shard int")
    placed = tasks.repartitionById(len(rows), F.pmod("shard", F.lit(len(rows))))
    found = placed.mapInArrow(_open(sent, root.absolute()), "fault string")
    return sorted(row["fault"] for row in found.collect())


def _open(sent: Any, root: Location) -> Batches:
    def open_each(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_spark.tables.shard_files import open_shard

        for batch in batches:
            faults = []
            for number in batch["shard"].to_pylist():
                try:
                    open_shard(root, sent.value[number], mapped=True)
                except DamagedError as err:
                    faults.append(str(err))
            yield pa.RecordBatch.from_pydict({"fault": pa.array(faults, pa.string())})

    return open_each
