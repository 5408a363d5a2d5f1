"""The newest entries of every sparse row.

Owns: what a cap per user keeps.  Called by `adapters.item_cf` and `adapters.personal`.
"""

import numpy as np


def newest_entries(indptr: np.ndarray, indices: np.ndarray, times: np.ndarray, n_newest: int) -> np.ndarray:
    """Whether an entry is among the `n_newest` of its row, bool (n,), ties by the smaller index.

    indptr: (n_rows + 1,).  times: (n,), larger is newer.
    """
    kept = np.ones(len(indices), bool)
    lengths = np.diff(indptr)
    # Few rows are long, whatever the matrix; the others are not looked at.
    for row in np.flatnonzero(lengths > n_newest):
        entries = slice(indptr[row], indptr[row + 1])
        newest_first = np.lexsort((indices[entries], -times[entries]))
        kept[indptr[row] + newest_first[n_newest:]] = False
    return kept
