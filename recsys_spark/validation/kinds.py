"""Comparison of the kinds of a source (its similarities), each blended with all other sources.

Owns: how kinds are compared.

The best kind by itself may repeat what another source has: on one log a walk over shared users was the best
neighbourhood alone, and a regression, below it, added more to factors.  So the best of each kind is blended with the
other sources, by weights fitted on one part of the judged users, and judged on users who judge settings.  All kinds
order one pool, the first items of every list, also of their own: they differ only in how well they order it.
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
    """Recall of the blend of `trials` with each of the kinds, of the users who judge kinds, float64 (n_judges,).

    trials: of the other sources, by name, one a fold.  kinds: of each kind of `source` one trial a fold.  given: by
    source or list, the factor of its weight in the settings.
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
