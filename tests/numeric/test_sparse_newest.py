"""A cap keeps the newest of every row."""

import numpy as np

from recsys_spark.numeric.sparse import newest_entries

INDPTR = np.array([0, 3, 3, 7])
INDICES = np.array([0, 1, 2, 0, 4, 5, 9], np.int32)
TIMES = np.array([5, 9, 7, 1, 1, 1, 1])


def test_newest_entries_keeps_the_newest_of_every_row() -> None:
    assert newest_entries(INDPTR, INDICES, TIMES, 2)[:3].tolist() == [False, True, True]


def test_newest_entries_breaks_ties_by_the_smaller_index() -> None:
    assert newest_entries(INDPTR, INDICES, TIMES, 2)[3:].tolist() == [True, True, False, False]


def test_newest_entries_keeps_all_of_a_short_row() -> None:
    assert newest_entries(INDPTR, INDICES, TIMES, 4).all()
    assert newest_entries(np.array([0]), INDICES[:0], TIMES[:0], 4).tolist() == []
