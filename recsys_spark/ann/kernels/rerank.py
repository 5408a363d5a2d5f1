"""Exact re-scoring of the candidates that an approximate search of one shard found.

Owns: the re-scoring.  Scores have the same bits as those of `numeric.top_k`, so that lists can be compared and merged.

Letters: n queries, r candidates of each, m vectors of the shard, f length of a vector.
"""

import numpy as np
from numba import njit

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ranked import Ranked, offer, ranked_of_rows, sort_best_first
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import exact_dot

_NONE = -1


def rerank(
    queries: np.ndarray, candidates: np.ndarray, ids: np.ndarray, vectors: np.ndarray, hidden: Csr | None, k: int
) -> Ranked:
    """The k candidates of each query with the highest dot product, ties by the smaller idx; fewer if there are fewer.

    queries: float32 (n, f); one of zeros says nothing and gets an empty list.  candidates: int64 (n, r), idx of items,
    each at most once in a row, -1 for none.  ids: int64 (m,), ascending.  vectors: float32 (m, f), of `ids`; may be
    mapped.  hidden: (n, n_items), by idx, the items that a query is not given; its values do not matter.
    Raises KernelError if a candidate is not in `ids`, or a score may be too large for float32.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    n = len(queries)
    if hidden is None:
        hidden = Csr(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), 0)
    candidates = np.sort(candidates, axis=1)  # so that vectors are read from one end to the other
    places = np.searchsorted(ids, candidates)  # (n, r)
    known = np.append(ids, _NONE)[places] == candidates
    if strange := candidates[~known & (candidates != _NONE)].tolist():
        raise KernelError(
            f"rerank: expected candidates among the {len(ids)} items of the shard, got {len(strange)} others, e.g. idx "
            f"{strange[0]}; build the index and its vectors in the same run"
        )
    lengths, indices, scores = _rank(queries, candidates, places, vectors, hidden, min(k, candidates.shape[1]))
    if lengths.min(initial=0) < 0:
        raise KernelError(
            "rerank: expected finite vectors with scores that float32 can hold, got others; correct the step that made "
            "them, or scale them down"
        )
    return ranked_of_rows(lengths, indices, scores)


@njit(cache=True, nogil=True)
def _rank(
    queries: np.ndarray, candidates: np.ndarray, places: np.ndarray, vectors: np.ndarray, hidden: Csr, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths int64 (n,), -1 where a score is not finite, and the lists; candidates ascend as hidden items do."""
    n = len(queries)
    lengths, folded = np.zeros(n, np.int64), np.empty(queries.shape[1] // 4)
    indices, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    for row in range(n):
        if k == 0 or not queries[row].any():
            continue
        entry, end = hidden.indptr[row], hidden.indptr[row + 1]
        size = 0
        for at in range(candidates.shape[1]):
            item = candidates[row, at]
            while entry < end and hidden.indices[entry] < item:
                entry += 1
            if item < 0 or (entry < end and hidden.indices[entry] == item):
                continue
            score = np.float32(exact_dot(queries[row], vectors[places[row, at]], folded))
            if not np.isfinite(score):
                size = -1
                break
            size = offer(indices[row], scores[row], size, item, score)
        sort_best_first(indices[row], scores[row], size)
        lengths[row] = size
    return lengths, indices, scores
