"""Lists of a block of users with explored items at their places, and their propensities in the provenance.

Owns: that arithmetic.  Which items are explored for whom is in `explore`.
"""

import numpy as np

from recsys_spark.kernels.blend import Fused
from recsys_spark.kernels.explore import Explored, merge_explored
from recsys_spark.kernels.fused_lists import relist, with_reasons


def with_explored(fused: Fused, explored: Explored, ranks: np.ndarray, k: int, column: int) -> Fused:
    """`fused` with the explored items at `ranks`, int64 (>= m,), from 1; lists of at most k.

    The provenance of an explored item is `column` alone, its number among the user's from 1 as source rank and its
    propensity as source score.  Its fused score is 0: nothing is known of it that could be compared.
    """
    merged = merge_explored(fused.indptr, explored, ranks, k)
    is_explored = merged.from_explored >= 0
    rows, numbers = np.divmod(merged.from_explored[is_explored], max(1, explored.items.shape[1]))
    items, propensities = explored.items[rows, numbers], explored.propensities[rows, numbers]
    picked = merged.from_list.copy()
    picked[is_explored] = len(fused.items) + np.arange(len(items))
    scores = np.concatenate([fused.scores, np.zeros(len(items), np.float32)])
    listed = relist(fused, items, scores, picked, np.diff(merged.indptr))
    entries = np.flatnonzero(is_explored)
    return with_reasons(listed, entries, np.full(len(entries), column), numbers + 1, propensities)
