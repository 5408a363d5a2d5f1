"""Ranking metrics of every list by group of users and items, summed over a block of judged users.

Owns: the groups of users and items, and which figures are made of which group.

Groups: `all` is users who were known before the date, on items that were known.  `users/...` are parts of the users, on
the same items; `users/new` were not known before.  `items/...` are known users on parts of the items; `items/new` were
not known before.  A user without a target in the group does not count in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.evaluation.kernels.list_metrics import (
    calibration_error_at_k,
    intra_list_diversity_at_k,
    novelty_at_k,
    serendipity_at_k,
)
from recsys_spark.numeric.bootstrap import Tally, tally
from recsys_spark.numeric.metrics import Match, match
from recsys_spark.numeric.ragged import Ragged, offsets

ALL = "all"
NEW_USERS = "users/new"
NEW_ITEMS = "items/new"
MAIN = ("recall", "ndcg")  # the figures of every group; the others are of all users
RATE = "rate"  # of the users whose list has a place k, the share that engaged with the item there


class Figure(NamedTuple):
    """The name of a figure: of which list, in which group, which metric, of how many places."""

    list_name: str
    group: str
    metric: str
    k: int


@dataclass(frozen=True)
class Block:
    """A block of judged users.

    targets: what each of them engaged with from the date on, as item indices; -1 for an item without one.
    is_known: bool (n_targets,), whether anybody had engaged with the item before the date.
    is_new: bool (n_users,), whether the user had engaged with nothing before the date.
    user_groups: bool (n_users,) by name.  item_groups: bool (n_targets,) by name.
    popular: the list of what most users had engaged with lately, without what the user may not see.
    item_users: int64 (n_items,), users who had engaged with each item; n_users: users who had engaged with any.
    vectors: float32 (n_items, f), for the similarity of a list's items; None: diversity is not measured.
    histories: what each user had engaged with before; categories: the categories of every item; None: the distance of
    a list's mix of categories from the history's is not measured.  rated_places: how many places get a RATE.
    """

    targets: Ragged
    is_known: np.ndarray
    is_new: np.ndarray
    user_groups: Mapping[str, np.ndarray]
    item_groups: Mapping[str, np.ndarray]
    popular: Ragged
    item_users: np.ndarray
    n_users: int
    vectors: np.ndarray | None = None
    histories: Ragged | None = None
    categories: Ragged | None = None
    rated_places: int = 0


def tallies_of(
    block: Block, lists: Mapping[str, Ragged], lengths: Sequence[int], draws: np.ndarray
) -> dict[Figure, Tally]:
    """Every figure of every list, summed over the block.

    lists: by name one list per user, best first, -1 for an item without an index.  lengths: the k of all figures.
    draws: how often each user counts, as `numeric.bootstrap.draw` returns them.
    Raises KernelError if a list has an item twice or other rows than the targets.
    """
    if len(draws) != block.targets.n_rows:
        raise KernelError(
            f"evaluation draws: expected one row per judged user, got {len(draws)} for {block.targets.n_rows}; draw for"
            " the users of the block"
        )
    found: dict[Figure, Tally] = {}
    for name, ranked in lists.items():
        columns = list(_values(block, ranked, lengths))
        # One product for all figures of a list: a thousand single ones would be bound by memory.
        sums = tally(np.array([values for *_, values in columns]), draws)
        for row, (group, metric, k, _) in enumerate(columns):
            found[Figure(name, group, metric, k)] = Tally(sums.n[row], sums.total[row])
    return found


def add_up(parts: Iterable[dict[Figure, Tally]]) -> dict[Figure, Tally]:
    """The figures of all blocks together; a figure that a block lacks had no user in it."""
    total: dict[Figure, Tally] = {}
    for part in parts:
        for figure, one in part.items():
            total[figure] = total[figure] + one if figure in total else one
    return total


def _values(block: Block, ranked: Ragged, lengths: Sequence[int]) -> Iterator[tuple[str, str, int, np.ndarray]]:
    """(group, metric, k, values): values float64 (n_users,), nan for a user who does not count in the group."""
    known = ~block.is_new
    matched = _Judged(block, ranked, block.is_known)
    for k in lengths:
        for metric, values in matched.accuracy(k):
            yield ALL, metric, k, np.where(known, values, np.nan)
        for metric, values in _beyond_accuracy(block, ranked, k):
            yield ALL, metric, k, np.where(known & matched.has_targets, values, np.nan)
    for place, values in matched.rates(block.rated_places):
        yield ALL, RATE, place, np.where(known, values, np.nan)
    groups = {NEW_USERS: block.is_new, **{name: members & known for name, members in block.user_groups.items()}}
    for group, members in groups.items():
        for metric, k, values in matched.main(lengths):
            yield group, metric, k, np.where(members, values, np.nan)
    for group, chosen in {NEW_ITEMS: ~block.is_known, **block.item_groups}.items():
        for metric, k, values in _Judged(block, ranked, chosen).main(lengths):
            yield group, metric, k, np.where(known, values, np.nan)


class _Judged:
    """The hits of every list on some of the targets; values are nan for users who have none of these."""

    def __init__(self, block: Block, ranked: Ragged, chosen: np.ndarray) -> None:
        targets = block.targets.where(chosen)
        self.users = np.flatnonzero(targets.lengths)
        self.n_users = targets.n_rows
        self.has_targets = targets.lengths > 0
        self.lists = rows_of(ranked, self.users)
        self.match: Match = match(self.lists, rows_of(targets, self.users))
        self.n_items = len(block.item_users)

    def accuracy(self, k: int) -> Iterator[tuple[str, np.ndarray]]:
        hits = self.match
        yield "recall", self._spread(hits.recall_at_k(k))
        yield "ndcg", self._spread(hits.ndcg_at_k(k))
        yield "precision", self._spread(hits.precision_at_k(k))
        yield "hit", self._spread(hits.hit_at_k(k))
        yield "map", self._spread(hits.average_precision_at_k(k))
        yield "mrr", self._spread(hits.reciprocal_rank_at_k(k))
        n_listed = np.minimum(self.lists.lengths, k)
        yield "auc", self._spread(hits.auc_at_k(k, self.n_items, n_listed))

    def rates(self, n_places: int) -> Iterator[tuple[int, np.ndarray]]:
        """For every place from 1 whether its item was a hit; nan for a list that has no item there."""
        hits = np.zeros((len(self.users), n_places))
        near = self.match.positions < n_places
        hits[self.match.rows[near], self.match.positions[near]] = 1.0
        hits[self.lists.lengths[:, None] <= np.arange(n_places)] = np.nan
        for place in range(n_places):
            yield place + 1, self._spread(hits[:, place])

    def main(self, lengths: Sequence[int]) -> Iterator[tuple[str, int, np.ndarray]]:
        for k in lengths:
            yield "recall", k, self._spread(self.match.recall_at_k(k))
            yield "ndcg", k, self._spread(self.match.ndcg_at_k(k))

    def _spread(self, values: np.ndarray) -> np.ndarray:
        spread = np.full(self.n_users, np.nan)
        spread[self.users] = values
        return spread


def rows_of(lists: Ragged, rows: np.ndarray) -> Ragged:
    """The rows at `rows`, ascending, int64 (n,)."""
    chosen = np.zeros(lists.n_rows, bool)
    chosen[rows] = True
    return Ragged(offsets(lists.lengths[rows]), lists.values[chosen[lists.rows]])


def _beyond_accuracy(block: Block, ranked: Ragged, k: int) -> Iterator[tuple[str, np.ndarray]]:
    yield "novelty", novelty_at_k(ranked, block.item_users, block.n_users, k)
    if block.vectors is not None:
        yield "diversity", intra_list_diversity_at_k(ranked, block.vectors, k)
    if block.histories is not None and block.categories is not None:
        yield "miscalibration", calibration_error_at_k(ranked, block.histories, block.categories, k)
    yield "serendipity", serendipity_at_k(ranked, block.targets.where(block.is_known), block.popular, k)
