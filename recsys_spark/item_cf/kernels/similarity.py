"""Item-item similarities, and the most similar items of every item: row products, similarity and top-N in one pass.

Owns: the similarities and the sums that they are made of.

With users as rows u and items as columns i of a weight matrix w, the co-occurrence of two items is
c_ij = sum over u of v_ui * v_uj, where v_ui is w_ui, or 1, or w_ui^alpha / t_u^(gamma / 2) (see `entry_values`).  Every
similarity is made of c_ij and a few numbers per item: n_i users, t_i = sum of w_ui, |i| = sqrt(sum of w_ui^2).

    cosine        c / (|i| |j| + shrinkage)                     v = w
    jaccard       c / (n_i + n_j - c + shrinkage)               v = 1
    conditional   c / (n_i n_j^beta + shrinkage)                v = 1; Deshpande, Karypis 2004, section 4.1.2
    pearson       (c - t_i t_j / N) / (s_i s_j + shrinkage)     v = w, s_i^2 = |i|^2 - t_i^2 / N, with N users who have
                                                                any item; an item that is not had weighs 0
    rp3beta       c / (t_i^alpha n_j^beta + shrinkage)          v = w^alpha / t_u^(gamma / 2): two steps of a random
                                                                walk, damped by popularity; Paudel et al. 2017, where
                                                                gamma is alpha
    ridge         by cosine, then `item_cf.kernels.ridge`       v = w

Products are added in float64 in the order of the users, one after the other, so that a sum has the same bits however
the users are cut into chunks.  The transpose of the matrix gives user-user CF.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from recsys_spark.errors import KernelError
from recsys_spark.item_cf.kernels.row_products import CoOccurrences, Scale, extend, nearest, no_co_occurrences
from recsys_spark.numeric.ranked import Ranked, ranked_of_rows
from recsys_spark.numeric.sparse import Csr, transposed

SimilarityName = Literal["cosine", "jaccard", "conditional", "pearson", "rp3beta", "ridge"]

# Below this share of an item's squared weights a variance is what rounding left of a zero.
_NO_VARIANCE = 1e-12

# Sums are kept as integers: whole units, and fractions in units of 2**-36.  2**23 users with squares of this weight, or
# 2**27 fractions, fit into 63 bits.
MAX_WEIGHT = float(2**20)
_FRACTION = float(2**36)

# Of an entry in float32, so that sums of products stay finite, and above 0.
_LEAST_VALUE, _GREATEST_VALUE = float(np.finfo(np.float32).tiny), 2.0**100

# An item whose mean weight, or mean squared weight, is smaller than this many fractions is known to less than 1e-4:
# its weights have decayed to nothing (a squared weight, after 12 half-lives), and nothing is similar to it.
_FAINT = 2**12 / _FRACTION


@dataclass(frozen=True)
class Similarity:
    """What similar means; alpha, beta, gamma, shrinkage as in the formulas of the module.

    min_co_occurrence: users that two items must share, from 1.  num_neighbors: longest list kept.  ridge: of the
    similarity of that name alone, above 0, in mean squared weights of a pair.
    """

    name: SimilarityName
    alpha: float
    beta: float
    gamma: float
    shrinkage: float
    min_co_occurrence: int
    num_neighbors: int
    ridge: float = 0.0


@dataclass(frozen=True)
class ItemSums:
    """Per item over all users, float64 (n_items,): n, total (of weights), squares (of weights).

    n_users: users with any item.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    n_users: int


def item_parts(weights: Csr) -> np.ndarray:
    """What `sums_of_parts` needs of the users of `weights`, int64 (5, n_items): exact, so parts add up in any order.

    Raises KernelError if a weight is not in (0, MAX_WEIGHT].
    """
    wrong = ~((weights.values > 0) & (weights.values <= MAX_WEIGHT))
    if wrong.any():
        raise KernelError(
            f"item_cf weights: expected numbers above 0, at most {MAX_WEIGHT}, got {weights.values[wrong][0]:g}; give "
            "the event type value_transform = log, or a smaller value_cap"
        )
    return _parts(weights)


def sums_of_parts(parts: np.ndarray, n_users: int) -> ItemSums:
    """The sums over all users, from the sum of their `item_parts`."""
    n, total, total_rest, squares, squares_rest = parts.astype(np.float64)
    return ItemSums(n, total + total_rest / _FRACTION, squares + squares_rest / _FRACTION, n_users)


@njit(cache=True, nogil=True)
def _parts(weights: Csr) -> np.ndarray:
    """Rows: users, weights in whole units and in units of 1 / _FRACTION, squared weights in both."""
    parts = np.zeros((5, weights.n_cols), np.int64)
    for entry in range(len(weights.indices)):
        item, weight = weights.indices[entry], np.float64(weights.values[entry])
        parts[0, item] += 1
        for row, value in ((1, weight), (3, weight * weight)):
            parts[row, item] += np.int64(value)
            parts[row + 1, item] += np.int64(round((value - np.floor(value)) * _FRACTION))
    return parts


def entry_values(weights: Csr, similarity: Similarity) -> Csr:
    """v_ui of the module's formulas in place of w_ui, float32; weights: (n_users, n_items), all > 0."""
    match similarity.name:
        case "cosine" | "pearson" | "ridge":
            values = weights.values
        case "jaccard" | "conditional":
            values = np.ones_like(weights.values)
        case "rp3beta":
            totals = np.bincount(weights.rows, weights=weights.values, minlength=weights.n_rows)  # (n_users,)
            damped = np.repeat(totals ** (similarity.gamma / 2), weights.lengths)
            # A sum of 0 says that two items share no user, and one of infinity says nothing.
            shares = np.clip(weights.values ** np.float64(similarity.alpha) / damped, _LEAST_VALUE, _GREATEST_VALUE)
            values = shares.astype(np.float32)
    return weights._replace(values=values)


def co_occurrences(values: Csr, items: range, known: CoOccurrences | None, similarity: Similarity) -> CoOccurrences:
    """`known` and what the users of `values` add to it; they come after those of `known` in the order of users.

    values: a chunk of users, as `entry_values` gives them.  items: the block.  known: None before the first chunk.
    """
    by_item = transposed(values, items.start, items.stop)
    known = known or no_co_occurrences(len(items))
    return CoOccurrences(*extend(values, by_item, known, counting=similarity.min_co_occurrence > 1))


def nearest_items(
    values: Csr,
    items: range,
    known: CoOccurrences | None,
    sums: ItemSums,
    similarity: Similarity,
    listed: np.ndarray | None = None,
) -> Ranked:
    """The most similar items of each item of the block, at most `num_neighbors`, itself left out.

    values: the last, or only, chunk of users.  known: from the chunks before it.  sums: over all users.
    listed: bool (n_items,), what may stand in a list; None: everything.
    """
    by_item = transposed(values, items.start, items.stop)
    known = known or no_co_occurrences(len(items))
    scale = _scale(sums, similarity)
    if listed is not None:
        scale = scale._replace(right=np.where(listed, scale.right, np.inf))  # nothing over infinity is above 0
    n, least = similarity.num_neighbors, similarity.min_co_occurrence
    return ranked_of_rows(*nearest(values, by_item, known, items.start, scale, least, n))


def _scale(sums: ItemSums, similarity: Similarity) -> Scale:
    mean = np.zeros_like(sums.n)
    match similarity.name:
        case "cosine" | "ridge":
            left = right = np.sqrt(_unless_faint(sums.squares, sums.n))
        case "jaccard":
            left = right = sums.n
        case "conditional":
            left, right = sums.n, sums.n**similarity.beta
        case "rp3beta":
            left, right = _unless_faint(sums.total, sums.n) ** similarity.alpha, sums.n**similarity.beta
        case "pearson":
            mean = sums.total / np.sqrt(sums.n_users)
            variance = _unless_faint(sums.squares, sums.n) - mean**2
            # Half a fraction per user in the squares, as much in the total, whose square is taken.
            rounding = sums.n * (0.5 + sums.total / sums.n_users) / _FRACTION
            # Nothing is similar to what everybody has.
            left = right = np.sqrt(np.where(variance > _NO_VARIANCE * sums.squares + rounding, variance, np.inf))
    return Scale(left, right, mean, similarity.shrinkage, similarity.name == "jaccard")


def _unless_faint(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    """`sums` of n numbers each, infinite where they are too small to be told from their rounding."""
    known: np.ndarray = np.where(sums >= n * _FAINT, sums, np.inf)
    return known
