"""In-process fits of a small log: item-item CF, ALS and the graph filter, by the kernels of the cluster.

Owns: the order in which these kernels are called where there is one block.

Letters: n users, m items, f length of a vector.
"""

from typing import NamedTuple

import numpy as np

from recsys_spark.als.kernels.objective import Ridge, diagonal, fixed_side, gramian, initial_factors, solve_rows
from recsys_spark.item_cf.kernels.ridge import added_by_neighbors, lists_of_added, near_of_block, ridge_of
from recsys_spark.item_cf.kernels.similarity import Similarity, entry_values, item_parts, nearest_items, sums_of_parts
from recsys_spark.low_pass.kernels.graph_filter import normalised, orthonormal, products, singular
from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr, transposed


class Vectors(NamedTuple):
    """Fitted vectors.  users: float32 (wanted rows, f).  items: float32 (m, f).

    explained: the part by which the objective is below that of zero vectors; 1 where there is no objective.
    """

    users: np.ndarray
    items: np.ndarray
    explained: float = 1.0


def fit_neighbors(weights: Csr, similarity: Similarity, listed: np.ndarray) -> Ranked:
    """The nearest items of every item; weights: (n, m), above 0; listed: bool (m,), what may stand in a list."""
    sums = sums_of_parts(item_parts(weights), int(np.count_nonzero(weights.lengths)))
    values, items = entry_values(weights, similarity), range(weights.n_cols)
    if similarity.name != "ridge":
        return nearest_items(values, items, None, sums, similarity, listed)
    near = near_of_block(values, items, None, sums, similarity)
    gram = Csr(near.sums.indptr, near.sums.indices, near.sums.sums.astype(np.float32), len(items))
    added = added_by_neighbors(gram, near.lists, items, ridge_of(similarity, sums), listed)
    return lists_of_added(added, len(items), similarity.num_neighbors)


def fit_factors(weights: Csr, wanted: Csr, ridge: Ridge, factors: int, passes: int, seed: int) -> Vectors:
    """Factors of all items after `passes` over both sides, and those of the rows `wanted` by these.

    weights: (n, m), above 0.  wanted: rows of it, (n_wanted, m).
    """
    by_item, items = transposed(weights), initial_factors(0, weights.n_cols, factors, seed)
    objective = nothing = float(np.sum(1 + ridge.alpha * weights.values.astype(np.float64)))
    for _ in range(passes):
        fixed = fixed_side(items, *diagonal(gramian(items)), weights.n_cols)
        of_users = solve_rows(weights, fixed, ridge)
        fixed = fixed_side(of_users.X, *diagonal(gramian(of_users.X)), weights.n_rows)
        of_items = solve_rows(by_item, fixed, ridge)
        items, objective = of_items.X, float(of_items.losses.sum() + of_users.penalties.sum())
    fixed = fixed_side(items, *diagonal(gramian(items)), weights.n_cols)
    return Vectors(solve_rows(wanted, fixed, ridge).X, items, 1 - objective / nothing if nothing > 0 else 1.0)


def fit_filter(weights: Csr, wanted: np.ndarray, exponent: float, rank: int, passes: int, seed: int) -> Vectors:
    """Vectors whose products are the scores of `low_pass.kernels.graph_filter`; wanted: int64, rows of users."""
    n_users, n_items = weights.n_rows, weights.n_cols
    of_users = np.bincount(weights.rows, weights=weights.values, minlength=n_users)
    of_items = np.bincount(weights.indices, weights=weights.values, minlength=n_items)
    matrix = normalised(weights, of_users, of_items)
    by_item, items = transposed(matrix), initial_factors(0, n_items, min(rank, n_items), seed)
    for _ in range(passes):
        sums = products(by_item, products(matrix, items))
        items = (sums @ orthonormal(gramian(sums))).astype(np.float32)
    users = products(matrix, items)
    _, turn = singular(gramian(users))
    turned = turn.astype(np.float32)
    return Vectors(users[wanted] @ turned, ((items @ turned) * of_items[:, None] ** exponent).astype(np.float32))
