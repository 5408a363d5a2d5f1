"""Which kind of a source finds most beside all other sources.

Owns: how kinds are compared.

What is best by itself may say what another source says already: on one log a walk over shared users was the best
neighbourhood alone, and a regression, below it, added more to factors.  So the best of each kind is blended with the
other sources, by weights fitted on one part of the judged users and judged on those who judge settings.  All kinds
order one pool, the first items of every list, theirs too: what differs is how well they order it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from recsys_spark.blend.collect import weight_of
from recsys_spark.blend.kernels.score_fusion import bounded
from recsys_spark.validation.choice_sets import (
    KINDS,
    NEW,
    WEIGHTS,
    Judged,
    columns_of,
    joined,
    recalls_by,
    sets_by_fold,
)
from recsys_spark.validation.fits import Trial
from recsys_spark.validation.kernels.conditional_logit import Taken, fit_weights

_DEPTH = 50  # first items of every list
_RIDGE = 0.01


def recalls_beside(
    folds: Sequence[Judged],
    trials: Mapping[str, Sequence[Trial]],
    source: str,
    kinds: Sequence[Sequence[Trial]],
    given: Mapping[str, float],
) -> list[np.ndarray]:
    """What the blend of `trials` and each of the kinds finds, of the users who judge kinds, float64 (n_judges,).

    trials: of the other sources, by name, one a fold.  kinds: of each kind of `source` one trial a fold.  given: by
    source or list what a person multiplies its weight by.
    """
    rivals = {f"{source}/kind {at}": kind for at, kind in enumerate(kinds)}
    fitted = {**trials, **rivals}
    names = columns_of(fitted, folds[0].shared)
    sets, held = sets_by_fold(folds, fitted, KINDS, _DEPTH), joined(sets_by_fold(folds, fitted, WEIGHTS, _DEPTH))
    times = np.array([weight_of(name.removesuffix(NEW), given) for name in names])
    prior = np.array([float(name not in folds[0].shared) for name in names])

    def recall(rival: str) -> np.ndarray:
        at = [at for at, name in enumerate(names) if name not in rivals or name == rival]

        def said(one: Taken) -> np.ndarray:
            return np.asarray(bounded(one.values[:, at], "capped") * times[at])

        weights = fit_weights(replace(held, values=said(held)), prior[at], _RIDGE)
        return recalls_by(folds, KINDS, sets, lambda one: said(one) @ weights)

    return [recall(rival) for rival in rivals]
