"""Records of trials and choices, and the tests of a difference between two trials.

Owns: `Tried`, `Chosen`, `Earlier`, and the two rules by which one way counts as better than another.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys_spark.config.choices import Settings

_SURE = 2.0  # standard errors

BESIDE = ", beside the others"  # ends the kind of a trial of a source that was judged in a blend


@dataclass(frozen=True)
class Tried:
    """One trial.  kind: a source, one that ends in BESIDE, or blend.  name: of the variant.

    recall: of each user who judged it, float64.
    """

    kind: str
    name: str
    settings: Settings
    recall: np.ndarray
    chosen: bool = False
    why: str = ""


@dataclass
class Chosen:
    """All trials, and the settings that were chosen."""

    tried: list[Tried] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What an earlier run chose under the same settings.

    tried: sources that it tried.  left: those of them that it left out.
    """

    settings: Settings
    tried: frozenset[str]
    left: frozenset[str]


def gains(more: np.ndarray) -> bool:
    """Whether the mean of paired differences, float64 (n,), is above 0 by one standard error: for costlier settings."""
    return bool(more.mean() > more.std() / np.sqrt(max(1, len(more))) and more.mean() > 0)


def surely_less(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `a` is below `b` by two standard errors of the difference; recalls of the same users, float64 (n,)."""
    less = b - a
    return bool(less.mean() > _SURE * less.std() / np.sqrt(max(1, len(less))))
