"""Choice of the blend: fusion method and weights with the highest recall on judged users, and the sources left out.

Owns: the ways to blend that are tried, and who judges them.

The weights of all lists together are fitted on one part of the judged users, shrunk towards equal weights
(`validation.kernels.conditional_logit`).  The blends by these weights compete, on another part, with reciprocal ranks
and with each list alone.  A source is left out only if it surely finds less than popularity, or than a quarter of the
best list, and the blend finds as much without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_spark.blend.collect import weight_of
from recsys_spark.blend.kernels.score_fusion import Scaling, bounded
from recsys_spark.config.choices import Settings
from recsys_spark.config.schema import Config
from recsys_spark.numeric.sparse import rows_of
from recsys_spark.validation.choice_sets import (
    BLEND,
    NEW,
    WEIGHTS,
    Judged,
    columns_of,
    joined,
    recall_by,
    recalls_by,
    rrf_totals,
    sets_by_fold,
)
from recsys_spark.validation.fits import Trial
from recsys_spark.validation.kernels.conditional_logit import Taken, fit_weights
from recsys_spark.validation.tried import Chosen, Earlier, Tried, gains, surely_less

# Scaling and ridge of score weights.  None of the three was best on all of five logs; no other was better.
_WAYS: tuple[tuple[Scaling, float], ...] = (("background", 0.1), ("background", 0.01), ("capped", 0.01))
_WEIGHT_DEPTH = 50  # first items of every list on which weights are fitted
_BLEND_DEPTH = 100  # first items of every list on which a blend is judged: as many as `retrieval.user_lists` scores
_USEFUL = 0.25  # part of the best list's recall that a source must reach

_TIMES_NEW = (1.5, 2.0, 3.0, 4.0)
_BEFORE = "as before: "  # and the method
_LEFT = "was left out before, and no other blend gains"


def useless_sources(alone: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The sources that are surely useless by themselves, the worst first, with the reasons."""
    lists = {**alone, **shared}
    best = max(lists, key=lambda name: lists[name].mean(), default="")
    popular = max(shared, key=lambda name: shared[name].mean(), default="")
    found = {}
    for name, recall in sorted(alone.items(), key=lambda one: float(one[1].mean())):
        worse = [f"a quarter of {best}"] if surely_less(recall, _USEFUL * lists[best]) else []
        worse += [popular] if popular and surely_less(recall, lists[popular]) else []
        if worse and name != best:
            found[name] = f"surely finds less than {' and '.join(worse)}"
    return found


@dataclass(frozen=True)
class _Way:
    """A way to blend.  scaling: None, with all weights 1 or 0: reciprocal ranks.  weights: of every list."""

    scaling: Scaling | None
    weights: np.ndarray


@dataclass(frozen=True)
class _Table:
    """The choice sets of the users who judge blends, by fold.

    names: of the lists, the columns of the values.  of_users: those of them that are made for single users.  given:
    the weight that the settings give each list, float64 (n_lists,).
    """

    names: tuple[str, ...]
    folds: Sequence[Judged]
    sets: Sequence[Taken]
    rrf_k: int
    of_users: frozenset[str]
    given: np.ndarray

    def recall(self, way: _Way) -> np.ndarray:
        """Recall of each of these users by one way."""
        return recalls_by(self.folds, BLEND, self.sets, lambda held: self._totals(held, way))

    def _totals(self, held: Taken, way: _Way) -> np.ndarray:
        if way.scaling is None:
            return rrf_totals(self._merged(held.values), held.users, self.rrf_k, way.weights * self.given)
        return np.asarray(bounded(held.values, way.scaling) @ (way.weights * self.given), np.float64)

    def _merged(self, values: np.ndarray) -> np.ndarray:
        """The values with the scores of new items moved back into the column of their list; their own column is 0."""
        values = values.copy()
        for at, name in enumerate(self.names):
            if name.endswith(NEW):
                values[:, self.names.index(name.removesuffix(NEW))] += values[:, at]
                values[:, at] = 0.0
        return values

    def recall_of_new(self, way: _Way) -> np.ndarray:
        """Recall of new items (nobody had had them), of the users who went on to any."""
        found = []
        for fold, held in zip(self.folds, self.sets, strict=True):
            of_new = fold.of_new_items()
            recall = recall_by(of_new, BLEND, held, self._totals(held, way))
            found.append(recall[rows_of(of_new.targets, fold.part(BLEND)).lengths > 0])
        return np.concatenate(found)

    def settings(self, way: _Way) -> Settings:
        """The settings of a way."""
        if way.scaling is None:
            return {"candidates.method": "rrf"}
        greatest = max(float(way.weights.max(initial=0.0)), 1e-12)  # only their ratios matter
        weights = {name: round(float(one) / greatest, 4) for name, one in zip(self.names, way.weights, strict=True)}
        return {
            "candidates.method": "scores",
            "candidates.score_scaling": way.scaling,
            "candidates.score_weights": weights,
        }


def choose_blend(
    folds: Sequence[Judged],
    trials: Mapping[str, Sequence[Trial]],
    config: Config,
    useless: Mapping[str, str],
    found: Chosen,
    before: Earlier | None = None,
) -> dict[str, str]:
    """Puts the way with the highest recall into `found`; returns those of `useless` without which it finds as much.

    A list that all users share wins alone only where it surely finds more than all lists together: at the same recall a
    list of one's own is worth more.  before: what an earlier run chose, which stays where nothing gains on it.
    """
    names, for_all = columns_of(trials, folds[0].shared), set(folds[0].shared)
    held = joined(sets_by_fold(folds, trials, WEIGHTS, _WEIGHT_DEPTH))
    sets = sets_by_fold(folds, trials, BLEND, _BLEND_DEPTH)
    # The weights of the settings multiply all that is chosen here.
    given = np.array([weight_of(name.removesuffix(NEW), config.candidates.source_weights) for name in names])
    table = _Table(names, folds, sets, config.candidates.rrf_k, frozenset(trials), given)
    prior = np.array([float(name not in for_all) for name in names])
    ways = {"rrf": _Way(None, np.ones(len(names))), "scores, equal weights": _Way("background", prior)}
    for scaling, ridge in _WAYS:
        weights = fit_weights(replace(held, values=bounded(held.values, scaling) * given), prior, ridge)
        ways[f"scores, {scaling}, ridge {ridge:g}"] = _Way(scaling, weights)
    singles = [np.array([one.removesuffix(NEW) == name for one in names], float) for name in names]
    ways |= {
        name: _Way("background", of_one)
        for name, of_one in zip(names, singles, strict=True)
        if not name.endswith(NEW) and of_one @ given > 0
    }
    ways |= _as_before(before, names, for_all)
    recalls = {name: table.recall(way) for name, way in ways.items()}
    best = _more_new(_best_of(ways, recalls, for_all), ways, recalls, table)
    gone, way = _without(useless, ways[best], recalls[best], table)
    if before is not None and best.startswith(_BEFORE):
        gone |= {name: _LEFT for name in config.sources.enabled if name in before.left and name not in gone}
    of_new = table.recall_of_new(way)
    if len(of_new):
        found.figures.update(n_new=float(len(of_new)), recall_of_new=float(of_new.mean()))
    found.settings |= _with_untried(table.settings(way), config, names, for_all)
    found.tried += [
        Tried("blend", name, table.settings(ways[name]), one, name == best) for name, one in recalls.items()
    ]
    return gone


def _best_of(ways: Mapping[str, _Way], recalls: Mapping[str, np.ndarray], for_all: set[str]) -> str:
    """Name of the chosen way."""
    own = max((name for name in ways if name not in for_all), key=lambda name: recalls[name].mean())
    best = max(ways, key=lambda name: recalls[name].mean())
    best = _cautious(best if surely_less(recalls[own], recalls[best]) else own, ways, recalls)
    kept = next((name for name in ways if name.startswith(_BEFORE)), best)
    return best if gains(recalls[best] - recalls[kept]) else kept


def _more_new(best: str, ways: dict[str, _Way], recalls: dict[str, np.ndarray], table: _Table) -> str:
    """The best way, or the same with higher weights of items that nobody has had, which is then added to the ways.

    Where lists lose nothing but for chance, new items are preferred: nobody will have them unless they are shown.
    """
    is_new = np.array([name.endswith(NEW) for name in table.names])
    chosen, way = best, ways[best]
    found = table.recall_of_new(way)
    if best.startswith(_BEFORE) or not len(found) or not way.weights[is_new].any():
        return best
    for times in _TIMES_NEW:
        name, more = f"{best}, new items x {times:g}", replace(way, weights=way.weights * np.where(is_new, times, 1.0))
        recall, of_new = table.recall(more), table.recall_of_new(more)
        if of_new.mean() > found.mean() and not gains(recalls[best] - recall):
            ways[name], recalls[name] = more, recall
            chosen, found = name, of_new
    return chosen


def _as_before(before: Earlier | None, names: Sequence[str], for_all: set[str]) -> dict[str, _Way]:
    """The way to blend that an earlier run chose, by its name; none if it chose none, or a shared list alone.

    A list without a weight counts as in the step `blend`.
    """
    method = None if before is None else before.settings.get("candidates.method")
    if before is None or method is None:
        return {}
    is_own = np.array([name not in for_all for name in names])
    weights, scaling = np.ones(len(names)), before.settings.get("candidates.score_scaling")
    if method == "scores":
        given = before.settings["candidates.score_weights"]
        weights = np.array([weight_of(name, given, float(own)) for name, own in zip(names, is_own, strict=True)])
    weights *= [name.partition("/")[0] not in before.left for name in names]
    way = _Way(scaling if method == "scores" else None, weights)
    return {f"{_BEFORE}{method}": way} if (weights[is_own] > 0).any() else {}


def _cautious(best: str, ways: Mapping[str, _Way], recalls: Mapping[str, np.ndarray]) -> str:
    """The best way, or the best way of capped scores if the best gains too little on it.

    Without a cap the few items decide that stand out by hundreds of deviations; there are too few judges to tell how
    often these are wrong.
    """
    capped = max((name for name, way in ways.items() if way.scaling == "capped"), key=lambda name: recalls[name].mean())
    is_open = ways[best].scaling == "background" and np.count_nonzero(ways[best].weights) > 1
    return capped if is_open and not gains(recalls[best] - recalls[capped]) else best


def _with_untried(settings: Settings, config: Config, names: Sequence[str], for_all: set[str]) -> Settings:
    """The settings, with the mean weight of the sources of single users for a source that could not be tried."""
    if "candidates.score_weights" not in settings:
        return settings
    weights = dict(settings["candidates.score_weights"])
    own = [weights[name] for name in names if name not in for_all and not name.endswith(NEW)]
    untried = [name for name in config.sources.enabled if name not in names and name != "popular"]
    weights |= dict.fromkeys(untried, round(float(np.mean(own)) if own else 1.0, 4))
    return settings | {"candidates.score_weights": weights}


def _without(useless: Mapping[str, str], way: _Way, recall: np.ndarray, table: _Table) -> tuple[dict[str, str], _Way]:
    """The useless sources without which the way finds as much but for chance, with reasons, and the way without them.

    The last source of single users stays, so that lists do not become the same for everybody.
    """
    gone: dict[str, str] = {}
    for name, why in useless.items():
        is_its = np.array([one.removesuffix(NEW) == name for one in table.names])
        fewer = replace(way, weights=np.where(is_its, 0.0, way.weights))
        if not any(fewer.weights[at] for at, one in enumerate(table.names) if one in table.of_users):
            continue
        without = table.recall(fewer)
        if not gains(recall - without):
            gone[name], way, recall = why, fewer, without
    return gone, way
