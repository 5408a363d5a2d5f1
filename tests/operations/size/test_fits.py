"""The arithmetic of the fits, held against sums by hand and against what the steps do with the same numbers."""

import numpy as np
import pytest

from recsys_spark.als.blocks import BINS
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.item_cf.kernels.row_products import item_blocks
from recsys_spark.operations.size.fits import (
    Load,
    als_plan,
    als_size,
    interactions_size,
    item_cf_blocks,
    item_cf_size,
    model_bytes,
    touched,
    two_tower_size,
)
from recsys_spark.two_tower.dimensions import id_buckets
from recsys_spark.two_tower.kernels.inputs import Field, TowerInputs
from recsys_spark.two_tower.kernels.towers import weight_shapes
from recsys_spark.two_tower.training_job import shape_of

SHOP = Load(users=1_000, items=500, pairs=20_000, id_bytes=10)
LARGE = Load(users=100_000_000, items=1_000_000, pairs=5_000_000_000)


def settings(*sets: str) -> Config:
    return load_config(sets=sets)


@pytest.mark.parametrize(("n_bins", "n_draws"), [(7, 3), (50, 50), (4096, 20_000)])
def test_touched_is_what_random_draws_meet(n_bins: int, n_draws: int) -> None:
    drawn = np.random.default_rng(1).integers(0, n_bins, (2_000, n_draws))
    found = np.mean([len(np.unique(row)) for row in drawn])
    assert touched(n_bins, n_draws) == pytest.approx(found, rel=0.02)  # a mean of 2,000 is that near


def test_touched_of_one_bin_is_that_one() -> None:
    assert touched(1, 30) == 1


def test_interactions_size_is_24_bytes_a_pair() -> None:
    assert interactions_size(SHOP).stored == 20_000 * (4 + 4 + 4 + 4 + 8)


def test_item_cf_size_is_by_hand_for_one_block_of_items() -> None:
    found = item_cf_size(SHOP, 1, settings("item_cf.num_neighbors=100"))
    of_a_user = 2.0 * 20 * 20  # 20 items each, with the long tail's factor 2
    assert found.flop == 2 * 1_000 * of_a_user
    assert found.stored == 500 * (100 * (10 + 8) + 10 + 4)
    routed = 1_000 * (20 * 8 + 8)
    sums = touched(500, 20_000) * (48 + 4)
    in_rows = 500 * 100 * 8 * (1 + 1 + 1 + 2 + 1 + 1)  # place, nulls, id and its text of two words, idx, score
    assert found.shuffled == pytest.approx(20_000 * 20 + routed + sums + in_rows)
    assert found.worker == 500 * (48 + 10) + 4 * routed
    assert found.driver == 500 * (48 + 10) + 500 * 4


def test_item_cf_size_counts_no_more_than_the_newest_items_of_a_user() -> None:
    config = settings("item_cf.max_items_per_user=15")
    assert item_cf_size(SHOP, 1, config).flop == 2 * 1_000 * 15 * 15


@pytest.mark.parametrize("block_bytes", [1 << 20, 4 << 20])
def test_item_cf_blocks_are_as_many_as_the_plan_of_the_step_makes(block_bytes: int) -> None:
    load = Load(users=40_000, items=2_000, pairs=800_000)
    found = item_cf_blocks(load, 1, settings(f"item_cf.block_bytes={block_bytes}"))
    products = np.full(load.items, 2 * load.pairs * (load.pairs // load.users) // load.items)
    n_blocks = -(-load.pairs * 104 // block_bytes)  # 104 bytes of a pair
    assert found == pytest.approx(len(item_blocks(products, load.pairs, 100, n_blocks, block_bytes)), rel=0.1)


@pytest.mark.parametrize(
    ("load", "exchange"),
    [(SHOP, "local"), (Load(400_000, 500, 9_000_000), "broadcast"), (LARGE, "shuffle")],
)
def test_als_plan_takes_the_exchange_of_the_step(load: Load, exchange: str) -> None:
    assert als_plan(load, 8, settings("als.factors=128")).exchange == exchange


def test_als_plan_makes_no_more_blocks_than_the_step_can_cut() -> None:
    plan = als_plan(LARGE, 8, settings("als.factors=128"))
    assert (plan.users, plan.items) == (BINS, BINS)
    in_shuffle = (1 << 28) * 104 // (128 * 12)  # so that a task has room for the factors of each entry
    assert plan.wanted == -(-LARGE.pairs * 104 // in_shuffle)


def test_als_size_is_by_hand_where_a_side_is_broadcast() -> None:
    config = settings("als.factors=16", "als.iterations=3", "als.exchange=broadcast")
    found = als_size(SHOP, 2, config)
    # A multiplication and an addition: 30 f an entry and 2 f^2 a row; then the rotation and the Gramian.
    users = 2 * (30 * 20_000 * 16 + 2 * 1_000 * 16**2) + 2 * 16**2 * (500 + 1_000)
    items = 2 * (30 * 20_000 * 16 + 2 * 500 * 16**2) + 2 * 16**2 * (500 + 1_000)
    assert found.flop == 4 * users + 3 * items
    assert found.stored == 1_500 * (16 * 4 + 10 + 4 + 12)
    assert found.driver == 3 * 1_000 * 16 * 4
    assert found.shuffled == 2 * 20_000 * 12 + 1_500 * 16 * 4


def test_als_size_shuffles_each_row_to_the_blocks_that_need_it() -> None:
    config = settings("als.factors=16", "als.iterations=1", "als.exchange=shuffle", f"als.block_bytes={1 << 20}")
    load = Load(users=50_000, items=1_000, pairs=200_000)
    plan = als_plan(load, 2, config)
    to_users = 1_000 * touched(plan.users, 200) * (16 + 1) * 4
    to_items = 50_000 * touched(plan.items, 4) * (16 + 1) * 4
    moved = als_size(load, 2, config).shuffled - 2 * 200_000 * 12 - 51_000 * 16 * 4
    assert moved == pytest.approx(2 * to_users + to_items)
    assert als_size(load, 2, config).driver == 2 * 16**2 * 8  # no factors


def test_model_bytes_are_those_of_the_weights() -> None:
    config = settings("two_tower.dim=32", "two_tower.hidden=48", "two_tower.n_buckets=64")
    towers = config.two_tower
    n_ids = id_buckets(SHOP.items, towers.max_id_buckets)
    inputs = {"users": TowerInputs((), 64), "items": TowerInputs((Field("item_id", "id"),), 64, n_ids)}
    shapes = [weight_shapes(one, shape_of(towers), has_history=side == "users") for side, one in inputs.items()]
    exact = 4 * sum(int(np.prod(shape)) for tower in shapes for shape in tower.values())
    assert model_bytes(SHOP, towers) == pytest.approx(exact, rel=0.01)  # without biases


def test_two_tower_size_counts_the_days_that_are_learnt_from() -> None:
    half = settings("two_tower.training_days=90", "interactions.window_days=180", "two_tower.epochs=2")
    whole = settings("two_tower.training_days=365", "interactions.window_days=180", "two_tower.epochs=2")
    assert two_tower_size(SHOP, whole).flop == 2 * two_tower_size(SHOP, half).flop
    longer = settings("two_tower.training_days=365", "interactions.window_days=180", "two_tower.epochs=6")
    assert two_tower_size(SHOP, longer).flop == 3 * two_tower_size(SHOP, whole).flop
