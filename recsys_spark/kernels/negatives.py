"""Items that a user is taken not to want: drawn at random, or by how often they are wanted, and what that expects.

Owns: the distributions, and how often a drawn item was to be expected.
"""

from typing import Literal

import numpy as np

# Of popularity, in the second distribution (Mikolov et al. 2013, section 2.2).
_POWER = 0.75


def proposal(share: np.ndarray, had: np.ndarray, kind: Literal["uniform", "popularity"]) -> np.ndarray:
    """How probable each item is in a draw, float64 (n_items,): the same for all, or as share ** 0.75.

    share: of each item in the examples.  had: whether anybody ever had it, bool (n_items,); what nobody had is not
    drawn, as nobody had the choice: a model that learns to reject it rejects whatever is new.
    """
    if kind == "uniform":
        return np.asarray(had / max(1, had.sum()), np.float64)
    powers = share**_POWER
    return np.asarray(powers / powers.sum())


def draw(rng: np.random.Generator, probabilities: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Items drawn with replacement, int32."""
    bounds = np.cumsum(probabilities)
    found = np.searchsorted(bounds, rng.random(shape) * bounds[-1], side="right")
    return np.asarray(np.minimum(found, len(probabilities) - 1), np.int32)


def expected_log_counts(share: np.ndarray, n_in_batch: int, probabilities: np.ndarray, n_random: int) -> np.ndarray:
    """log Q_j: log of how often item j is expected among `n_in_batch` positives of others and `n_random` draws.

    Both samplers together: an item is then worth the same whichever drew it, and the sum over all that were drawn of
    exp(s_j) / Q_j is the sum of exp(s_j) over all items on average.  float32 (n_items,).
    """
    expected = n_in_batch * share + n_random * probabilities
    return np.asarray(np.log(np.maximum(expected, np.finfo(np.float32).tiny)), np.float32)
