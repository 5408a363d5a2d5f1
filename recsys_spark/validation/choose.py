"""Model selection inside the run: the settings of each source, and the blend of all, with the highest held-out recall.

Owns: who judges what.

Judged users are cut into three parts: one for settings, of each source by itself, and for some sources of the best of
each kind beside the others (`validation.search`); one for weights; and one for the choice of the blend
(`validation.blends`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from recsys_spark.config.schema import Config
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.validation.blends import choose_blend, useless_sources
from recsys_spark.validation.choice_sets import SETTINGS, Judged, recall_shared
from recsys_spark.validation.fits import FITTED, Trial
from recsys_spark.validation.grid import Grid
from recsys_spark.validation.search import Search
from recsys_spark.validation.tried import Chosen, Earlier, Tried

_NOT_TRIED = (
    "needs a later step, or what the log does not have; in a blend of scores it weighs as the others on average"
)


def choose(
    folds: Sequence[Judged],
    config: Config,
    auto: frozenset[str],
    others: Mapping[str, Sequence[Trial]],
    tell: Callable[[dict[str, float]], None],
    grid: Grid,
    before: Earlier | None = None,
) -> Chosen:
    """The settings of `auto` (dotted names) that find most of what was held out, over all folds.

    folds: small runs, each with its own judged users.  others: sources that are not fitted here, as `config` has them,
    one trial a fold.  before: what an earlier run chose under the same settings, kept where nothing gains on it.
    """
    folds = _with_same_lists(folds)
    found, trials, alone = Chosen(), dict[str, Sequence[Trial]](), dict[str, np.ndarray]()
    search = Search(folds, config, auto, grid, before, found)
    sources = [name for name in config.sources.enabled if name in FITTED]
    for at, source in enumerate(sources):
        best = search.choose_settings(source)
        if best is not None:
            trials[source], alone[source] = best.trials, best.recall
        tell({"done": float(at + 1), "of": float(len(sources) + 1)})
    for source, fitted in others.items():
        trials[source], alone[source] = fitted, search.alone(fitted)
    shared = {
        name: np.concatenate([recall_shared(one, name, one.part(SETTINGS)) for one in folds])
        for name in folds[0].shared
    }
    found.tried += [Tried(name, "for everybody", {}, recall) for name, recall in shared.items()]
    untried = [name for name in config.sources.enabled if name not in trials and name != "popular"]
    found.tried += [Tried(name, "not tried", {}, np.zeros(0), why=_NOT_TRIED) for name in untried]
    if "candidates.method" in auto:
        for source in grid.kinds:
            if source in trials:
                kind = search.choose_kind(source, trials)
                if kind is not trials[source]:
                    trials[source], alone[source] = kind, search.alone(kind)
        useless = useless_sources(alone, shared) if "sources.enabled" in auto else {}
        gone = choose_blend(folds, trials, config, useless, found, before)
        found.tried += [
            Tried(name, "left out", {}, alone.get(name, np.zeros(0)), True, why) for name, why in gone.items()
        ]
        if gone:
            found.settings["sources.enabled"] = [name for name in config.sources.enabled if name not in gone]
    tell({"done": float(len(sources) + 1), "of": float(len(sources) + 1)})
    return found


def _with_same_lists(folds: Sequence[Judged]) -> list[Judged]:
    """The folds, each with every list for everybody that any of them has; a missing one is empty."""
    names = sorted({name for fold in folds for name in fold.shared})
    nothing = Ranked(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    return [replace(fold, shared={name: fold.shared.get(name, nothing) for name in names}) for fold in folds]
