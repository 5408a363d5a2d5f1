"""List metrics beyond accuracy: novelty, serendipity, diversity and calibration of lists, coverage and Gini of all.

Owns: these metrics.  Novelty, serendipity, diversity and calibration are one value per user, float64 (n_users,); a user
for whom a value has no meaning (an empty list, say) gets nan: leave these users out of the mean.  Coverage and Gini are
one number for the lists of all users.  Letters: u user, f length of an item vector, k list length.
"""

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, check_no_repeats, check_rows_pair, find_in_rows

# Part of the history's mix that is added to the list's, so that a category that the list lacks costs a finite amount.
CALIBRATION_ALPHA = 0.01
# Vectors are gathered in blocks of at most this many float64: 32 MiB.
BLOCK_VALUES = 2**22


def coverage_at_k(lists: Ragged, n_items: int, k: int) -> float:
    """Share of the catalogue's items that stand in the first k of at least one list, 0 to 1.

    Raises KernelError if n_items or k is below 1 or a list holds an item that is not below n_items.
    Source: Ge, Delgado-Battenfeld, Jannach 2010, "Beyond Accuracy", catalogue coverage.
    """
    return coverage(listings_at_k(lists, n_items, k), n_items)


def coverage(listed: np.ndarray, n_items: int) -> float:
    """As `coverage_at_k`.  listed: how often each item is listed, (n,); those that are not may be left out."""
    return int(np.count_nonzero(listed)) / n_items


def gini_at_k(lists: Ragged, n_items: int, k: int) -> float:
    """Gini coefficient of how often each item is listed, 0 if all equally often, 1 if one item has every place.

    Items that are never listed count.  nan if the first k of the lists hold no known item.
    Raises KernelError as `coverage_at_k`, and if the catalogue has fewer than 2 items: for one both 0 and 1 would hold.
    Source: Shani, Gunawardana 2011, "Evaluating Recommendation Systems", eq. for the Gini index (divided by n - 1).
    """
    if n_items < 2:
        raise KernelError(f"gini n_items: expected an int >= 2, got {n_items}; pass the size of the catalogue")
    return gini(listings_at_k(lists, n_items, k), n_items)


def gini(listed: np.ndarray, n_items: int) -> float:
    """As `gini_at_k` for n_items of 2 or more.  listed: as in `coverage`."""
    listed = np.sort(listed[listed > 0])  # ascending; items that are not listed would come first and add nothing
    if not len(listed):
        return float("nan")
    weights = 2 * np.arange(n_items - len(listed) + 1, n_items + 1) - n_items - 1.0
    return float(weights @ listed / listed.sum() / (n_items - 1))


def listings_at_k(lists: Ragged, n_items: int, k: int) -> np.ndarray:
    """How many places among the first k of all lists each item has, int64 (n_items,).  Errors: as `coverage_at_k`."""
    check_items(lists, n_items)
    top = lists.head(k).values
    return np.bincount(top[top >= 0], minlength=n_items)


def check_items(lists: Ragged, n_items: int) -> None:
    """Raises KernelError if the catalogue is empty or a list holds an item outside of it."""
    if n_items < 1:
        raise KernelError(f"metrics n_items: expected an int >= 1, got {n_items}; pass the size of the catalogue")
    largest = int(lists.values.max(initial=-1))
    if largest >= n_items:
        raise KernelError(
            f"metrics lists: expected items below n_items={n_items}, got {largest}; index lists and catalogue alike"
        )


def novelty_at_k(lists: Ragged, item_users: np.ndarray, n_users: int, k: int) -> np.ndarray:
    """Mean self-information of each list's first k items in bits, -log2(share of users who engaged), >= 0.

    item_users: number of the n_users who engaged with each item, (n_items,).  An item that nobody engaged with, and an
    unknown one (-1), counts as if one user had: log2(n_users), the most that any item can have.  An empty list: nan.
    Raises KernelError if a count is outside 0 to n_users or a list holds an item outside the catalogue.
    Source: Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender systems".
    """
    check_items(lists, len(item_users))
    if n_users < 1 or (item_users < 0).any() or (item_users > n_users).any():
        raise KernelError(
            f"novelty item_users: expected counts from 0 to n_users={n_users}, got {item_users.min()} to"
            f" {item_users.max()}; count each user once per item, over the same users"
        )
    top = lists.head(k)
    bits = np.log2(n_users) - np.log2(np.maximum(item_users, 1))  # (n_items,)
    novelty = np.where(top.values >= 0, bits[top.values], np.log2(n_users))  # (n_values,)
    return _ratio(_sums(novelty, top), top.lengths)


def serendipity_at_k(lists: Ragged, targets: Ragged, popular: Ragged, k: int) -> np.ndarray:
    """Share of the k places of each list that hold a hit which the first k of the popularity list lack, 0 to 1.

    popular: the popularity list of every user, cut to what may be shown to that user.  Divided by k also for a shorter
    list, so it is never above the precision.
    Raises KernelError if the rows do not pair up or a list repeats an item.
    Source: Ge, Delgado-Battenfeld, Jannach 2010, "Beyond Accuracy", with popularity as the primitive method.
    """
    check_rows_pair(lists, targets)
    check_rows_pair(lists, popular)
    check_no_repeats(lists)
    top = lists.head(k)
    surprising = (find_in_rows(top, targets) >= 0) & (find_in_rows(top, popular.head(k)) < 0)  # (n_values,)
    serendipity: np.ndarray = _sums(surprising, top) / k
    return serendipity


def intra_list_diversity_at_k(lists: Ragged, item_vectors: np.ndarray, k: int) -> np.ndarray:
    """Mean of 1 - cosine over the pairs of each list's first k items, 0 to 2.

    item_vectors: float32 (n_items, f).  Unknown items and those whose vector is zero are left out; fewer than two
    items left: nan.  With unit vectors v the cosines of all pairs sum to (|sum v|^2 - n) / 2: O(k f) a user.
    Raises KernelError if a vector is not finite or a list holds an item outside the catalogue.
    Source: Ziegler et al. 2005, "Improving Recommendation Lists Through Topic Diversification".
    """
    check_items(lists, len(item_vectors))
    norms = np.sqrt(np.einsum("if,if->i", item_vectors, item_vectors, dtype=np.float64))  # (n_items,)
    if not np.isfinite(norms).all():
        raise KernelError(
            f"diversity item_vectors: expected finite values, got others in item {int(np.argmin(np.isfinite(norms)))};"
            " set items without a vector to zero"
        )
    top = lists.head(k)
    top = top.where((top.values >= 0) & (norms[top.values] > 0))
    squares = _squared_sums(top, item_vectors, norms)  # (n_users,)
    n = top.lengths
    similarity = _ratio(squares - n, n * (n - 1))  # (n_users,)
    diversity: np.ndarray = np.clip(1 - similarity, 0.0, 2.0)  # rounding may leave the range by 1e-16
    return diversity


def calibration_error_at_k(lists: Ragged, histories: Ragged, item_categories: Ragged, k: int) -> np.ndarray:
    """Kullback-Leibler divergence of the list's category mix from the history's, per user in nats, 0 to log(100).

    histories: the items that each user engaged with, an item as often as it shall weigh.  item_categories: category
    indices >= 0 of every item, which share the item's weight; an item without any is left out, as is an unknown one.
    A user without a category in the history or in the first k of the list: nan.
    With p the history's mix and q the list's: sum of p log(p / ((1 - a) q + a p)), a = 0.01.
    Raises KernelError if the rows do not pair up, an item is outside the catalogue or a category is below 0.
    Source: Steck 2018, "Calibrated Recommendations", with places of the list and engagements weighing the same.
    """
    check_rows_pair(lists, histories)
    check_items(lists, item_categories.n_rows)
    check_items(histories, item_categories.n_rows)
    if item_categories.values.min(initial=0) < 0:
        raise KernelError(
            f"calibration item_categories: expected category indices >= 0, got {item_categories.values.min()}; leave"
            " unknown categories out of the item's row"
        )
    cells, p = _category_mix(histories, item_categories)
    list_cells, list_shares = _category_mix(lists.head(k), item_categories)
    q = np.zeros(len(p))  # what the list has of each category of the history
    held = np.isin(cells, list_cells, assume_unique=True)
    q[held] = list_shares[np.searchsorted(list_cells, cells[held])]
    losses = p * np.log(p / ((1 - CALIBRATION_ALPHA) * q + CALIBRATION_ALPHA * p))
    n_categories = _n_categories(item_categories)
    divergence = _row_sums(cells // n_categories, losses, lists.n_rows)  # (n_users,)
    for mix in (cells, list_cells):
        divergence[np.bincount(mix // n_categories, minlength=lists.n_rows) == 0] = np.nan
    error: np.ndarray = np.maximum(divergence, 0.0)  # rounding may leave the range by 1e-16; nan stays
    return error


def _category_mix(lists: Ragged, item_categories: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Row and category as row * n_categories + category, ascending (n_cells,), and the category's share of the row."""
    lists = lists.where((lists.values >= 0) & (item_categories.lengths[lists.values] > 0))
    n_each = item_categories.lengths[lists.values]  # (n_values,)
    offsets = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)  # (n_pairs,)
    categories = item_categories.values[np.repeat(item_categories.indptr[lists.values], n_each) + offsets]
    n_categories = _n_categories(item_categories)
    cells, at = np.unique(np.repeat(lists.rows, n_each) * n_categories + categories, return_inverse=True)
    weights = np.bincount(at, weights=np.repeat(1 / n_each, n_each), minlength=len(cells))  # (n_cells,)
    return cells, weights / lists.lengths[cells // n_categories]


def _n_categories(item_categories: Ragged) -> int:
    return int(item_categories.values.max(initial=0)) + 1


def _squared_sums(lists: Ragged, item_vectors: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Squared length of the sum of each list's unit vectors, 0 for an empty list, float64 (n_users,)."""
    squares = np.zeros(lists.n_rows)
    longest = int(lists.lengths.max(initial=1))
    step = max(1, BLOCK_VALUES // (longest * max(1, item_vectors.shape[1])))
    for start in range(0, lists.n_rows, step):
        bounds = lists.indptr[start : start + step + 1]
        items = lists.values[bounds[0] : bounds[-1]]
        filled = np.flatnonzero(np.diff(bounds))  # reduceat would take a value of the next row for an empty one
        if len(filled):
            units = item_vectors[items] / norms[items, None]  # (n_values, f) float64
            sums = np.add.reduceat(units, bounds[filled] - bounds[0], axis=0)  # (n_filled, f)
            squares[start + filled] = np.einsum("uf,uf->u", sums, sums)
    return squares


def _sums(values: np.ndarray, lists: Ragged) -> np.ndarray:
    """Sum of `values`, one per value of `lists`, over every row, 0 for an empty one, float64 (n_rows,)."""
    return _row_sums(lists.rows, values, lists.n_rows)


def _row_sums(rows: np.ndarray, values: np.ndarray, n_rows: int) -> np.ndarray:
    """Sum of the values of every row, float64 (n_rows,); cast, since bincount of nothing is int64 even with weights."""
    sums: np.ndarray = np.bincount(rows, weights=values, minlength=n_rows).astype(np.float64)
    return sums


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, nan where the denominator is 0, float64."""
    ratio: np.ndarray = np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator != 0)
    return ratio
