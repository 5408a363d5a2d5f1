"""Rows are dealt out by work, and every block is stored as it is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.als.blocks import Side, Sizes, are_stored, dealt_out, read_block, side_blocks_for
from recsys_spark.als.kernels.objective import row_costs
from recsys_spark.numeric.sparse import Csr
from recsys_spark.warehouse.scratch import Scratch, scratch_of
from tests.als_fits import blocks_of, make_pairs, sizes_of
from tests.item_cf_oracle import long_tailed

BINS = 4096  # ranges of rows that are counted


def _counts(lengths: np.ndarray) -> np.ndarray:
    """Entries of the ranges that make up all rows."""
    width = max(1, -(-len(lengths) // BINS))
    return np.add.reduceat(lengths, np.arange(0, len(lengths), width)) if len(lengths) else np.empty(0, np.int64)


def _block_costs(lengths: np.ndarray, starts: tuple[int, ...], factors: int) -> np.ndarray:
    return np.array([row_costs(lengths[a:b].sum(), b - a, factors) for a, b in pairwise(starts)])


@settings(deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(0, 30), st.integers(0, 100_000)), max_size=300),
    n_blocks=st.integers(1, 40),
    share=st.floats(0, 1),
    factors=st.sampled_from([1, 16, 128]),
)
def test_dealt_out_covers_every_row_once_in_blocks_of_about_equal_cost(
    lengths: list[int], n_blocks: int, share: float, factors: int
) -> None:
    rows = np.array(lengths, np.int64)
    n_entities = round(share * len(rows))
    starts = dealt_out(_counts(rows), len(rows), n_entities, n_blocks, factors)
    assert starts[0] == 0
    assert starts[-1] == len(rows)
    assert all(a < b for a, b in pairwise(starts))
    assert n_entities in starts
    assert len(starts) - 1 <= n_blocks + 1  # one more where entities and attributes meet
    costs, of_rows = _block_costs(rows, starts, factors), row_costs(rows, np.ones(len(rows)), factors)
    # A block ends with the row that brings it to its share, or before.
    bound = of_rows.sum() / n_blocks + of_rows.max(initial=0.0)
    assert (costs <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("n_rows", [BINS - 1, BINS, BINS + 1, 3 * BINS + 17])
def test_dealt_out_of_more_rows_than_it_counts_singly_is_even_up_to_one_range(n_rows: int) -> None:
    lengths = np.random.default_rng(1).integers(0, 50, n_rows)
    starts = dealt_out(_counts(lengths), n_rows, n_rows, 8, 16)
    assert (starts[0], starts[-1], len(starts)) == (0, n_rows, 9)
    costs = _block_costs(lengths, starts, 16)
    # Ranges of up to four rows, none of more than 49 entries.
    assert costs.max() <= costs.mean() + row_costs(4 * 49, 4, 16)


def test_dealt_out_gives_a_user_with_fifty_times_the_entries_no_block_of_twice_the_mean() -> None:
    """Fault matrix: skew."""
    lengths = np.full(2_000, 20)
    lengths[700] = 50 * 20
    starts = dealt_out(_counts(lengths), 2_000, 2_000, 8, 64)
    costs = _block_costs(lengths, starts, 64)
    assert len(costs) == 8
    assert costs.max() <= 2 * costs.mean()
    by_rows = _block_costs(lengths, tuple(range(0, 2_001, 250)), 64)
    assert costs.max() < by_rows.max()


@pytest.mark.parametrize(
    ("n_rows", "n_entities", "starts"), [(0, 0, (0,)), (4, 0, (0, 4)), (4, 4, (0, 4)), (4, 3, (0, 3, 4))]
)
def test_dealt_out_of_empty_sides_has_no_empty_block(n_rows: int, n_entities: int, starts: tuple[int, ...]) -> None:
    assert dealt_out(np.zeros(n_rows, np.int64), n_rows, n_entities, 1, 4) == starts


def test_side_tells_blocks_of_attributes_from_those_of_entities() -> None:
    side = Side("users", (0, 3, 5, 6, 9), 5, {})
    assert (side.n_rows, side.n_blocks) == (9, 4)
    assert side.blocks(of_attributes=False) == [0, 1]
    assert side.blocks(of_attributes=True) == [2, 3]


def _dense(block: Csr) -> np.ndarray:
    found = np.zeros((block.n_rows, block.n_cols), np.float32)
    found[block.rows, block.indices] = block.values
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return scratch_of(tmp_path, "run", "als")


@pytest.mark.parametrize("n_blocks", [1, 3, 7])
def test_fit_blocks_stores_both_sides_of_the_matrix(spark: SparkSession, scratch: Scratch, n_blocks: int) -> None:
    matrix = long_tailed(1, 40, 25)
    matrix[10:25] = 0  # more than a block
    users, items = blocks_of(make_pairs(spark, matrix, 3), sizes_of(matrix, 2, 4), 5, 1 << 28, n_blocks, scratch)
    for side, expected, n_entities in ((users, matrix, 36), (items, matrix.T, 23)):
        blocks = [read_block(scratch, side, block, expected.shape[1]) for block in range(side.n_blocks)]
        np.testing.assert_array_equal(np.concatenate([_dense(block) for block in blocks]), expected)
        assert side.n_entities == n_entities
        assert n_entities in side.starts
        assert side.filled.keys() == {number for number, block in enumerate(blocks) if len(block.values)}
        assert all((np.diff(block.indices)[np.diff(block.rows) == 0] > 0).all() for block in blocks)
        assert are_stored(side, scratch)


def test_fit_blocks_makes_more_blocks_where_matrix_or_factors_are_large(spark: SparkSession, scratch: Scratch) -> None:
    matrix = long_tailed(2, 60, 20)
    pairs, n_pairs = make_pairs(spark, matrix), np.count_nonzero(matrix)
    of_pairs = blocks_of(pairs, sizes_of(matrix), 1, -(-n_pairs * 104 // 4), 0, scratch)[0]  # 104 bytes of a pair
    assert of_pairs.n_blocks == 4
    of_rows = blocks_of(make_pairs(spark, matrix[:, :1]), Sizes(60, 1, 60, 1), 1000, 60 * 1000 * 12 // 3, 0, scratch)
    assert [side.n_blocks for side in of_rows] == [3, 1]


def test_are_stored_misses_what_is_gone_and_what_is_damaged(spark: SparkSession, scratch: Scratch) -> None:
    matrix = long_tailed(3, 12, 8)
    users, items = blocks_of(make_pairs(spark, matrix), sizes_of(matrix), 5, 1 << 28, 1, scratch)
    path = scratch.folder / "items-00000-weights.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert (are_stored(users, scratch), are_stored(items, scratch)) == (True, False)
    (scratch.folder / "users-00000-cols.npy").unlink()
    assert not are_stored(users, scratch)


def test_side_blocks_for_makes_room_for_the_factors_of_many_rows() -> None:
    few_entries, million = 10, 1_000_000
    assert side_blocks_for(2, few_entries, million, 64, 64 * 12 * 10_000) == million // 10_000
    assert side_blocks_for(2, few_entries, 10, 64, 1 << 30) == 1
