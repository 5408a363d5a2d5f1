"""Ranked lists of a few items, for tests of kernels."""

import numpy as np

from recsys_spark.blend.kernels.walks import RankedLists
from recsys_spark.numeric.ragged import ragged


def ranked(lists: list[list[int]]) -> RankedLists:
    """The lists, scored so that list i's item at place j has 100 - j + i / 8."""
    rows = ragged(lists)
    places = np.concatenate([np.arange(len(one)) for one in lists] or [[]])
    return RankedLists(rows.indptr, rows.values.astype(np.int32), (100 - places + rows.rows / 8).astype(np.float32))
