"""Lists of single users as records of `source_candidates`.

Owns: the form in which a source's lists leave a task.  Called by the adapters that score users.
"""

import numpy as np
import pyarrow as pa

from recsys_spark.numeric.ranked import Ranked
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.spark_check import spark_type
from recsys_spark.warehouse.tables import RANKED_IDX

USER_LISTS = (
    f"source string, user_idx int, segment string, items {spark_type(RANKED_IDX).simpleString()}, n_own int, "
    "mean double, deviation double"
)


def user_lists(
    source: str,
    users: np.ndarray,
    lists: Ranked,
    n_own: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    deviation: np.ndarray | None = None,
) -> pa.RecordBatch:
    """A record per list that is not empty; users: user_idx of each, (n,).

    n_own: of each list the entries that the source itself proposes, int32 (n,); None: all.  mean, deviation: of each
    user's scores over all items, float64 (n,); None: not known.
    """
    lengths = np.diff(lists.indptr)
    filled = np.flatnonzero(lengths)
    listed = arrow_type(RANKED_IDX)
    ranks = np.arange(len(lists.indices)) - np.repeat(lists.indptr[:-1], lengths) + 1
    entries = pa.StructArray.from_arrays(
        [pa.array(lists.indices), pa.array(ranks.astype(np.int32)), pa.array(lists.scores)],
        fields=list(listed.value_type),
    )
    offsets = np.append(lists.indptr[:-1][filled], lists.indptr[-1]).astype(np.int32)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([source] * len(filled), pa.string()),
            pa.array(users[filled].astype(np.int32)),
            pa.nulls(len(filled), pa.string()),
            pa.ListArray.from_arrays(pa.array(offsets), entries, type=listed),
            *(
                pa.nulls(len(filled), kind) if column is None else pa.array(column[filled], kind)
                for column, kind in ((n_own, pa.int32()), (mean, pa.float64()), (deviation, pa.float64()))
            ),
        ],
        names=["source", "user_idx", "segment", "items", "n_own", "mean", "deviation"],
    )
