"""A function gets every column under its own name."""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.spark.arrow_vectors import map_rows


def test_map_rows_gives_the_function_columns_of_any_name(spark: SparkSession) -> None:
    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            assert batch.schema.names == ["n", "vectors.text", "a b"]
            sums = pa.compute.add(batch["n"], pa.compute.list_element(batch["vectors.text"], 0))
            yield pa.RecordBatch.from_pydict({"total": pa.compute.add(sums, batch["a b"])})

    rows = [(n, [10 * n], None if n == 2 else 100 * n) for n in range(4)]
    frame = spark.createDataFrame(rows, "n long, `vectors.text` array<long>, `a b` long").repartition(2)
    found = [row["total"] for row in map_rows(frame, add, "total long").collect()]
    assert sorted(found, key=str) == [0, 111, 333, None]
