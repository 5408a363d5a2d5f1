"""Lists in Arrow as offsets and flat values.

Owns: what a null is: an empty list.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.numeric.ragged import Ragged, offsets


def ragged_of(lists: pa.Array) -> Ragged:
    """Lists of item indices; a null is empty."""
    return Ragged(indptr_of(lists), flat_of(lists).astype(np.int64))


def indptr_of(lists: pa.Array) -> np.ndarray:
    """Where each list begins, and the end of the last, int64 (n_lists + 1,); a null is empty."""
    return offsets(lengths_of(lists))


def lengths_of(lists: pa.Array) -> np.ndarray:
    """Length of every list, 0 for null, int64."""
    lengths: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def flat_of(lists: pa.Array) -> np.ndarray:
    """The values of all lists, laid end to end."""
    values: np.ndarray = lists.flatten().to_numpy(zero_copy_only=False)
    return values
