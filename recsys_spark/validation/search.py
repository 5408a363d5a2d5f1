"""Searches the settings of one source, and which kind of it is to stand beside the others.

Owns: the order in which settings are tried, and when others are taken than those of an earlier run.  Called by
`validation.choose`.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_spark.choices import Settings, source_of, with_settings
from recsys_spark.config import Config
from recsys_spark.errors import KernelError
from recsys_spark.validation.bounds import is_bounded
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_alone
from recsys_spark.validation.fits import Trial, fit_trial
from recsys_spark.validation.grid import Grid
from recsys_spark.validation.kinds import recalls_beside
from recsys_spark.validation.tried import BESIDE, Chosen, Tried, gains

_log = logging.getLogger(__name__)

_THREADS = 2


@dataclass(frozen=True)
class Found:
    """Settings, what was fitted with them, one trial a fold, and the recall of each user who judges settings."""

    settings: Settings
    trials: Sequence[Trial]
    recall: np.ndarray

    @property
    def order(self) -> tuple[bool, float]:
        """The greater, the better: what has collapsed comes last."""
        return not any(one.has_collapsed for one in self.trials), float(self.recall.mean())


@dataclass(frozen=True)
class Search:
    """auto: names of the settings that may be chosen.  before: what an earlier run chose, {}: there is none.

    found: takes all that is tried, and the settings that are chosen.
    """

    folds: Sequence[Judged]
    config: Config
    auto: frozenset[str]
    grid: Grid
    before: Mapping[str, Any]
    found: Chosen

    def settings_of(self, source: str) -> Found | None:
        """The best settings of the source, or those of an earlier run where no others gain on them.

        None where the log does not say what the source needs.
        """
        earlier = {
            name: value for name, value in self.before.items() if name in self.auto and source_of(name) == source
        }
        kept, tried = self._best_of(source, [earlier] if self.before else [])
        first = self._unlike(tried, [{}, *self._open(self.grid.first.get(source, ()))])
        best, others = self._best_of(source, first)
        tried += others
        best = kept if best is None else best
        if best is None:
            return None
        best = self._staged(source, best, tried)
        if kept is not None and kept.order[0] and not gains(best.recall - kept.recall):
            best = kept
        self.found.settings |= best.settings
        self.found.tried += [Tried(source, _name_of(one), one, recall, one == best.settings) for one, recall in tried]
        return best

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

    def kind_of(self, source: str, trials: Mapping[str, Sequence[Trial]]) -> Sequence[Trial]:
        """What is kept of the source: another kind than the best by itself where the blend gains by that."""
        kind = self.grid.kinds[source]
        beside = {name: one for name, one in trials.items() if name != source}
        rivals = self._rivals(source, kind) if beside and kind in self.auto else []
        if not rivals:
            return trials[source]
        rows = self.found.tried
        best = next(one for one in rows if one.kind == source and one.chosen)
        own, *recalls = recalls_beside(self.folds, beside, [trials[source], *(one for _, one in rivals)])
        at = max(range(len(rivals)), key=lambda at: recalls[at].mean())
        is_better = gains(recalls[at] - own)
        if is_better:
            rows[:] = [replace(one, chosen=False) if one.kind == source else one for one in rows]
            for name in best.settings:
                self.found.settings.pop(name, None)
            self.found.settings |= rivals[at][0]
        said = [(best.settings, own), *zip((settings for settings, _ in rivals), recalls, strict=True)]
        rows += [
            Tried(f"{source}{BESIDE}", _name_of(settings), settings, recall, is_better and n == at + 1)
            for n, (settings, recall) in enumerate(said)
        ]
        return rivals[at][1] if is_better else trials[source]

    def _rivals(self, source: str, kind: str) -> list[tuple[Settings, Sequence[Trial]]]:
        """The best settings of every other kind, under what no kind has of its own as it was chosen, fitted."""
        rows = [one for one in self.found.tried if one.kind == source]
        best = next(one.settings for one in rows if one.chosen)
        of_kind = {one.settings.get(kind): one.settings for one in sorted(rows, key=lambda one: one.recall.mean())}
        of_kinds = {name for one in self.grid.first[source] for name in one}
        shared = {name: value for name, value in best.items() if name not in of_kinds}
        found = []
        for name, settings in of_kind.items():
            if name != best.get(kind):
                fitted = self._fit(source, settings | shared)
                found += [] if fitted is None else [(settings | shared, fitted)]
        return found

    def alone(self, trials: Sequence[Trial]) -> np.ndarray:
        """What the lists of one source find, of each user who judges settings."""
        pairs = zip(self.folds, trials, strict=True)
        return np.concatenate([recall_alone(fold, trial, fold.part(SETTINGS)) for fold, trial in pairs])

    def _best_of(self, source: str, grid: Sequence[Settings]) -> tuple[Found | None, list[tuple[Settings, np.ndarray]]]:
        """The best of the grid, the first of equals, and what each found; what has collapsed only where all have."""

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
        """The source fitted to all folds; None where it cannot be, or is past a bound."""
        config = with_settings(self.config, settings)
        if not all(is_bounded(source, config, one.log.n_items) for one in self.folds):
            return None
        try:
            fitted = [fit_trial(source, one.log, config) for one in self.folds]
        except KernelError as err:  # a setting that cannot be fitted is none to choose
            _log.info("step=validate phase=try source=%s settings=%s fault=%s", source, settings, err)
            return None
        trials = [one for one in fitted if one is not None]
        return trials if len(trials) == len(fitted) else None

    def _unlike(self, tried: Sequence[tuple[Settings, np.ndarray]], more: Sequence[Settings]) -> list[Settings]:
        """Those of `more` that come to other settings than any that was tried, or stands before them."""
        known = [with_settings(self.config, one) for one, _ in tried]
        found = []
        for one in more:
            changed = with_settings(self.config, one)
            if changed not in known:
                known.append(changed)
                found.append(one)
        return found

    def _open(self, grid: Sequence[Settings]) -> list[Settings]:
        """The grid without what is not for the run to choose."""
        return [{name: value for name, value in settings.items() if name in self.auto} for settings in grid]


def _name_of(settings: Settings) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "as configured"
