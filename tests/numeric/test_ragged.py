"""Rows of different length, and where an item of one stands in another."""

import numpy as np

from recsys_spark.numeric.ragged import find_in_rows, ragged, row_offsets


def test_ragged_keeps_rows_apart() -> None:
    rows = ragged([[3, 1], [], [2]])
    assert rows.indptr.tolist() == [0, 2, 2, 3]
    assert rows.values.tolist() == [3, 1, 2]
    assert rows.rows.tolist() == [0, 0, 2]


def test_ragged_head_cuts_every_row() -> None:
    head = ragged([[3, 1, 4], [], [2]]).head(2)
    assert head.indptr.tolist() == [0, 2, 2, 3]
    assert head.values.tolist() == [3, 1, 2]


def test_find_in_rows_gives_the_place_in_the_same_row() -> None:
    # 7 stands in the other row only, and an unknown item is never the same as another.
    lists, others = ragged([[5, 7, -1], [7]]), ragged([[-1, 5], [0, 7]])
    assert find_in_rows(lists, others).tolist() == [1, -1, -1, 3]


def test_find_in_rows_takes_no_unknown_item_for_the_largest_of_the_row_before() -> None:
    assert find_in_rows(ragged([[9], []]), ragged([[0], [-1]])).tolist() == [-1]


def test_find_in_rows_finds_nothing_among_empty_rows() -> None:
    assert find_in_rows(ragged([[5], [-1]]), ragged([[], []])).tolist() == [-1, -1]


def test_row_offsets_count_the_entries_of_each_row_empty_ones_too() -> None:
    assert row_offsets(np.array([0, 0, 2]), 4).tolist() == [0, 2, 2, 3, 3]
