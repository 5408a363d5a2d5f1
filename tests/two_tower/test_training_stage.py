"""Staged shards hold every engagement once, newest first, whatever the partitions and the number of shards."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.load import load_config
from recsys_spark.two_tower.kernels.batches import NONE, Shard
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.training_shards import read_items, read_users
from recsys_spark.two_tower.training_stage import histories, shown_not_engaged, stage_items, stage_users
from recsys_spark.warehouse.scratch import Scratch
from tests.engagement import CUTOFF, before

SETTINGS = load_config().two_tower.model_copy(
    update={"training_days": 10, "half_life_days": 5.0, "max_items_per_user": 3}
)
# user, item, age in days, weight, engagement events
PAIRS = [
    (0, 1, 1.0, 2.0, 1), (0, 2, 5.0, 1.0, 1), (0, 0, 5.0, 1.0, 2), (0, 3, 9.0, 4.0, 1),
    (2, 3, 11.0, 8.0, 1), (2, 1, 10.0, 8.0, 1), (5, 0, 2.0, 1.0, 1), (5, 1, 3.0, 0.0, 0),
]  # fmt: skip
USERS = TowerInputs((Field("segment", "category"),), 16)
MANY = 1 << 40  # bytes: one shard


def _interactions(spark: SparkSession) -> DataFrame:
    rows = [(u, i, w, before(days=age), n) for u, i, age, w, n in PAIRS]
    return spark.createDataFrame(rows, "user_idx int, item_idx int, weight float, last_time timestamp, n_events int")


def _columns(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(u, f"s{u}") for u in range(6)], "user_idx int, segment string")


def _staged(spark: SparkSession, folder: Path, size: int, shown: DataFrame | None = None) -> list[Shard]:
    scratch = Scratch(folder)
    entries = histories(_interactions(spark), SETTINGS, CUTOFF)
    n_shards = stage_users(entries, shown, _columns(spark), USERS, size, scratch)
    return [read_users(scratch, number) for number in range(n_shards)]


def _of(shards: list[Shard]) -> dict[int, list[tuple]]:
    found = {}
    for shard in shards:
        for row, user in enumerate(shard.users):
            part = slice(shard.indptr[row], shard.indptr[row + 1])
            found[int(user)] = list(zip(shard.items[part], shard.times[part], shard.weights[part], strict=True))
    return found


def test_histories_are_newest_first_with_decayed_weights_and_nothing_but_history_when_old(
    spark: SparkSession, tmp_path: Path
) -> None:
    (shard,) = _staged(spark, tmp_path, MANY)
    assert shard.users.tolist() == [0, 2, 5]
    found = _of([shard])
    # Ties of time by the smaller index; the fourth is cut by max_items_per_user.
    assert [int(item) for item, _, _ in found[0]] == [1, 0, 2]
    weights = [[float(weight) for _, _, weight in found[user]] for user in (0, 2, 5)]
    np.testing.assert_allclose(weights[0], [2.0 * 0.5 ** (1 / 5), 0.5, 0.5])
    np.testing.assert_allclose(weights[1], [8.0 * 0.5**2, 0.0])  # 11 days are more than training_days
    np.testing.assert_allclose(weights[2], [0.5 ** (2 / 5)])  # a dislike is no engagement
    assert found[5][0][1] == (CUTOFF - timedelta(days=2)).timestamp() * 1_000_000
    assert shard.shown.shape == (3, 0)


def test_shards_hold_the_same_users_whatever_their_number(spark: SparkSession, tmp_path: Path) -> None:
    whole, many = _staged(spark, tmp_path / "one", MANY), _staged(spark, tmp_path / "many", 600)
    assert len(many) > 2
    assert _of(many) == _of(whole)
    encoded = {int(user): shard.encoded.buckets[row] for shard in many for row, user in enumerate(shard.users)}
    (shard,) = whole
    assert encoded == dict(zip(shard.users.tolist(), shard.encoded.buckets.tolist(), strict=True))


def test_shown_in_vain_is_what_was_not_engaged_with_newest_first(spark: SparkSession, tmp_path: Path) -> None:
    seen = [(0, 1, 1.0), (0, 3, 2.0), (0, 4, 1.0), (0, 4, 7.0), (5, 1, 1.0)]
    exposures = spark.createDataFrame(
        [(u, i, before(days=age)) for u, i, age in seen], "user_idx int, item_idx int, event_time timestamp"
    )
    shown = shown_not_engaged(exposures, _interactions(spark), CUTOFF)
    (shard,) = _staged(spark, tmp_path, MANY, shown)
    # 1 and 3 were engaged with; a disliked item is none that the user wants.
    assert shard.shown[:, :2].tolist() == [[4, NONE], [NONE, NONE], [1, NONE]]
    assert (shard.shown[:, 2:] == NONE).all()
    assert shown_not_engaged(exposures.limit(0), _interactions(spark), CUTOFF) is None


@pytest.mark.parametrize("size", [MANY, 2_000])
def test_items_stand_in_the_order_of_their_index(spark: SparkSession, tmp_path: Path, size: int) -> None:
    inputs = TowerInputs((Field("price", "number"), Field("item_id", "id")), 16, 64)
    columns = spark.range(10).select(
        F.col("id").cast("int").alias("item_idx"),
        F.concat(F.lit("i"), "id").alias("item_id"),
        F.col("id").alias("price"),
    )
    n_shards = stage_items(columns.repartition(4), 10, inputs, size, Scratch(tmp_path))
    assert (n_shards > 1) == (size < MANY)
    stored = read_items(Scratch(tmp_path), n_shards)
    expected = inputs.encode(columns.orderBy("item_idx").toArrow())
    np.testing.assert_array_equal(stored.dense, expected.dense)
    np.testing.assert_array_equal(stored.ids, expected.ids)
