"""Broadcasts: what the driver collects and sends to every worker, and how large that may become.

Owns: the bounds, and the collection of lists by index.
"""

from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import BoundExceeded
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked

# Ten million ids of 25 bytes; every Python worker holds one copy.
MAX_ID_BYTES = 256 << 20
# 33 million entries of lists by index: 100 neighbours of 330,000 items; every Python worker holds one copy.
MAX_LISTS_BYTES = 256 << 20

LISTED_BYTES = 8  # an index and a score


def check_bytes(where: str, what: str, n_bytes: int, bound: int, setting: str) -> None:
    """Raises BoundExceeded if what the driver collects and every worker is sent is larger than its bound."""
    if n_bytes > bound:
        raise BoundExceeded(
            f"{where}: expected at most {bound} bytes of {what}, got {n_bytes}; lower {setting}, or raise the bound "
            "in the code together with the memory of the driver and the workers"
        )


def fit_lists(lists: DataFrame, n_lists: int, setting: str) -> Ranked:
    """The lists on the driver, list i of index i, empty where there is no row.

    lists: idx (int, below n_lists), indices (array<int>), scores (array<float>).  Raises KernelError if they have
    more than MAX_LISTS_BYTES; `setting` is what to lower then.
    """
    lists = lists.select("idx", "indices", "scores").persist()
    size: Any = lists.agg(F.sum(F.size("indices").cast("long") * LISTED_BYTES).alias("n_bytes")).first()
    check_bytes("retrieve", "lists to score with", size["n_bytes"] or 0, MAX_LISTS_BYTES, setting)
    table = lists.toArrow().sort_by("idx").combine_chunks()
    lists.unpersist()
    lengths = np.zeros(n_lists, np.int64)
    lengths[table["idx"].to_numpy()] = table["indices"].combine_chunks().value_lengths().to_numpy()
    indices, scores = (table[name].combine_chunks().flatten().to_numpy() for name in ("indices", "scores"))
    return Ranked(offsets(lengths), indices.astype(np.int32), scores.astype(np.float32))
