"""Grid search of the settings of one source, in stages, and the choice of its kind beside the other sources.

Owns: the order in which settings are tried, and when the choice of an earlier run is replaced.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_spark.blend.collect import weight_of
from recsys_spark.config.choices import Settings, source_of, value_of, with_settings
from recsys_spark.config.schema import Config
from recsys_spark.errors import KernelError
from recsys_spark.validation.bounds import is_bounded
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_alone
from recsys_spark.validation.fits import Trial, fit_trial
from recsys_spark.validation.grid import Grid
from recsys_spark.validation.kinds import recalls_beside
from recsys_spark.validation.tried import BESIDE, Chosen, Earlier, Tried, gains

_log = logging.getLogger(__name__)

_THREADS = 2

_KEPT = "was chosen before, and nothing gains on it"


@dataclass(frozen=True)
class Found:
    """Settings, the trials fitted with them, one a fold, and the recall of each user who judges settings."""

    settings: Settings
    trials: Sequence[Trial]
    recall: np.ndarray

    @property
    def order(self) -> tuple[bool, float]:
        """The greater, the better; collapsed trials come last."""
        return not any(one.has_collapsed for one in self.trials), float(self.recall.mean())


@dataclass(frozen=True)
class Search:
    """The search of a run.  auto: names of the settings that may be chosen.

    before: the choice of an earlier run, if any.  found: receives all that is tried, and the chosen settings.
    """

    folds: Sequence[Judged]
    config: Config
    auto: frozenset[str]
    grid: Grid
    before: Earlier | None
    found: Chosen

    def choose_settings(self, source: str) -> Found | None:
        """The best settings of the source, or those of an earlier run where no others gain on them.

        None where the log lacks what the source needs.
        """
        best, tried = self._best_of(source, self._unlike([], [{}, *self._open(self.grid.first.get(source, ()))]))
        if best is None:
            return None
        best, why = self._staged(source, best, tried), ""
        kept = self._kept(source, best, tried)
        if kept is not None and kept.order[0] and not (best.order[0] and gains(best.recall - kept.recall)):
            best, why = kept, _KEPT
        self.found.settings |= best.settings
        for settings, recall in tried:
            is_best = settings == best.settings
            self.found.tried.append(
                Tried(source, _name_of(settings), settings, recall, is_best, why if is_best else "")
            )
        return best

    def _kept(self, source: str, best: Found, tried: list[tuple[Settings, np.ndarray]]) -> Found | None:
        """The source as an earlier run chose it, which is added to what was tried; None if it cannot be fitted."""
        settings = self._earlier(source, [one for one, _ in tried])
        if settings == best.settings:
            return best
        trials = None if settings is None else self._fit(source, settings)
        if settings is None or trials is None:
            return None
        kept = Found(settings, trials, self.alone(trials))
        if all(one != settings for one, _ in tried):
            tried.append((settings, kept.recall))
        return kept

    def _earlier(self, source: str, tried: Sequence[Settings]) -> Settings | None:
        """What an earlier run chose for the source; the equal settings among what was tried, if there are any."""
        if self.before is None or source not in self.before.tried:
            return None
        chosen = self.before.settings.items()
        settings = {name: value for name, value in chosen if name in self.auto and source_of(name) == source}
        same = with_settings(self.config, settings)
        return next((one for one in tried if with_settings(self.config, one) == same), settings)

    def _staged(self, source: str, best: Found, tried: list[tuple[Settings, np.ndarray]]) -> Found:
        """The best after all stages, which are added to what was tried."""
        is_better = True
        for stage in self.grid.then.get(source, ()):
            if stage.follows and not is_better:
                continue
            others = [one for one, recall in sorted(tried, key=lambda one: -one[1].mean()) if one != best.settings]
            bases = [best.settings, *others[: stage.n_best - 1]]
            over = self._open(stage.settings)
            more = self._unlike(tried, [base | one for base in bases for one in over])
            again, further = self._best_of(source, more)
            tried += further
            is_better = again is not None and again.order[0] and gains(again.recall - best.recall)
            best = again if again is not None and is_better else best
        return best

    def choose_kind(self, source: str, trials: Mapping[str, Sequence[Trial]]) -> Sequence[Trial]:
        """The trials of the chosen kind: another kind than the best by itself only where the blend gains by it.

        If an earlier run chose another kind than the best by itself, others have to gain on that.
        """
        given = self.config.candidates.source_weights
        beside = {name: one for name, one in trials.items() if name != source and weight_of(name, given) > 0}
        if not beside or self.grid.kinds[source] not in self.auto:
            return trials[source]
        rows = self.found.tried
        best = next(one.settings for one in rows if one.kind == source and one.chosen)
        fitted = [
            (one, trials[source] if one == best else self._fit(source, one)) for one in self._contenders(source, best)
        ]
        kinds = [(settings, one) for settings, one in fitted if one is not None]
        if len(kinds) < 2:
            return trials[source]
        recalls = recalls_beside(self.folds, beside, source, [one for _, one in kinds], given)
        most = max(range(1, len(kinds)), key=lambda at: recalls[at].mean())
        chosen = most if gains(recalls[most] - recalls[0]) else 0
        is_other = kinds[chosen][0] != best
        rows += [
            Tried(f"{source}{BESIDE}", _name_of(settings), settings, recall, is_other and at == chosen)
            for at, ((settings, _), recall) in enumerate(zip(kinds, recalls, strict=True))
        ]
        if is_other:
            rows[:] = [replace(one, chosen=False) if one.kind == source else one for one in rows]
            for name in best:
                self.found.settings.pop(name, None)
            self.found.settings |= kinds[chosen][0]
        return kinds[chosen][1]

    def _contenders(self, source: str, best: Settings) -> list[Settings]:
        """The best settings of every kind; first those on which the others have to gain.

        Stages were tried on the best kind only: what they changed holds for all kinds that do not set it themselves.
        """
        rows = sorted((one for one in self.found.tried if one.kind == source), key=lambda one: -one.recall.mean())
        later = {name for stage in self.grid.then.get(source, ()) for one in stage.settings for name in one}
        shared = {name: value for name, value in best.items() if name in later}
        earlier = self._earlier(source, [one.settings for one in rows])
        first = best if earlier is None or self._kind(source, earlier) == self._kind(source, best) else earlier
        found = {self._kind(source, first): first}
        found.setdefault(self._kind(source, best), best)
        for one in rows:
            found.setdefault(self._kind(source, one.settings), shared | one.settings)
        return list(found.values())

    def _kind(self, source: str, settings: Settings) -> Any:
        return value_of(with_settings(self.config, settings), self.grid.kinds[source])

    def alone(self, trials: Sequence[Trial]) -> np.ndarray:
        """Recall of the lists of one source, of each user who judges settings."""
        pairs = zip(self.folds, trials, strict=True)
        return np.concatenate([recall_alone(fold, trial, fold.part(SETTINGS)) for fold, trial in pairs])

    def _best_of(self, source: str, grid: Sequence[Settings]) -> tuple[Found | None, list[tuple[Settings, np.ndarray]]]:
        """The best of the grid, the first of equals, and the recall of each; collapsed only if all have collapsed."""

        def attempt(settings: Settings) -> Found | None:
            trials = self._fit(source, settings)
            return None if trials is None else Found(settings, trials, self.alone(trials))

        best: Found | None = None
        tried = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for one in pool.map(attempt, grid):
                if one is None:
                    continue
                tried.append((one.settings, one.recall))
                if best is None or one.order > best.order:
                    best = one
        return best, tried

    def _fit(self, source: str, settings: Settings) -> Sequence[Trial] | None:
        """The source fitted to all folds; None if it cannot be fitted, or is beyond a bound."""
        config = with_settings(self.config, settings)
        if not all(is_bounded(source, config, one.log.n_items) for one in self.folds):
            return None
        try:
            fitted = [fit_trial(source, one.log, config) for one in self.folds]
        except KernelError as err:  # settings that cannot be fitted cannot be chosen
            _log.info("step=validate phase=try source=%s settings=%s fault=%s", source, settings, err)
            return None
        trials = [one for one in fitted if one is not None]
        return trials if len(trials) == len(fitted) else None

    def _unlike(self, tried: Sequence[tuple[Settings, np.ndarray]], more: Sequence[Settings]) -> list[Settings]:
        """Those of `more` whose settings differ from all that were tried, and from those before them in `more`."""
        known = [with_settings(self.config, one) for one, _ in tried]
        found = []
        for one in more:
            changed = with_settings(self.config, one)
            if changed not in known:
                known.append(changed)
                found.append(one)
        return found

    def _open(self, grid: Sequence[Settings]) -> list[Settings]:
        """The grid without the settings that the run may not choose."""
        return [{name: value for name, value in settings.items() if name in self.auto} for settings in grid]


def _name_of(settings: Settings) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "as configured"
