"""Trial fits: each source fitted under any settings to a log on the driver, as the model that `retrieve` would have.

Owns: the log of a trial, and how each source is fitted to it.  Nothing here is Spark: the fits are the kernels of the
cluster on one block, so that dozens of settings cost seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from recsys_spark.als.kernels.objective import Ridge, effective_rank, gramian, has_collapsed
from recsys_spark.config.schema import Config
from recsys_spark.item_cf.kernels.similarity import MAX_WEIGHT, Similarity
from recsys_spark.item_cf.neighbors import similarity_of
from recsys_spark.item_cf.ridge import MAX_GRAM_BYTES, PAIR_BYTES
from recsys_spark.numeric.ragged import offsets
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, entries_of, newest_entries, rows_of, stacked
from recsys_spark.numeric.top_k import damped, search_items
from recsys_spark.retrieval.declared import check_params
from recsys_spark.retrieval.scorers import (
    Model,
    NeighborModel,
    NewestPlaced,
    NewestWeighted,
    Scorer,
    UserNeighbors,
    Users,
    neighbor_model,
    vector_model,
)
from recsys_spark.sequence.kernels.successors import Histories, TransitionSettings, successors, transitions
from recsys_spark.spark.sparse_blocks import RowBlock
from recsys_spark.validation.whole_fits import fit_factors, fit_filter, fit_neighbors

_DAY_US = 86_400_000_000

# Passes over both sides in a trial: settings differ by far more than further passes add.
_PASSES = 5


@dataclass(frozen=True)
class TrialLog:
    """A log without what is held out of it, on the driver.

    rows: of all users: weight float32 (0: only disliked, or returned), time int64 (us since 1970), hidden bool.
    histories: of all users, None where the order of events is not known.  texts: TF-IDF weights of the catalogue's text
    of items, (n_tokens, n_items), None without text.  attributes: which item has which value of the attributes that may
    enter the factors, (n_values, n_items), or None.  listed: bool (n_items,), what lists may hold.  judged: int64
    (n_judged,), users, ascending.  cutoff: D of the trial.  share: part of the users that was drawn, above 0.
    lists: a cache of neighbour lists that take long, by their similarity.
    """

    rows: RowBlock
    histories: Histories | None
    texts: Csr | None
    attributes: Csr | None
    listed: np.ndarray
    judged: np.ndarray
    cutoff: datetime
    seed: int
    share: float = 1.0
    lists: dict[Similarity, Ranked] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.listed)

    @property
    def had(self) -> np.ndarray:
        """Whether an item has any interaction, a dislike included, bool (n_items,)."""
        found: np.ndarray = np.bincount(self.rows.cols, minlength=self.n_items) > 0
        return found

    def weights(self, half_life_days: float = 0.0) -> Csr:
        """The weights above 0 of all users, decayed by the age of a pair's last event, float32 (n_users, n_items)."""
        weighted = self.rows.kept(self.rows.columns["weight"] > 0)
        values = weighted.columns["weight"]
        if half_life_days:
            age_days = (int(self.cutoff.timestamp()) * 1_000_000 - weighted.columns["time"]) / _DAY_US
            values = (values * 0.5 ** (age_days / half_life_days)).astype(np.float32)
        matrix = Csr(weighted.indptr, weighted.cols, values, self.n_items)
        return matrix if (values > 0).all() else _above_zero(matrix)


def users_of(log: TrialLog, users: np.ndarray, with_vector: np.ndarray, vectors: np.ndarray) -> Users:
    """`users` (int64, ascending, rows of the log) as a model takes them; vectors: of those at places `with_vector`."""
    indptr, at = entries_of(log.rows.indptr, users)
    columns = {name: array[at] for name, array in log.rows.columns.items()}
    block = RowBlock(0, indptr, log.rows.cols[at], columns)
    hidden = block.kept(block.columns["hidden"]).csr("weight", log.n_items)
    return Users(block, hidden, with_vector, vectors)


@dataclass(frozen=True)
class Trial:
    """A source fitted to a log.  vectors: of the judged users, float32 (n_judged, f), zeros: none; None: by history.

    has_collapsed: whether its vectors give all users one order, as a popular list does.  user_idx: of every row of the
    log, for a model that knows users by it.
    """

    model: Model
    vectors: np.ndarray | None
    max_items: int
    has_collapsed: bool = False
    user_idx: np.ndarray | None = None

    def scorer(self, log: TrialLog, places: np.ndarray) -> Scorer:
        """The fitted source, for the judged users at `places`, int64, ascending."""
        model = self.model
        if isinstance(model, NeighborModel) and isinstance(model.history, UserNeighbors) and self.user_idx is not None:
            model = replace(model, history=model.history.only(self.user_idx[log.judged[places]]))
        if self.vectors is None:
            return model.scorer(users_of(log, log.judged[places], np.empty(0, np.int64), _NO_VECTORS))
        vectors = self.vectors[places]
        known = np.flatnonzero(vectors.any(axis=1))
        return model.scorer(users_of(log, log.judged[places], known, vectors[known]))


def _above_zero(matrix: Csr) -> Csr:
    kept = matrix.values > 0
    indptr = offsets(kept)[matrix.indptr]
    return Csr(indptr, matrix.indices[kept], matrix.values[kept], matrix.n_cols)


_NO_VECTORS = np.empty((0, 1), np.float32)


def _item_cf(log: TrialLog, config: Config, params: Any) -> Trial | None:
    settings, rows = config.item_cf, log.rows.kept(log.rows.columns["weight"] > 0)
    newest = rows.kept(newest_entries(rows.indptr, rows.cols, rows.columns["time"], settings.max_items_per_user))
    weights = newest.csr("weight", log.n_items)
    weights = weights._replace(values=np.minimum(weights.values, np.float32(MAX_WEIGHT)))
    similarity = similarity_of(settings)
    if similarity.name == "ridge" and not _is_regressed(log, weights, similarity):
        return None
    near = log.lists.get(similarity) or fit_neighbors(weights, similarity, log.listed)
    if similarity.name == "ridge":
        log.lists[similarity] = near
    history = NewestWeighted(log.n_items, params.history_items, params.half_life_days, log.cutoff)
    return Trial(neighbor_model(near, history, params.normalize), None, params.max_items)


# Half of the pairs that the run may send: the log may grow by half before choices are made anew.
_MAX_TRIAL_PAIRS = MAX_GRAM_BYTES // PAIR_BYTES // 2

# A regression reads the sums of all pairs of its neighbours: this many take some ten seconds.
_MAX_LOOKED_UP = 1e9


def _is_regressed(log: TrialLog, weights: Csr, similarity: Similarity) -> bool:
    """Whether the run could send the sums of all pairs that regressions need, and a trial of them takes seconds."""
    products = float(np.sum(weights.lengths.astype(np.float64) ** 2)) / log.share
    n_pairs = min(products, float(log.n_items) ** 2)
    return n_pairs <= _MAX_TRIAL_PAIRS and log.n_items * similarity.num_neighbors**2 <= _MAX_LOOKED_UP


# Products that take half an hour on two cores: of all users with all items, or of all passes of a fit.
_MAX_PRODUCTS = 5e13
_LONG = 256  # vectors up to this length are tried whatever they cost
_SIDES = 20  # half-iterations of a run's fit; each takes an outer product of vectors for every pair


def _is_affordable(log: TrialLog, factors: int) -> bool:
    """Whether the run can fit vectors of this length, and search with them, within _MAX_PRODUCTS."""
    n_users, n_pairs = log.rows.n_rows / log.share, len(log.rows.cols) / log.share
    return factors <= _LONG or max(n_users * log.n_items * factors, _SIDES * n_pairs * factors**2) <= _MAX_PRODUCTS


def _als(log: TrialLog, config: Config, params: Any) -> Trial | None:
    settings = config.als
    if "als.factors" in config.validation.auto and not _is_affordable(log, settings.factors):
        return None
    weights = log.weights(settings.half_life_days)
    wanted = rows_of(weights, log.judged)
    if settings.item_attributes and log.attributes is not None:
        constant = np.full(len(log.attributes.indices), settings.attribute_weight, np.float32)
        weights = stacked(weights, log.attributes._replace(values=constant))
    elif settings.item_attributes and "als.item_attributes" in config.validation.auto:
        return None
    ridge = Ridge(settings.alpha, settings.regularization, settings.nu, settings.unobserved)
    fit = fit_factors(weights, wanted, ridge, settings.factors, _PASSES, log.seed)
    items = search_items(damped(fit.items, params.norm_exponent), np.flatnonzero(log.listed & fit.items.any(axis=1)))
    is_flat = has_collapsed(fit.explained, effective_rank(gramian(fit.items)), settings.factors)
    return Trial(vector_model(items), fit.users, params.max_items, is_flat)


def _low_pass(log: TrialLog, config: Config, params: Any) -> Trial:
    weights = log.weights(params.half_life_days)
    fit = fit_filter(weights, log.judged, params.popularity_exponent, params.rank, params.passes, log.seed)
    items = search_items(fit.items, np.flatnonzero(log.listed & fit.items.any(axis=1)))
    return Trial(vector_model(items), fit.users, params.max_items)


def _successors(log: TrialLog, config: Config, params: Any) -> Trial | None:
    if log.histories is None:
        return None
    following = TransitionSettings(
        params.window, params.window_half_life, params.alpha, params.beta, params.shrinkage, params.num_successors
    )
    sums = transitions(_drawn(log.histories, log.seed), following, log.n_items)
    n_users = np.bincount(log.rows.cols[log.rows.columns["weight"] > 0], minlength=log.n_items)
    near = successors(sums, range(log.n_items), n_users, following, log.listed)
    history = NewestPlaced(log.n_items, params.history_items, params.half_life_items)
    return Trial(neighbor_model(near, history), None, params.max_items)


def _content(log: TrialLog, config: Config, params: Any) -> Trial | None:
    if log.texts is None or params.by != "text":
        return None
    cosine = Similarity("cosine", 1.0, 0.0, 0.0, 0.0, 1, params.num_neighbors)
    near = fit_neighbors(log.texts, cosine, log.listed)
    history = NewestWeighted(log.n_items, params.history_items, params.half_life_days, log.cutoff)
    return Trial(neighbor_model(near, history), None, params.max_items)


# The cost of a history grows faster than its length: a basket is paired with every one after it.
_BASKETS, _MAX_WORK = 1.5, 5e6


def _drawn(found: Histories, seed: int) -> Histories:
    """The histories of users drawn by chance, as many as cost at most _MAX_WORK."""
    lengths = np.diff(found.indptr)
    order = np.random.default_rng(seed).permutation(len(lengths))
    wanted = np.zeros(len(lengths), bool)
    wanted[order[np.cumsum(lengths[order] ** _BASKETS) <= _MAX_WORK]] = True
    if wanted.all():
        return found
    indptr, at = entries_of(found.indptr, np.flatnonzero(wanted))
    return Histories(indptr, found.items[at], found.places[at])


_FITS: Mapping[str, Callable[[TrialLog, Config, Any], Trial | None]] = {
    "item_cf": _item_cf,
    "als": _als,
    "low_pass": _low_pass,
    "successors": _successors,
    "content": _content,
}


FITTED = frozenset(_FITS)  # sources that are fitted here


def fit_trial(source: str, log: TrialLog, config: Config) -> Trial | None:
    """The source as `config` has it, fitted to the log; None where the log lacks what it needs."""
    return _FITS[source](log, config, check_params(config)[source])
