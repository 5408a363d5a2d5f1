"""Workers find every shard that cannot be used, and name it."""

from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.ann.recall import shard_faults
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import ANN_SHARDS
from tests.index_files import make_shards, unit_vectors


def test_shard_faults_names_what_is_damaged(spark: SparkSession, tmp_path: Path) -> None:
    rows = make_shards(tmp_path, unit_vectors(90, 4), n_shards=3, factory="Flat")
    schema = spark_schema(ANN_SHARDS, without=("run_id",))
    frame = spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)
    assert shard_faults(frame, tmp_path) == []
    (tmp_path / rows[0]["rel_path"]).unlink()
    vectors = tmp_path / rows[2]["vectors_rel_path"]
    vectors.write_bytes(vectors.read_bytes()[:-4])
    missing, cut = shard_faults(frame, tmp_path)
    assert missing.startswith(f"shard 0: {rows[0]['rel_path']}: expected a file")
    assert cut.startswith(f"shard 2: {rows[2]['vectors_rel_path']}: expected {len(vectors.read_bytes()) + 4} bytes")
    assert shard_faults(frame.limit(0), tmp_path) == []
