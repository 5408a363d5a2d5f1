"""Scoring models of candidate sources: they score the users of a block, by vectors or by the neighbours of a history.

Owns: what a model is given, and its answers.  `retrieval.user_lists` sends models to workers and brings users to them.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from recsys_spark.item_cf.kernels import user_scores
from recsys_spark.item_cf.kernels.user_scores import score_neighbors
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, entries_of, newest_entries
from recsys_spark.numeric.top_k import Items, top_k
from recsys_spark.retrieval.kernels import vector_scores
from recsys_spark.retrieval.kernels.vector_scores import Spread
from recsys_spark.sequence.kernels.successors import place_weights
from recsys_spark.spark.sparse_blocks import RowBlock

_SCORES_BYTES = 64 << 20  # for scores that are not in a list yet

_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Users:
    """The users of a block as one source is given them.

    rows: weight (0: only disliked, or returned), time (us since 1970), of every user.  hidden: (n, n_items), what is
    not shown to each.  with_vector: places in the block of those who have one, ascending; vectors: float32, theirs.
    """

    rows: RowBlock
    hidden: Csr
    with_vector: np.ndarray
    vectors: np.ndarray


class Scorer(Protocol):
    """The scores of a source for the users of a block; row r below is the user at places[r]."""

    @property
    def places(self) -> np.ndarray:
        """Places in the block of the users that are scored, int64, ascending."""

    def lists(self, k: int) -> Ranked:
        """The list of every row, at most `k` items without those that are hidden."""

    def scores(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The score of item items[j] for row rows[j], float32, as in a list; rows: ascending.  Nan: it has none."""

    def background(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every row's scores over all items that lists may hold, float64."""


class Model(Protocol):
    """What a source knows of items; sent to every worker."""

    def scorer(self, users: Users) -> Scorer:
        """The scorer of these users."""


@dataclass(frozen=True)
class VectorModel:
    """Scores are products of vectors; spread: of those of the items, by `vector_scores.spread_of`."""

    items: Items
    spread: Spread

    def scorer(self, users: Users) -> "VectorScorer":
        """The scorer of those who have a vector."""
        indptr, at = entries_of(users.hidden.indptr, users.with_vector)
        hidden = Csr(indptr, users.hidden.indices[at], users.hidden.values[:0], users.hidden.n_cols)
        vectors = users.vectors if len(users.with_vector) else self.items.vectors[:0]
        return VectorScorer(self.items, self.spread, users.with_vector, vectors, hidden)


@dataclass(frozen=True)
class VectorScorer:
    """See `Scorer`."""

    items: Items
    spread: Spread
    places: np.ndarray
    vectors: np.ndarray
    hidden: Csr

    def lists(self, k: int) -> Ranked:
        """See `Scorer`."""
        return top_k(self.vectors, self.items, k, self.hidden, _SCORES_BYTES)

    def scores(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See `Scorer`."""
        return vector_scores.pair_scores(self.vectors, self.items, rows, items)

    def background(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        return vector_scores.background(self.vectors, self.spread)


class History(Protocol):
    """What a user is scored by: keys (items, or users) with weights above 0."""

    def of(self, rows: RowBlock) -> Csr:
        """The keys of every user of the block, (n, n_keys)."""


@dataclass(frozen=True)
class NeighborModel:
    """Scores are sums over a history of weight times similarity.

    neighbors: of every key its items with similarities, without what nobody is shown.  n_listed: items that stand in
    any of them.
    """

    neighbors: Ranked
    history: History
    n_listed: int
    normalize: bool = False

    def scorer(self, users: Users) -> "NeighborScorer":
        """The scorer of all users."""
        places = np.arange(users.rows.n_rows)
        return NeighborScorer(self, self.history.of(users.rows), places, users.hidden)


@dataclass(frozen=True)
class NeighborScorer:
    """See `Scorer`."""

    model: NeighborModel
    history: Csr
    places: np.ndarray
    hidden: Csr

    def lists(self, k: int) -> Ranked:
        """See `Scorer`."""
        return score_neighbors(self.history, self.model.neighbors, self.hidden, k, self.model.normalize)

    def scores(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See `Scorer`; an item that is near to no item of the history has none."""
        model, n_items = self.model, self.hidden.n_cols
        found = user_scores.pair_scores(self.history, model.neighbors, rows, items, n_items, model.normalize)
        return np.where(found > 0, found, np.float32(np.nan))

    def background(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        n_items, n_listed = self.hidden.n_cols, self.model.n_listed
        return user_scores.background(self.history, self.model.neighbors, n_items, n_listed, self.model.normalize)


def vector_model(items: Items) -> VectorModel:
    """The model of the searched vectors."""
    return VectorModel(items, vector_scores.spread_of(items))


def neighbor_model(neighbors: Ranked, history: History, normalize: bool = False) -> NeighborModel:
    """The model of these neighbours."""
    return NeighborModel(neighbors, history, len(np.unique(neighbors.indices)), normalize)


@dataclass(frozen=True)
class NewestWeighted:
    """The `n_newest` items of each user that have a weight, times 0.5^(age / half_life_days), 0 = no decay."""

    n_items: int
    n_newest: int
    half_life_days: float
    cutoff: datetime

    def of(self, rows: RowBlock) -> Csr:
        """See `History`."""
        newest = _newest(rows, self.n_newest)
        weights = newest.columns["weight"]
        if self.half_life_days:
            age_days = (int(self.cutoff.timestamp()) * 1_000_000 - newest.columns["time"]) / _DAY_US
            weights = (weights * 0.5 ** (age_days / self.half_life_days)).astype(np.float32)
        return Csr(newest.indptr, newest.cols, weights, self.n_items)


@dataclass(frozen=True)
class NewestPlaced:
    """The `n_newest` items of each user that have a weight, each 0.5^(places before the last / half_life_items)."""

    n_items: int
    n_newest: int
    half_life_items: float

    def of(self, rows: RowBlock) -> Csr:
        """See `History`."""
        newest = _newest(rows, self.n_newest)
        weights = place_weights(newest.indptr, newest.columns["time"], self.half_life_items)
        return Csr(newest.indptr, newest.cols, weights, self.n_items)


@dataclass(frozen=True)
class UserNeighbors:
    """The users near to each: list u of `near` is that of user u."""

    near: Ranked

    def of(self, rows: RowBlock) -> Csr:
        """See `History`."""
        indptr = self.near.indptr[rows.first : rows.first + rows.n_rows + 1]
        entries = slice(indptr[0], indptr[-1])
        n_users = len(self.near.indptr) - 1
        return Csr(indptr - indptr[0], self.near.indices[entries], self.near.scores[entries], n_users)

    def only(self, users: np.ndarray) -> "UserNeighbors":
        """The lists of some users alone (int64, ascending) as those of users 0, 1, 2 and so on; all users stay near."""
        indptr, at = entries_of(self.near.indptr, users)
        # Beyond them nobody has near users, so that there are as many lists as users.
        rest = np.full(len(self.near.indptr) - len(indptr), indptr[-1])
        return UserNeighbors(Ranked(np.concatenate([indptr, rest]), self.near.indices[at], self.near.scores[at]))


def _newest(rows: RowBlock, n_newest: int) -> RowBlock:
    weighted = rows.kept(rows.columns["weight"] > 0)
    return weighted.kept(newest_entries(weighted.indptr, weighted.cols, weighted.columns["time"], n_newest))
