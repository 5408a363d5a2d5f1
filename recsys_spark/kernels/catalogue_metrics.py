"""How the lists of all users together spread over the catalogue: one number for one set of lists.

Owns: coverage, Gini and the share of the top item.  An unknown item (-1) in a list is not one of the catalogue's and
counts nowhere here.  Letters: k list length.
"""

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import Ragged, check_no_repeats


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
    Raises KernelError as `coverage_at_k`, and if the catalogue has fewer than 2 items: one alone is equal and has all.
    Source: Shani, Gunawardana 2011, "Evaluating Recommendation Systems", eq. for the Gini index (divided by n - 1).
    """
    if n_items < 2:
        raise KernelError(f"gini n_items: expected an int >= 2, got {n_items}; pass the size of the catalogue")
    return gini(listings_at_k(lists, n_items, k), n_items)


def gini(listed: np.ndarray, n_items: int) -> float:
    """As `gini_at_k` for n_items of 2 or more.  listed: as in `coverage`."""
    listed = np.sort(listed[listed > 0])  # ascending; items that are not listed come before, and add nothing
    if not len(listed):
        return float("nan")
    weights = 2 * np.arange(n_items - len(listed) + 1, n_items + 1) - n_items - 1.0
    return float(weights @ listed / listed.sum() / (n_items - 1))


def top_item_share_at_k(lists: Ragged, n_items: int, k: int) -> float:
    """Share of the lists that hold the most listed item in their first k, 0 to 1.

    Of lists whose first k hold a known item; nan if none does.  At k = 1 it is what the gate of that name bounds.
    Raises KernelError as `coverage_at_k`, and if a list holds an item twice.
    """
    check_no_repeats(lists)
    listed = listings_at_k(lists, n_items, k)
    top = lists.head(k)
    n_lists = len(np.unique(top.rows[top.values >= 0]))
    return int(listed.max()) / n_lists if n_lists else float("nan")


def listings_at_k(lists: Ragged, n_items: int, k: int) -> np.ndarray:
    """Number of lists' places among the first k that each item has, int64 (n_items,).  Errors: as `coverage_at_k`."""
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
