"""Fold-in of sessions: items' ALS factors in memory give candidates for a session that no run has seen, without Spark.

Owns: what a session is scored by; needs no compiler.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_spark.als.kernels.fold_in import fold_in
from recsys_spark.errors import ArgumentError
from recsys_spark.serving.answers import Scored
from recsys_spark.warehouse.ledger import steps_of
from recsys_spark.warehouse.location import Location

_SETTINGS = ("alpha", "regularization", "nu", "unobserved", "n_cols", "norm_exponent")


@dataclass(frozen=True)
class ItemFactors:
    """vectors: float32 (n, f), in the order of `ids`, which is that of item_idx.  lengths: their norms, (n,).

    shown: bool (n,), may stand in a list.  settings: those of _SETTINGS, of the fit and of the source `als`.
    """

    ids: tuple[str, ...]
    vectors: np.ndarray
    lengths: np.ndarray
    shown: np.ndarray
    settings: Mapping[str, float]
    places: Mapping[str, int]
    gramian: np.ndarray

    def score_session(self, events: Iterable[tuple[str, float]], k: int) -> tuple[Scored, ...]:
        """The `k` best items that may be shown and are not among the events, ties by the smaller item_idx.

        events: item and weight, as [events.types.*] gives an event; those of one item add up, a sum below 0 is 0, and
        items without factors do not count.  () if none counts.  The factors of the session are those that the fit gives
        a user with just these interactions, without attributes of users; items that were folded in count too.
        Raises ArgumentError if a weight is not finite.
        """
        weights: dict[int, float] = {}
        for item_id, weight in events:
            if item_id in self.places:
                weights[self.places[item_id]] = weights.get(self.places[item_id], 0.0) + weight
        rows, r = np.array(list(weights), np.int64), np.array(list(weights.values()), np.float64)
        r = np.where(r < 0, 0.0, r)
        alpha, regularization, nu, unobserved, n_cols, exponent = (self.settings[name] for name in _SETTINGS)
        x = fold_in(self.vectors[rows], r, self.gramian, int(n_cols), alpha, regularization, nu, unobserved)
        if not x.any():
            return ()
        listed = self.shown.copy()
        listed[rows] = False
        candidates = np.flatnonzero(listed)
        scores = (self.vectors @ x)[candidates]
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.nan_to_num(scores * self.lengths[candidates] ** (exponent - 1))
        return best_scored(self.ids, candidates, scores, k)


def best_scored(ids: Sequence[str], candidates: np.ndarray, scores: np.ndarray, k: int) -> tuple[Scored, ...]:
    """The k best candidates, ties by the smaller place.  candidates: places in `ids`, ascending.  scores: of each."""
    best = enumerate(_best_places(scores, k), 1)
    return tuple(Scored(ids[candidates[at]], rank, float(scores[at])) for rank, at in best)


def _best_places(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the k greatest, greatest first, ties by the smaller place."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores >= least)
    else:
        above = np.arange(len(scores))
    best: np.ndarray = above[np.argsort(-scores[above], kind="stable")][:k]
    return best


def item_factors(table: pa.Table, root: Location, run_id: str) -> ItemFactors:
    """The factors in `table`, item_id, item_idx, vector and shown of a run, with the settings that the run recorded.

    Raises ArgumentError if the run has none: it was made by a version without them.
    """
    step = steps_of(root, run_id).get("als")
    if step is None:
        raise ArgumentError(f"bundle {run_id}: expected a run that has fitted factors, got none; take a newer bundle")
    table = table.sort_by("item_idx").combine_chunks()
    ids = tuple(table["item_id"].to_pylist())
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False) if ids else np.empty(0, np.float32)
    vectors = flat.astype(np.float32).reshape(len(ids), -1) if ids else np.empty((0, 1), np.float32)
    exact = vectors.astype(np.float64)
    return ItemFactors(
        ids,
        vectors,
        np.sqrt(np.einsum("nf,nf->n", exact, exact)),
        table["shown"].to_numpy(),
        {name: step["figures"][name] for name in _SETTINGS},
        {item_id: place for place, item_id in enumerate(ids)},
        exact.T @ exact,
    )
