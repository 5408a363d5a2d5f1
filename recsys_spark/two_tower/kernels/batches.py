"""Training batches of the two-tower model: users, an item that each engaged with, their history, and negatives.

Owns: which engagements are examples, what the model is told of a user beside each, who is held out to validate on, how
negatives are drawn (uniformly, or by popularity), and how often each item is expected in a draw (logQ).

A shard holds whole histories, newest first, one entry per user and item.  An entry is an example if it has weight; the
user's newest *other* entries are its history, also those of the same basket and later ones: what is had together says
most of what belongs together, and a history that ends before the example never shows it (leave-one-out, as in
Steck 2019, "Embarrassingly shallow autoencoders").  Of validated users nothing from the split on is in either, so the
validation looks ahead as serving does.  Letters: n users, N entries, B examples, R random and H hard negatives each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from recsys_spark.numeric.hashing import mix64
from recsys_spark.numeric.ragged import offsets
from recsys_spark.two_tower.kernels.inputs import Encoded

# Exponent of popularity in the second distribution (Mikolov et al. 2013, section 2.2).
_POWER = 0.75


NONE = -1  # in the place of an item


def proposal(share: np.ndarray, had: np.ndarray, kind: Literal["uniform", "popularity"]) -> np.ndarray:
    """How probable each item is in a draw, float64 (n_items,): the same for all, or as share ** 0.75.

    share: of each item in the examples.  had: whether anybody ever had it, bool (n_items,).  An item that nobody
    had is not drawn: nobody had the choice, and a model that learns to reject it rejects whatever is new.
    """
    if kind == "uniform":
        return np.asarray(had / max(1, had.sum()), np.float64)
    powers = share**_POWER
    return np.asarray(powers / powers.sum())


def draw(rng: np.random.Generator, probabilities: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Items drawn with replacement, int32."""
    bounds = np.cumsum(probabilities)
    found = np.searchsorted(bounds, rng.random(shape) * bounds[-1], side="right")
    return np.asarray(np.minimum(found, len(probabilities) - 1), np.int32)


def expected_log_counts(share: np.ndarray, n_in_batch: int, probabilities: np.ndarray, n_random: int) -> np.ndarray:
    """log Q_j: log of how often item j is expected among `n_in_batch` positives of others and `n_random` draws.

    Both samplers count together: an item then has the same weight whichever drew it, and on average the sum of
    exp(s_j) / Q_j over all that were drawn is the sum of exp(s_j) over all items.  float32 (n_items,).
    """
    expected = n_in_batch * share + n_random * probabilities
    return np.asarray(np.log(np.maximum(expected, np.finfo(np.float32).tiny)), np.float32)


class Shard(NamedTuple):
    """Users with their histories.

    users: int32 (n,), user_idx.  indptr: int64 (n + 1,).  items: int32 (N,), by user newest first, ties by the smaller
    idx.  times: int64 (N,), microseconds, of the last engagement.  weights: float32 (N,), of an entry as an example, 0:
    history alone.  shown: int32 (n, S), items shown and not engaged with, NONE where there are fewer.  encoded: (n,).
    """

    users: np.ndarray
    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray
    weights: np.ndarray
    shown: np.ndarray
    encoded: Encoded


@dataclass(frozen=True)
class Draws:
    """The negatives of an example, beside the wanted items of the other examples of the batch.

    probabilities: float64 (n_items,), of a random draw.  n_random, n_hard: how many for each example.
    """

    probabilities: np.ndarray
    n_random: int
    n_hard: int


class Batch(NamedTuple):
    """Examples of one shard.

    rows: places of the users in the shard, int64 (B,).  entries: those of the examples among its entries, int64 (B,).
    positive: int32 (B,).  weights: float32 (B,).  starts, lengths: where what is known of each user begins among the
    entries, and how many others are the history, int64 (B,).  random: int32 (B, R).  hard: int32 (B, H).
    """

    rows: np.ndarray
    entries: np.ndarray
    positive: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    random: np.ndarray
    hard: np.ndarray

    def part(self, rank: int, world_size: int) -> "Batch":
        """The examples of one process of many."""
        return Batch(*(values[rank::world_size] for values in self))


def held_out(users: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Whether a user is validated on, bool (n,): about `share` of them, the same for a seed wherever they are."""
    mixed = mix64(users.astype(np.uint64) + np.uint64(seed % (1 << 63)) + np.uint64(0x9E3779B97F4A7C15))
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 < share)


def after_split(shard: Shard, rows: np.ndarray, split_time: int) -> np.ndarray:
    """Where the history before `split_time` of each of the users `rows` begins, int64 (n,)."""
    newer = offsets(shard.times >= split_time)
    # Newest first: what is not older than the split stands in front.
    begin = shard.indptr[rows]
    return np.asarray(begin + newer[shard.indptr[rows + 1]] - newer[begin])


def known_from(shard: Shard, validated: np.ndarray, split_time: int) -> np.ndarray:
    """Where what may be learnt of each user begins among the entries, int64 (n,): if `validated` (n,), at the split."""
    return np.where(validated, after_split(shard, np.arange(len(shard.users)), split_time), shard.indptr[:-1])


def examples_of(shard: Shard, known: np.ndarray) -> np.ndarray:
    """Entries that are examples, ascending; known: where each user's may begin (`known_from`)."""
    return np.flatnonzero(
        (shard.weights > 0) & (np.arange(len(shard.items)) >= np.repeat(known, np.diff(shard.indptr)))
    )


def batches_of(
    shard: Shard,
    known: np.ndarray,
    hard: np.ndarray | None,
    draws: Draws,
    history_items: int,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """The examples in random order, at most `batch_size` at a time.

    known: where what may be learnt of each user begins, (n,).  hard: int32 (n, M), hard negatives of each user, NONE
    where there are fewer.
    """
    user = np.repeat(np.arange(len(shard.users)), np.diff(shard.indptr))
    order = rng.permutation(examples_of(shard, known))
    for first in range(0, len(order), batch_size):
        entries = order[first : first + batch_size]
        rows = user[entries]
        starts = known[rows]
        lengths = np.minimum(shard.indptr[rows + 1] - starts - 1, history_items)
        chosen = np.full((len(entries), 0), NONE, np.int32)
        if hard is not None and draws.n_hard and hard.shape[1]:
            columns = rng.integers(0, hard.shape[1], (len(entries), draws.n_hard))
            chosen = hard[rows[:, None], columns]
        random = draw(rng, draws.probabilities, (len(entries), draws.n_random))
        positive, weights = shard.items[entries], shard.weights[entries]
        yield Batch(rows, entries, positive, weights, starts, lengths, random, chosen)


def histories_of(batch: Batch) -> np.ndarray:
    """Places of every example's history, one after the other: entries from its start on, without its own."""
    places = entries_of(batch.starts, batch.lengths)
    return np.asarray(places + (places >= np.repeat(batch.entries, batch.lengths)))


def items_before(shard: Shard, batch: Batch) -> np.ndarray:
    """The item that each user had last before the example, int32 (B,), NONE if there is none."""
    older = batch.entries + 1
    has_one = older < shard.indptr[batch.rows + 1]
    return np.where(has_one, shard.items[np.where(has_one, older, 0)], NONE).astype(np.int32)


def entries_of(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places starts[i], starts[i] + 1, ... of every history, one after the other."""
    return np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))


def take(encoded: Encoded, rows: np.ndarray) -> Encoded:
    """These rows of `encoded`, in this order."""
    lengths = np.diff(encoded.indptr)[rows]
    places = entries_of(encoded.indptr[rows], lengths)
    indptr = offsets(lengths)
    ids = encoded.ids[rows] if len(encoded.ids) else encoded.ids
    return Encoded(encoded.dense[rows], indptr, encoded.buckets[places], encoded.weights[places], ids)
