"""Ranking metrics over ragged lists of dense item indices, one value per user.

Owns: the hits of lists, and the metrics that are made from them.  A mean over the returned values weighs every user
the same (macro); nothing here pools users.  `match` finds the hits once; its result then gives every metric at every k
in time that grows with the hits.  Letters: u user (row), k list length.
"""

from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, _has_repeats, check_k, check_no_repeats, check_rows_pair, find_in_rows

# A grade is a small number by design (five levels in the source); sums of float64 can hold far more than 2^64.
MAX_RELEVANCE = 64


@dataclass(frozen=True)
class Match:
    """The hits of every user's list, by user and then by position, and the metrics that they make.

    rows, positions: user of every hit and its place in the list from 0.  places: where in `targets.values` the hit
    stands.  All int64 (n_hits,).  Every metric is float64 (n_users,), 0 to 1, and raises KernelError if k < 1.
    """

    targets: Ragged
    rows: np.ndarray
    positions: np.ndarray
    places: np.ndarray

    def recall_at_k(self, k: int) -> np.ndarray:
        """Share of each user's targets that stand in the first k of the list."""
        recall: np.ndarray = self._sums(np.ones(len(self.rows)), k) / self.targets.lengths  # (n_users,)
        return recall

    def precision_at_k(self, k: int) -> np.ndarray:
        """Hits in the first k divided by k, also for a list that is shorter than k."""
        precision: np.ndarray = self._sums(np.ones(len(self.rows)), k) / k  # (n_users,)
        return precision

    def hit_at_k(self, k: int) -> np.ndarray:
        """1 if any target stands in the first k, else 0."""
        hit: np.ndarray = (self._sums(np.ones(len(self.rows)), k) > 0).astype(np.float64)  # (n_users,)
        return hit

    def average_precision_at_k(self, k: int) -> np.ndarray:
        """Precision at the rank of every hit in the first k, summed and divided by min(n_targets, k)."""
        summed = self._sums((self._earlier_hits() + 1) / (self.positions + 1), k)  # (n_users,)
        average: np.ndarray = summed / np.minimum(self.targets.lengths, k)
        return average

    def reciprocal_rank_at_k(self, k: int) -> np.ndarray:
        """1 / rank of the first hit, rank from 1; 0 if the first k hold no target."""
        return self._sums((self._earlier_hits() == 0) / (self.positions + 1), k)

    def ndcg_at_k(self, k: int) -> np.ndarray:
        """Normalised discounted cumulative gain of the first k items; gain 1 for a target and 0 otherwise.

        Discount 1 / log2(rank + 1) with rank from 1, divided by the gain of a list that has its min(k, n_targets)
        targets first.  Source: Jarvelin, Kekalainen 2002, with binary relevance.
        """
        gained = self._sums(1 / np.log2(self.positions + 2), k)  # (n_users,)
        best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # (k + 1,)
        ndcg: np.ndarray = gained / best[np.minimum(self.targets.lengths, k)]
        return ndcg

    def auc_at_k(self, k: int, n_items: int, n_listed: np.ndarray) -> np.ndarray:
        """Chance that a target stands above another item of the catalogue, where all beyond the first k tie.

        n_items: of the catalogue, with all targets but those of -1.  n_listed: items in the first k of each list, int64
        (n_users,).
        Of m targets, h of them listed: a listed one is above the n_items - m others but those before it; the m - h
        unlisted ones are above half of the others that are not listed either.  nan where all items are targets.
        Source: Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009, with ties as Mann and Whitney 1947 count them.
        """
        n_targets = self.targets.lengths
        indexed = self.targets.rows[self.targets.values >= 0]
        n_others = n_items - np.bincount(indexed, minlength=self.targets.n_rows)  # (n_users,)
        n_hits = self._sums(np.ones(len(self.rows)), k)
        before = self._sums(self.positions - self._earlier_hits(), k)  # others before each hit
        above = n_hits * n_others - before + (n_targets - n_hits) * (n_others - (n_listed - n_hits)) / 2
        auc: np.ndarray = np.divide(
            above, n_targets * n_others, out=np.full(len(n_targets), np.nan), where=n_others > 0
        )
        return auc

    def graded_ndcg_at_k(self, k: int, relevance: np.ndarray) -> np.ndarray:
        """As `ndcg_at_k` with gain 2^relevance - 1 for a target; equal to it if every relevance is 1.

        relevance: of every value of `targets`, (n_targets,), above 0 and at most 64: what is not relevant is no target.
        The best list has the targets of highest relevance first.  Raises KernelError for another relevance or a target
        that a user has twice.  Source: Burges et al. 2005, "Learning to Rank using Gradient Descent".
        """
        _check_relevance(relevance, self.targets)
        gains = np.expm1(relevance.astype(np.float64) * np.log(2))  # (n_targets,)
        gained = self._sums(gains[self.places] / np.log2(self.positions + 2), k)  # (n_users,)
        rows, positions = self.targets.rows, self.targets.positions
        sorted_gains = gains[np.lexsort((-gains, rows))]  # rows stay where they are, the highest gain of each first
        best_gains = np.where(positions < k, sorted_gains / np.log2(positions + 2), 0.0)
        ndcg: np.ndarray = gained / np.bincount(rows, weights=best_gains, minlength=self.targets.n_rows)
        return ndcg

    def _earlier_hits(self) -> np.ndarray:
        """Number of hits of the same user before each hit, int64 (n_hits,)."""
        earlier: np.ndarray = np.arange(len(self.rows)) - np.searchsorted(self.rows, self.rows)
        return earlier

    def _sums(self, values: np.ndarray, k: int) -> np.ndarray:
        """Sum of `values`, one per hit, over each user's hits in the first k, float64 (n_users,)."""
        check_k(k)
        weights = np.where(self.positions < k, values, 0.0)
        sums: np.ndarray = np.bincount(self.rows, weights=weights, minlength=self.targets.n_rows).astype(np.float64)
        return sums  # cast, since bincount of no hits is int64 even with weights


def match(lists: Ragged, targets: Ragged) -> Match:
    """The hits of every list, from which all metrics at all k are made.

    lists: best first, no item twice in a row, -1 for an item without an index.  targets: in any order, not empty; a
    target of -1 is never hit and counts among the user's targets.
    Raises KernelError if the rows do not pair up, a list repeats an item or a user has no target.
    """
    check_rows_pair(lists, targets)
    if (targets.lengths == 0).any():
        raise KernelError(
            f"metrics targets: expected at least one target per user, got none in row"
            f" {int(np.argmin(targets.lengths))}; leave users without targets out"
        )
    check_no_repeats(lists)
    places = find_in_rows(lists, targets)  # (n_values,)
    hits = np.flatnonzero(places >= 0)  # (n_hits,)
    return Match(targets, lists.rows[hits], lists.positions[hits], places[hits])


def recall_at_k(lists: Ragged, targets: Ragged, k: int) -> np.ndarray:
    """Share of each user's targets that stand in the first k of the list, float64 (n_users,), 0 to 1.

    lists, targets, errors: as in `match`.
    """
    return match(lists, targets).recall_at_k(k)


def ndcg_at_k(lists: Ragged, targets: Ragged, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain of each user's first k items, float64 (n_users,), 0 to 1.

    Binary gain, as in `Match.ndcg_at_k`.  lists, targets, errors: as in `match`.
    """
    return match(lists, targets).ndcg_at_k(k)


def _check_relevance(relevance: np.ndarray, targets: Ragged) -> None:
    if relevance.shape != targets.values.shape:
        raise KernelError(
            f"metrics relevance: expected one value per target, {targets.values.shape}, got {relevance.shape}; lay it"
            " out as the values of the targets"
        )
    valid = (relevance > 0) & (relevance <= MAX_RELEVANCE)
    if not valid.all():
        raise KernelError(
            f"metrics relevance: expected values above 0 and at most {MAX_RELEVANCE}, got"
            f" {relevance[~valid][0]}; grade the targets and leave out those without relevance"
        )
    if _has_repeats(targets):
        raise KernelError("metrics targets: expected no target twice in one row, got a repeated item; keep its highest")
