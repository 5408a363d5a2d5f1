"""Item-item CF as its papers define it, on dense matrices and one pair at a time; and small logs to try it on.

A matrix is float (n_users, n_items), 0 where a user has nothing.
"""

from itertools import pairwise
from math import sqrt

import numpy as np

from recsys_spark.item_cf.kernels.similarity import (
    ItemSums,
    Similarity,
    entry_values,
    item_parts,
    nearest_items,
    sums_of_parts,
)
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from tests.sparse import csr_of_pairs

NAMES = ("cosine", "jaccard", "conditional", "pearson", "rp3beta")
ALPHA, BETA, GAMMA = 0.8, 0.4, 0.6

List = list[tuple[int, float]]


def similarity_of(name: str, shrinkage: float = 0.0, least: int = 1, num_neighbors: int = 1000) -> Similarity:
    """The similarity with the exponents of these tests."""
    return Similarity(name, ALPHA, BETA, GAMMA, shrinkage, least, num_neighbors)


def oracle_similarities(matrix: np.ndarray, similarity: Similarity) -> np.ndarray:
    """Similarity of every item to every other, 0 where there is none, (n_items, n_items)."""
    found = np.zeros((matrix.shape[1], matrix.shape[1]))
    anybody_has = np.flatnonzero(matrix.any(axis=0)).tolist()
    for i in anybody_has:
        for j in anybody_has:
            shared = [u for u in range(len(matrix)) if matrix[u, i] > 0 and matrix[u, j] > 0]
            if i != j and shared and len(shared) >= similarity.min_co_occurrence:
                value, below = _similarity_and_denominator(matrix.astype(float), i, j, shared, similarity)
                # Shrinkage is added to what stands below the line.
                found[i, j] = value * below / (below + similarity.shrinkage) if below else 0.0
    return found


def _similarity_and_denominator(
    matrix: np.ndarray, i: int, j: int, shared: list[int], similarity: Similarity
) -> tuple[float, float]:
    of_i, of_j = np.flatnonzero(matrix[:, i]), np.flatnonzero(matrix[:, j])
    match similarity.name:
        case "cosine":  # of the angle between two columns
            below = np.linalg.norm(matrix[:, i]) * np.linalg.norm(matrix[:, j])
            return sum(matrix[u, i] * matrix[u, j] for u in shared) / below, below
        case "jaccard":  # intersection over union
            union = set(of_i) | set(of_j)
            return len(shared) / len(union), len(union)
        case "conditional":  # Deshpande, Karypis 2004: P(j | i), with popular j damped
            below = len(of_i) * len(of_j) ** similarity.beta
            return len(shared) / below, below
        case "pearson":  # correlation of two columns over all users who have anything
            active = matrix[matrix.any(axis=1)]
            from_mean = active - active.mean(axis=0)
            below = sqrt((from_mean[:, i] ** 2).sum()) * sqrt((from_mean[:, j] ** 2).sum())
            return ((from_mean[:, i] * from_mean[:, j]).sum() / below if below > 1e-9 else 0.0), below
        case "rp3beta":  # Paudel et al. 2017: item to user to item, each to a power of its own
            walk = 0.0
            for u in shared:
                to_user, to_item = matrix[u, i] / matrix[:, i].sum(), matrix[u, j]
                walk += to_user**similarity.alpha * to_item**similarity.alpha / matrix[u].sum() ** similarity.gamma
            below = matrix[:, i].sum() ** similarity.alpha * len(of_j) ** similarity.beta
            return walk / len(of_j) ** similarity.beta, below
    raise AssertionError(similarity.name)


def oracle_scores(history: np.ndarray, near: np.ndarray, hidden: np.ndarray, k: int, normalize: bool) -> list[List]:
    """The k best items of every user; near: (n_keys, n_items) similarities."""
    lists: list[List] = []
    for user in range(len(history)):
        scores = []
        for item in range(near.shape[1]):
            keys = [key for key in range(near.shape[0]) if history[user, key] > 0 and near[key, item] > 0]
            score = sum(history[user, key] * near[key, item] for key in keys)
            if normalize and keys:
                score /= sum(near[key, item] for key in keys)
            if score > 0 and not hidden[user, item]:
                scores.append((item, score))
        lists.append(sorted(scores, key=lambda entry: (-np.float32(entry[1]), entry[0]))[:k])
    return lists


def long_tailed(seed: int, n_users: int, n_items: int) -> np.ndarray:
    """Weights of a random log, float32: the first items are everywhere, the last ones hardly anywhere."""
    rng = np.random.default_rng(seed)
    has = rng.random((n_users, n_items)) < 0.9 / np.arange(1, n_items + 1) ** 0.7
    return np.where(has, rng.uniform(0.1, 5.0, has.shape), 0).astype(np.float32)


def sparse(matrix: np.ndarray) -> Csr:
    """The matrix as a `Csr`."""
    rows, cols = np.nonzero(matrix)
    return csr_of_pairs(rows, cols, matrix[rows, cols], *matrix.shape)


def chunks_of(weights: Csr, cuts: list[int]) -> list[Csr]:
    """The rows of `weights` cut before those of `cuts`, which may repeat."""
    edges = [0, *sorted(cuts), weights.n_rows]
    chunks = []
    for first, end in pairwise(edges):
        entries = slice(weights.indptr[first], weights.indptr[end])
        indptr = weights.indptr[first : end + 1] - weights.indptr[first]
        chunks.append(Csr(indptr, weights.indices[entries], weights.values[entries], weights.n_cols))
    return chunks


def sums_of(weights: Csr) -> ItemSums:
    """The sums of a whole matrix."""
    return sums_of_parts(item_parts(weights), int(np.count_nonzero(weights.lengths)))


def neighbors_of(weights: Csr, similarity: Similarity, listed: np.ndarray | None = None) -> Ranked:
    """The lists of all items, from one chunk and one block."""
    values = entry_values(weights, similarity)
    return nearest_items(values, range(weights.n_cols), None, sums_of(weights), similarity, listed)


def lists_of(ranked: Ranked) -> list[List]:
    """(index, score) of every list."""
    entries = list(zip(ranked.indices.tolist(), ranked.scores.tolist(), strict=True))
    return [entries[ranked.indptr[row] : ranked.indptr[row + 1]] for row in range(len(ranked.indptr) - 1)]


def ranked_of(lists: list[List]) -> Ranked:
    """The lists as the kernels exchange them."""
    indptr = np.cumsum([0, *map(len, lists)])
    flat = [entry for entries in lists for entry in entries]
    indices, scores = (np.array([entry[at] for entry in flat]) for at in (0, 1))
    return Ranked(indptr, indices.astype(np.int32), scores.astype(np.float32))


def assert_same_lists(found: Ranked, expected: Ranked) -> None:
    """Bit for bit."""
    for name, column, other in zip(Ranked._fields, found, expected, strict=True):
        np.testing.assert_array_equal(column, other, err_msg=name)
