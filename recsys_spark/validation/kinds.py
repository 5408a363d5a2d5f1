"""Which kind of a source finds most beside all other sources.

Owns: how kinds are compared.  Called by `validation.search`.

What is best by itself may say what another source says already: on one log a walk over shared users was the best
neighbourhood alone, and a regression, below it, added more to factors.  So the best of each kind is blended with the
other sources, by weights fitted on one part of the judged users and judged on those who judge settings.  All kinds
order one pool, the first items of every list, theirs too: what differs is how well they order it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from recsys_spark.adapters.blend import weight_of
from recsys_spark.kernels.score_fusion import bounded
from recsys_spark.kernels.shrunk_weights import fit_weights
from recsys_spark.validation.choice_sets import (
    KINDS,
    NEW,
    WEIGHTS,
    Judged,
    choice_sets,
    columns_of,
    joined,
    recall_by,
)
from recsys_spark.validation.fits import Trial

_DEPTH = 50  # first items of every list
_RIDGE = 0.01


def recalls_beside(
    folds: Sequence[Judged],
    trials: Mapping[str, Sequence[Trial]],
    kinds: Sequence[Sequence[Trial]],
    given: Mapping[str, float],
) -> list[np.ndarray]:
    """What the blend of `trials` and each of the kinds finds, of the users who judge kinds, float64 (n_judges,).

    trials: of the other sources, by name, one a fold.  kinds: of each kind one trial a fold.  given: by list what a
    person multiplies its weight by.
    """
    rivals = {f"kind {at}": kind for at, kind in enumerate(kinds)}
    by_fold = [{name: one[at] for name, one in {**trials, **rivals}.items()} for at in range(len(folds))]
    names = columns_of(by_fold[0], folds[0].shared)
    sets = [choice_sets(fold, one, KINDS, _DEPTH) for fold, one in zip(folds, by_fold, strict=True)]
    held = joined([choice_sets(fold, one, WEIGHTS, _DEPTH) for fold, one in zip(folds, by_fold, strict=True)])
    found = []
    for rival in rivals:
        columns = [at for at, name in enumerate(names) if name not in rivals or name == rival]
        times = np.array([weight_of(names[at].removesuffix(NEW), given) for at in columns])
        prior = np.array([float(names[at] not in folds[0].shared) for at in columns])
        weights = fit_weights(replace(held, values=bounded(held.values[:, columns], "capped") * times), prior, _RIDGE)
        totals = [bounded(one.values[:, columns], "capped") @ (weights * times) for one in sets]
        parts = zip(folds, sets, totals, strict=True)
        found.append(np.concatenate([recall_by(fold, KINDS, one, total) for fold, one, total in parts]))
    return found
