"""Validation inside the run: which settings of each source, and which blend of all, find most of what was held out.

Owns: the order of the trials, who judges what, and when a choice is made.  Called by the step `validate`.

Judged users are cut into three parts, for settings, for weights, and for the choice of the blend (`validation.blends`),
so that no part judges what it chose.  Each source is tried by itself, and of some the best of each kind beside the
others (`validation.kinds`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from recsys_spark.choices import Settings, with_settings
from recsys_spark.config import Config
from recsys_spark.errors import KernelError
from recsys_spark.kernels.ranked import Ranked
from recsys_spark.validation.blends import choose_blend, useless_sources
from recsys_spark.validation.bounds import is_bounded
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_alone, recall_shared
from recsys_spark.validation.fits import FITTED, Trial, fit_trial
from recsys_spark.validation.grid import Grid
from recsys_spark.validation.kinds import recalls_beside
from recsys_spark.validation.tried import BESIDE, Chosen, Tried, gains

_log = logging.getLogger(__name__)


def choose(
    folds: Sequence[Judged],
    config: Config,
    auto: frozenset[str],
    others: Mapping[str, Sequence[Trial]],
    tell: Callable[[dict[str, float]], None],
    grid: Grid,
) -> Chosen:
    """The settings of `auto` (dotted names) that find most of what was held out, over all folds.

    folds: small runs, each with its own judged users.  others: sources that are not fitted here, as `config` has them,
    one trial a fold.
    """
    folds = _with_same_lists(folds)
    found, trials, alone = Chosen(), dict[str, Sequence[Trial]](), dict[str, np.ndarray]()
    sources = [name for name in config.sources.enabled if name in FITTED]
    for at, source in enumerate(sources):
        best = _choose_settings(source, folds, config, auto, grid, found)
        if best is not None:
            _, trials[source], alone[source] = best
        tell({"done": float(at + 1), "of": float(len(sources) + 1)})
    for source, fitted in others.items():
        trials[source], alone[source] = fitted, _alone(folds, fitted)
    shared = {
        name: np.concatenate([recall_shared(one, name, one.part(SETTINGS)) for one in folds])
        for name in folds[0].shared
    }
    found.tried += [Tried(name, "for everybody", {}, recall) for name, recall in shared.items()]
    untried = [name for name in config.sources.enabled if name not in trials and name != "popular"]
    found.tried += [Tried(name, "not tried", {}, np.zeros(0), why=_NOT_TRIED) for name in untried]
    if "candidates.method" in auto:
        for source, kind in grid.kinds.items():
            if source in trials and len(trials) > 1 and kind in auto:
                trials[source] = _choose_kind(source, kind, folds, config, trials, grid, found)
        useless = useless_sources(alone, shared) if "sources.enabled" in auto else {}
        gone = choose_blend(folds, trials, config, useless, found)
        found.tried += [Tried(name, "left out", {}, alone[name], True, why) for name, why in gone.items()]
        if gone:
            found.settings["sources.enabled"] = [name for name in config.sources.enabled if name not in gone]
    tell({"done": float(len(sources) + 1), "of": float(len(sources) + 1)})
    return found


def _with_same_lists(folds: Sequence[Judged]) -> list[Judged]:
    """The folds, each with every list for everybody that any of them has: one that is not there is empty."""
    names = sorted({name for fold in folds for name in fold.shared})
    nothing = Ranked(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    return [replace(fold, shared={name: fold.shared.get(name, nothing) for name in names}) for fold in folds]


_Best = tuple[Settings, Sequence[Trial], np.ndarray]  # with what each user found


def _choose_settings(
    source: str, folds: Sequence[Judged], config: Config, auto: frozenset[str], grid: Grid, found: Chosen
) -> _Best | None:
    """The best settings of the source; None where the log does not say what the source needs."""
    first = _unlike([], [{}, *_open(grid.first.get(source, ()), auto)], config)
    best, tried = _best_of(source, folds, config, first)
    if best is None:
        return None
    is_better = True
    for stage in grid.then.get(source, ()):
        if stage.follows and not is_better:
            continue
        others = [one for one, recall in sorted(tried, key=lambda one: -one[1].mean()) if one != best[0]]
        bases = [best[0], *others[: stage.n_best - 1]]
        over = _open(stage.settings, auto)
        more = _unlike([one for one, _ in tried], [base | one for base in bases for one in over], config)
        again, further = _best_of(source, folds, config, more)
        tried += further
        is_better = again is not None and _order(*again[1:])[0] and gains(again[2] - best[2])
        best = again if again is not None and is_better else best
    found.settings |= best[0]
    found.tried += [Tried(source, _name_of(one), one, values, one == best[0]) for one, values in tried]
    return best


def _choose_kind(
    source: str,
    kind: str,
    folds: Sequence[Judged],
    config: Config,
    trials: Mapping[str, Sequence[Trial]],
    grid: Grid,
    found: Chosen,
) -> Sequence[Trial]:
    """What is kept of the source: another kind than the best by itself where the blend gains by that."""
    rows = [one for one in found.tried if one.kind == source]
    best = next(one for one in rows if one.chosen)
    of_kind = {one.settings.get(kind): one.settings for one in sorted(rows, key=lambda one: float(one.recall.mean()))}
    others = [one for name, one in of_kind.items() if name != best.settings.get(kind)]
    of_kinds = {name for one in grid.first[source] for name in one}
    shared = {name: value for name, value in best.settings.items() if name not in of_kinds}
    fitted = [(one | shared, _fit(source, folds, with_settings(config, one | shared))) for one in others]
    rivals = [(settings, one) for settings, one in fitted if one is not None]
    if not rivals:
        return trials[source]
    beside = {name: one for name, one in trials.items() if name != source}
    own, *recalls = recalls_beside(folds, beside, [trials[source], *(one for _, one in rivals)])
    at = max(range(len(rivals)), key=lambda at: recalls[at].mean())
    is_better = gains(recalls[at] - own)
    said = [(best.settings, own, False)]
    said += [(settings, recalls[n], is_better and n == at) for n, (settings, _) in enumerate(rivals)]
    found.tried += [Tried(f"{source}{BESIDE}", _name_of(one), one, recall, is_it) for one, recall, is_it in said]
    if not is_better:
        return trials[source]
    found.tried[:] = [replace(one, chosen=False) if one.kind == source else one for one in found.tried]
    for name in best.settings:
        found.settings.pop(name, None)
    found.settings |= rivals[at][0]
    return rivals[at][1]


def _unlike(tried: Sequence[Settings], more: Sequence[Settings], config: Config) -> list[Settings]:
    """Those of `more` that come to other settings than any that was tried, or stands before them."""
    known = [with_settings(config, one) for one in tried]
    found = []
    for one in more:
        changed = with_settings(config, one)
        if changed not in known:
            known.append(changed)
            found.append(one)
    return found


def _best_of(
    source: str, folds: Sequence[Judged], config: Config, grid: Sequence[Settings]
) -> tuple[_Best | None, list[tuple[Settings, np.ndarray]]]:
    """The best of the grid, the first of equals, and what each found; what has collapsed only where all have."""

    def attempt(settings: Settings) -> tuple[Sequence[Trial], np.ndarray] | None:
        trials = _fit(source, folds, with_settings(config, settings))
        return None if trials is None else (trials, _alone(folds, trials))

    best: _Best | None = None
    tried = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for settings, one in zip(grid, pool.map(attempt, grid), strict=True):
            if one is None:
                continue
            tried.append((settings, one[1]))
            if best is None or _order(*one) > _order(*best[1:]):
                best = (settings, *one)
    return best, tried


def _fit(source: str, folds: Sequence[Judged], config: Config) -> Sequence[Trial] | None:
    """The source as configured, fitted to all folds; None where it cannot be, or is past a bound."""
    if not all(is_bounded(source, config, one.log.n_items) for one in folds):
        return None
    try:
        fitted = [fit_trial(source, one.log, config) for one in folds]
    except KernelError as err:  # a setting that cannot be fitted is none to choose
        _log.info("step=validate phase=try source=%s fault=%s", source, err)
        return None
    trials = [one for one in fitted if one is not None]
    return trials if len(trials) == len(folds) else None


def _order(trials: Sequence[Trial], recall: np.ndarray) -> tuple[bool, float]:
    return not any(one.has_collapsed for one in trials), float(recall.mean())


_THREADS = 2

_NOT_TRIED = (
    "needs a later step, or what the log does not have; in a blend of scores it weighs as the others on average"
)


def _alone(folds: Sequence[Judged], trials: Sequence[Trial]) -> np.ndarray:
    """What the lists of one source find, of each user who judges settings."""
    pairs = zip(folds, trials, strict=True)
    return np.concatenate([recall_alone(fold, trial, fold.part(SETTINGS)) for fold, trial in pairs])


def _open(grid: Sequence[Settings], auto: frozenset[str]) -> list[Settings]:
    """The grid without what is not for the run to choose."""
    return [{name: value for name, value in settings.items() if name in auto} for settings in grid]


def _name_of(settings: Settings) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "as configured"
