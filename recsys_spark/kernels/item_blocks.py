"""Cuts the items into blocks of equal work that each fit into a task's memory.

Owns: the plan of the distributed row products.
"""

import numpy as np

ENTRY_BYTES = 8  # of a user's row: an index and a value
LISTED_BYTES = 8  # of a place in a list: an index and a score
SUM_BYTES = 16  # of a co-occurrence that waits for more users: index, sum and count


def item_blocks(
    products: np.ndarray,
    n_entries: int,
    num_neighbors: int,
    n_blocks: int,
    block_bytes: int,
    keeps_sums: bool = False,
) -> list[range]:
    """Ranges of items, in their order, all items once: about `n_blocks` of equal work, more if they would not fit.

    products: int64 (n_items,), products that the row of each item is made of: the lengths of its users' rows, summed.
    n_entries: entries of the whole matrix.
    A block fits if its lists are at most `block_bytes`, and either the rows of its users surely are, and so are read at
    once, or all the sums that it can come to are, while its users pass by in chunks.  An item that fits neither way has
    a block alone.  keeps_sums: the sums are what is asked for, so they must fit.
    """
    n_items = len(products)
    rows = np.minimum(products, n_entries) * ENTRY_BYTES
    sums = np.minimum(products, n_items) * SUM_BYTES
    target = max(1.0, products.sum() / max(1, n_blocks))
    blocks: list[range] = []
    first, work, row_bytes, sum_bytes = 0, 0, 0, 0
    for item in range(n_items):
        read_at_once = min(row_bytes + rows[item], n_entries * ENTRY_BYTES) <= block_bytes
        lists_fit = (item + 1 - first) * num_neighbors * LISTED_BYTES <= block_bytes
        fits = lists_fit and ((read_at_once and not keeps_sums) or sum_bytes + sums[item] <= block_bytes)
        # A block ends where one more item would take it further from the target than it is.
        too_much = work and work + products[item] / 2 > target
        if item > first and (too_much or not fits):
            blocks.append(range(first, item))
            first, work, row_bytes, sum_bytes = item, 0, 0, 0
        work, row_bytes, sum_bytes = work + products[item], row_bytes + rows[item], sum_bytes + sums[item]
    return [*blocks, range(first, n_items)] if n_items else []
