"""Blocks cover the items once, in order, balanced, and none holds more than it may unless it is one item."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.item_cf.kernels.row_products import item_blocks

WIDE = 1 << 40


def _fits(block: range, products: np.ndarray, n_entries: int, block_bytes: int) -> bool:
    rows = min(sum(min(int(products[item]), n_entries) * 8 for item in block), n_entries * 8)
    sums = sum(min(int(products[item]), len(products)) * 16 for item in block)
    return len(block) * 3 * 8 <= block_bytes and (rows <= block_bytes or sums <= block_bytes)


@given(
    products=st.lists(st.integers(0, 50), min_size=0, max_size=40),
    n_blocks=st.integers(1, 12),
    block_bytes=st.integers(1, 2000),
)
def test_item_blocks_cover_all_items_once_and_fit(products: list[int], n_blocks: int, block_bytes: int) -> None:
    array = np.array(products, np.int64)
    blocks = item_blocks(array, 60, 3, n_blocks, block_bytes)
    assert [item for block in blocks for item in block] == list(range(len(products)))
    assert all(len(block) > 0 for block in blocks)
    assert all(len(block) == 1 or _fits(block, array, 60, block_bytes) for block in blocks)


@pytest.mark.parametrize("n_blocks", [1, 4, 10])
def test_item_blocks_share_the_work_equally(n_blocks: int) -> None:
    products = np.random.default_rng(1).integers(1, 100, 2000)
    blocks = item_blocks(products, 10_000, 3, n_blocks, WIDE)
    work = [products[block.start : block.stop].sum() for block in blocks]
    assert len(blocks) == n_blocks
    assert max(work) <= products.sum() / n_blocks + 100


def test_item_blocks_leave_an_item_that_does_not_fit_alone() -> None:
    # 100 products are 800 bytes of rows or 5 x 16 of sums; neither fits into 70.
    blocks = item_blocks(np.array([1, 2, 100, 2, 1]), 1000, 1, 1, 70)
    assert range(2, 3) in blocks


def test_item_blocks_take_a_popular_item_by_its_sums() -> None:
    # Its users' rows are 8000 bytes, its sums with 5 items 80: it may share a block.
    assert item_blocks(np.array([1, 2, 1000, 2, 1]), 5000, 1, 1, 200) == [range(5)]


def test_item_blocks_are_cut_where_their_lists_would_not_fit() -> None:
    # 10 places of 8 bytes for each item: three items are 240 bytes.
    blocks = item_blocks(np.ones(7, np.int64), 7, 10, 1, 240)
    assert [len(block) for block in blocks] == [3, 3, 1]


def test_item_blocks_whose_sums_are_kept_are_cut_where_these_would_not_fit() -> None:
    # All rows together are 160 bytes; the sums of an item, with 5 items at most, are 80.
    assert item_blocks(np.array([9, 9, 9, 9, 9]), 20, 1, 1, 200) == [range(5)]
    assert [len(one) for one in item_blocks(np.array([9, 9, 9, 9, 9]), 20, 1, 1, 200, keeps_sums=True)] == [2, 2, 1]
