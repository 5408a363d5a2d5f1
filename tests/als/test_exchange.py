"""However the fixed side reaches its tasks, a half-iteration has one result: that of the kernel on the whole matrix."""

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.als.blocks import Side
from recsys_spark.als.exchange import (
    Factors,
    Half,
    Solved,
    hash_of,
    read_factors,
    solve_half,
    store_factors,
    sum_gramians,
)
from recsys_spark.als.kernels.objective import Ridge
from recsys_spark.warehouse.scratch import Scratch, scratch_of
from tests.als_fits import Entries, sizes_of, store_entries
from tests.als_oracle import assert_rows_near, normal_factors, oracle_row, oracle_row_loss, solved
from tests.item_cf_oracle import long_tailed

SIZE = 5
RIDGE = Ridge(alpha=2.0, regularization=0.05, nu=1.0)
EXCHANGES = ["local", "broadcast", "shuffle"]
# Of the greatest factor of a row: float32, and rotations of other blocks of rows.
TOLERANCE = 1e-4


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return scratch_of(tmp_path, "run", "als")


def _store(scratch: Scratch, factors: Factors, vectors: np.ndarray) -> list[str]:
    starts = factors.side.starts
    return [
        store_factors(scratch, factors, block, vectors[starts[block] : starts[block + 1]])
        for block in range(factors.side.n_blocks)
    ]


def test_store_factors_keeps_vectors_their_hash_and_gramians_by_kind_of_row(scratch: Scratch) -> None:
    y = normal_factors(1, 9, SIZE)
    factors = Factors(Side("items", (0, 2, 6, 7, 9), 6, {}), 4)
    hashes = _store(scratch, factors, y)
    np.testing.assert_array_equal(read_factors(scratch, factors, SIZE), y)
    assert hashes == [hash_of(scratch, factors, block) for block in range(4)]
    scratch.write(factors.gramian_name(2), np.zeros((SIZE, SIZE)))
    assert [hash_of(scratch, factors, block) == hashes[block] for block in range(4)] == [True, True, False, True]
    _store(scratch, factors, y)
    assert len(set(hashes)) == 4
    wide = y.astype(np.float64)
    for of_attributes, rows in ((False, wide[:6]), (True, wide[6:])):
        expected = rows.T @ rows
        # Sums of a few products of float32.
        found = sum_gramians(scratch, factors, of_attributes, SIZE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


def test_read_factors_of_a_side_without_rows_is_empty(scratch: Scratch) -> None:
    none = Factors(Side("items", (0,), 0, {}), 0)
    assert read_factors(scratch, none, SIZE).shape == (0, SIZE)
    assert sum_gramians(scratch, none, False, SIZE).tolist() == np.zeros((SIZE, SIZE)).tolist()


class World:
    """Stored blocks of a matrix, and the factors of its items."""

    def __init__(self, spark: SparkSession, scratch: Scratch, matrix: np.ndarray, n_blocks: int, **attributes: int):
        self.spark, self.scratch, self.matrix = spark, scratch, matrix
        entries, sizes = Entries(matrix, n_blocks), sizes_of(matrix, **attributes)
        self.users, self.items = store_entries(entries, sizes, SIZE, scratch)
        self.y = normal_factors(2, matrix.shape[1], SIZE)
        self.fixed = Factors(self.items, 0)
        _store(scratch, self.fixed, self.y)

    def solve(self, exchange: str, **settings: int) -> tuple[np.ndarray, list[Solved]]:
        """Factors of users, and what was answered."""
        half = Half(Factors(self.users, 1), self.fixed, RIDGE, **settings)
        found = solve_half(self.spark, exchange, half, SIZE, self.scratch)
        return read_factors(self.scratch, half.solved, SIZE), found


@pytest.mark.parametrize("n_blocks", [3])
def test_solve_half_gives_the_rows_of_one_process_by_every_exchange(
    spark: SparkSession, scratch: Scratch, n_blocks: int
) -> None:
    matrix = long_tailed(3, 40, 25)
    matrix[7], matrix[:, 4] = 0, 0
    world, expected = World(spark, scratch, matrix, n_blocks), solved(matrix, normal_factors(2, 25, SIZE), RIDGE)
    for exchange in EXCHANGES:
        x, answers = world.solve(exchange)
        assert_rows_near(x, expected.X, TOLERANCE)
        assert [one.block for one in answers] == list(range(world.users.n_blocks))
        np.testing.assert_allclose(sum(one.loss for one in answers), expected.losses.sum(), rtol=1e-6)
        np.testing.assert_allclose(sum(one.penalty for one in answers), expected.penalties.sum(), rtol=1e-5)
        assert [one.sha256 for one in answers] == [
            hash_of(scratch, Factors(world.users, 1), b) for b in range(n_blocks)
        ]
        of_entries = np.sum(1 + RIDGE.alpha * matrix.astype(np.float64), where=matrix > 0)
        np.testing.assert_allclose(sum(one.confidence for one in answers), of_entries, rtol=1e-12)


def test_solve_half_stores_blocks_that_nobody_sends_anything(spark: SparkSession, scratch: Scratch) -> None:
    matrix = np.zeros((12, 5), np.float32)
    world = World(spark, scratch, matrix, 1)
    for exchange in EXCHANGES:
        x, answers = world.solve(exchange)
        assert x.tolist() == np.zeros((12, SIZE)).tolist()
        assert [(one.loss, one.penalty) for one in answers] == [(0.0, 0.0)]


def test_solve_half_shows_attributes_the_entities_alone(spark: SparkSession, scratch: Scratch) -> None:
    n_users, n_items = 30, 20
    matrix = long_tailed(4, n_users + 3, n_items + 4)
    matrix[n_users:, n_items:] = 0  # attributes know nothing of attributes
    world = World(spark, scratch, matrix, 3, n_user_attributes=4, n_item_attributes=3)
    whole = [oracle_row(row, world.y, RIDGE) for row in matrix[:n_users]]
    masked = [oracle_row(row[:n_items], world.y[:n_items], RIDGE) for row in matrix[n_users:]]
    expected = np.array(whole + masked)
    losses = [oracle_row_loss(row, x, world.y, RIDGE) for row, x in zip(matrix, whole, strict=False)]
    losses += [
        oracle_row_loss(row[:n_items], x, world.y[:n_items], RIDGE)
        for row, x in zip(matrix[n_users:], masked, strict=True)
    ]
    for exchange in EXCHANGES:
        x, answers = world.solve(exchange)
        assert_rows_near(x, expected, TOLERANCE)
        np.testing.assert_allclose(sum(one.loss for one in answers), sum(losses), rtol=1e-6)


def test_solve_half_leaves_short_rows_of_entities_out(spark: SparkSession, scratch: Scratch) -> None:
    matrix = long_tailed(5, 30, 20)
    matrix[28, 3:] = 0  # an attribute with few entities
    world = World(spark, scratch, matrix, 2, n_item_attributes=2)
    assert (matrix[28] > 0).sum() < 5
    every, _ = world.solve("local")
    short = ((matrix > 0).sum(axis=1) < 5) & (np.arange(30) < 28)
    assert 0 < short.sum() < 28
    for exchange in EXCHANGES:
        x, _ = world.solve(exchange, at_least=5)
        assert_rows_near(x, np.where(short[:, None], 0, every), TOLERANCE)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_solve_half_adds_short_rows_to_those_of_an_earlier_half(
    spark: SparkSession, scratch: Scratch, exchange: str
) -> None:
    matrix = long_tailed(6, 30, 20)
    world = World(spark, scratch, matrix, 2, n_item_attributes=2)
    every, _ = world.solve("local")
    earlier = normal_factors(7, 30, SIZE)
    _store(scratch, Factors(world.users, 0), earlier)
    short = ((matrix > 0).sum(axis=1) < 5) & (np.arange(30) < 28)
    x, _ = world.solve(exchange, at_least=5, only_below=0)
    np.testing.assert_array_equal(x[~short], earlier[~short])
    assert_rows_near(x[short], every[short], TOLERANCE)
