"""Two days with towers, logs and warehouse in an object store, the second warm: from taking in to reading."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.pipeline.publish import current_row
from recsys_spark.serving.bundle import open_current, open_index
from recsys_spark.spark.session import check_store_client
from recsys_spark.warehouse.blobs import blobs
from recsys_spark.warehouse.ledger import steps_of
from recsys_spark.warehouse.location import ObjectPath, hadoop_settings, remove_tree
from tests.s3_server import copy_to
from tests.small_shop import FIRST_DAY, events_of, land_catalogue, land_days, land_events, make_shop
from tests.whole_day import run_whole_day

pytestmark = pytest.mark.slow

N_DAYS = 20
DAY = FIRST_DAY + timedelta(days=N_DAYS)
TOWERS = (
    'sources.enabled=["popular","two_tower","content"]', "sources.content.by=towers", "two_tower.dim=8",
    "two_tower.hidden=16", "two_tower.n_buckets=64", "two_tower.batch_size=64", "two_tower.epochs=2",
    "two_tower.device=cpu", "ann.search=ann",
)  # fmt: skip


def _in_bucket(spark: SparkSession, config: Config, root: ObjectPath) -> Config:
    """The settings of a shop whose warehouse, with its tables, is moved to `root`, and whose files land beside it."""
    copy_to(Path(config.storage.root), root)
    remove_tree(config.root)
    for key, value in hadoop_settings(root).items():  # the session was made before the server was
        spark.sparkContext._jsc.hadoopConfiguration().set(key, value)
    place = {"root": str(root), "endpoint": root.endpoint, "region": root.region}
    landing = {feed: f"{root.parent}/landing/{feed}" for feed in ("events", "items", "users")}
    return config.model_copy(
        update={
            "storage": config.storage.model_copy(update=place),
            "landing": config.landing.model_copy(update=landing),
        }
    )


def test_two_days_with_towers_are_trained_published_and_read(
    spark: SparkSession, tmp_path: Path, s3_root: ObjectPath
) -> None:
    shop = make_shop(tmp_path, *TOWERS)
    config = _in_bucket(spark, shop, s3_root)
    check_store_client(spark, s3_root)
    land_catalogue(shop, FIRST_DAY)
    land_days(shop, FIRST_DAY, N_DAYS)
    copy_to(tmp_path / "landing", s3_root.parent / "landing")
    assert run_whole_day(spark, config).outcome == "published"
    bundle = open_current(config.root)
    (model,) = bundle.read_table("two_tower_models").to_pylist()
    (shard,) = bundle.read_table("ann_shards").to_pylist()
    assert set(blobs(config.root)) == {model["rel_path"], shard["rel_path"], shard["vectors_rel_path"]}
    assert not json.loads(model["card"])["started_warm"]
    n_items = bundle.read_table("item_index").num_rows
    assert bundle.read_table("item_embeddings").num_rows == n_items
    stored = {row["user_id"]: row["vector"] for row in bundle.read_table("user_embeddings").to_pylist()}
    features = bundle.user_features("user-01")
    found = bundle.encode_user(features, features["recent_items"])
    np.testing.assert_allclose(found, stored["user-01"], atol=1e-5)
    nearest = bundle.nearest(found, 5)
    assert [one.rank for one in nearest] == [1, 2, 3, 4, 5]
    found_by_index = open_index(bundle).search(found, 5)
    assert [one.item_id for one in found_by_index] == [one.item_id for one in nearest]
    np.testing.assert_allclose([one.score for one in found_by_index], [one.score for one in nearest], atol=1e-6)
    proposed_by = {source.source for one in bundle.candidates("user-01").items for source in one.sources}
    assert "two_tower" in proposed_by

    land_events(shop, DAY, events_of(DAY))
    copy_to(tmp_path / "landing", s3_root.parent / "landing")
    assert run_whole_day(spark, config).outcome == "published"
    figures = steps_of(config.root, current_row(config.root).run_id)
    assert figures["two_tower"]["figures"]["warm"] == 1
    assert -1 <= figures["embed"]["figures"]["drift_cosine"] <= 1 + 1e-6
    assert len(blobs(config.root)) == 2 * 3
    assert not (tmp_path / "warehouse").exists(), "nothing is written beside the bucket"
