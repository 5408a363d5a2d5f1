"""Finished lists of a block of users, changed: other entries at other places, and more reasons.

Owns: the arithmetic of such changes on flat arrays.

Letters: n_users users of the block, n_* counts.
"""

from dataclasses import replace

import numpy as np

from recsys_spark.kernels.blend import Fused


def relist(fused: Fused, added: np.ndarray, scores: np.ndarray, picked: np.ndarray, lengths: np.ndarray) -> Fused:
    """Lists of the entries `picked`, int64, best first and user by user, `lengths` of them, int64 (n_users,).

    Entries are those of `fused` and, from its end on, those of the items `added`, (n_added,), which have no reasons
    yet.  scores: float32 (n_entries + n_added,), those of all.
    """
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.append(fused.source_indptr, np.full(len(added), fused.source_indptr[-1]))
    sources, n_sources = spread(ends, picked)
    return Fused(
        indptr=indptr,
        items=np.concatenate([fused.items, added]).astype(np.int32)[picked],
        ranks=(np.arange(len(picked)) - np.repeat(indptr[:-1], lengths) + 1).astype(np.int32),
        scores=scores[picked],
        source_indptr=np.concatenate([[0], np.cumsum(n_sources)]),
        columns=fused.columns[sources],
        source_ranks=fused.source_ranks[sources],
        source_scores=fused.source_scores[sources],
    )


def raised(fused: Fused) -> Fused:
    """`fused` with every score raised to the highest after it in its list."""
    lengths = np.diff(fused.indptr)
    filled = np.arange(int(lengths.max(initial=0))) < lengths[:, None]  # (n_users, longest)
    heights = np.zeros(filled.shape, np.float32)
    heights[filled] = fused.scores
    return replace(fused, scores=np.maximum.accumulate(heights[:, ::-1], axis=1)[:, ::-1][filled])


def with_reasons(
    fused: Fused, entries: np.ndarray, columns: np.ndarray, ranks: np.ndarray, scores: np.ndarray
) -> Fused:
    """`fused` with one more reason at the end of those of each of `entries`, int64, ascending."""
    at = fused.source_indptr[entries + 1]
    added = np.searchsorted(entries, np.arange(len(fused.source_indptr)))
    return replace(
        fused,
        source_indptr=fused.source_indptr + added,
        columns=np.insert(fused.columns, at, columns),
        source_ranks=np.insert(fused.source_ranks, at, ranks),
        source_scores=np.insert(fused.source_scores, at, scores),
    )


def spread(indptr: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of all that `groups` hold, laid end to end, and how many each holds; both int64."""
    lengths = np.diff(indptr)[groups]
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(indptr[groups] - (ends - lengths), lengths), lengths
