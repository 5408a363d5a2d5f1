"""Validation metrics of a two-tower model in training, and its hard negatives.

Owns: validation recall and ndcg, and the choice of hard items.
"""

import numpy as np

from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import Ragged, offsets
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import Items, top_k
from recsys_spark.two_tower.kernels.batches import NONE, Shard, after_split, entries_of

_BLOCK_BYTES = 64 << 20


def validated_rows(shard: Shard, validated: np.ndarray, split_time: int) -> np.ndarray:
    """Users of `validated` (n,) with a past before the split and something new after it."""
    candidates = np.flatnonzero(validated)
    split = after_split(shard, candidates, split_time)
    engaged = offsets(shard.weights > 0)
    has_targets = engaged[split] > engaged[shard.indptr[candidates]]
    return np.asarray(candidates[has_targets & (split < shard.indptr[candidates + 1])])


def validated_metrics(
    shard: Shard, rows: np.ndarray, split_time: int, users: np.ndarray, items: Items, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and ndcg at k of what the users `rows` engaged with after the split, (n,) each.

    users: float32 (n, d), their embeddings as of the split.  Lists hold nothing that a user had before it.
    """
    split = after_split(shard, rows, split_time)
    hidden = _part(shard, split, shard.indptr[rows + 1] - split, items)
    lists = top_k(users, items, k, hidden, _BLOCK_BYTES)
    begin = shard.indptr[rows]
    places = entries_of(begin, split - begin)
    wanted = shard.weights[places] > 0
    owner = np.repeat(np.arange(len(rows)), split - begin)[wanted]
    counts = np.bincount(owner, minlength=len(rows))
    targets = Ragged(offsets(counts), shard.items[places][wanted].astype(np.int64))
    found = Ragged(lists.indptr, lists.indices.astype(np.int64))
    return recall_at_k(found, targets, k), ndcg_at_k(found, targets, k)


def hard_items(shard: Shard, users: np.ndarray, items: Items, n_items: int) -> np.ndarray:
    """What every user was shown, then the `n_items` best items that they never had, int32 (n, S + n_items)."""
    hidden = _part(shard, shard.indptr[:-1], np.diff(shard.indptr), items)
    lists = top_k(users, items, n_items, hidden, _BLOCK_BYTES)
    found = np.full((len(shard.users), n_items), NONE, np.int32)
    lengths = np.diff(lists.indptr)
    found[np.arange(n_items)[None] < lengths[:, None]] = lists.indices
    return np.concatenate([shard.shown, found], axis=1)


def _part(shard: Shard, begin: np.ndarray, lengths: np.ndarray, items: Items) -> Csr:
    """What users had, as rows of items to be left out, in any order: the search does not need one."""
    indptr = offsets(lengths)
    return Csr(indptr, shard.items[entries_of(begin, lengths)], np.empty(0, np.float32), len(items.places))
