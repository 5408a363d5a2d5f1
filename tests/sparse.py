"""Sparse matrices from pairs, as tests and benchmarks have them."""

import numpy as np

from recsys_spark.numeric.sparse import Csr


def csr_of_pairs(rows: np.ndarray, cols: np.ndarray, values: np.ndarray, n_rows: int, n_cols: int) -> Csr:
    """The matrix with `values` at (rows, cols), which are unique pairs in any order."""
    order = np.lexsort((cols, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))]).astype(np.int64)
    return Csr(indptr, cols[order].astype(np.int32), values[order].astype(np.float32), n_cols)
