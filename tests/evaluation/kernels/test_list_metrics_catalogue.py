"""Spread over the catalogue against arithmetic written out, a slow oracle, and properties that hold for any lists."""

from itertools import product
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.evaluation.kernels.list_metrics import coverage_at_k, gini_at_k, listings_at_k
from recsys_spark.numeric.ragged import ragged

# Sums of at most 100 terms of size 1 in float64.
TOLERANCE = 1e-12

N_ITEMS = 8
LISTS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=6, unique=True), min_size=1, max_size=6)
K = st.integers(1, 8)


def gini_oracle(counts: list[int]) -> float:
    """Mean absolute difference of all ordered pairs over twice the mean, scaled so that one item with all gives 1."""
    n = len(counts)
    mean_difference = sum(abs(a - b) for a, b in product(counts, counts)) / n**2
    return mean_difference / (2 * sum(counts) / n) * n / (n - 1)


def test_listings_at_k_counts_known_items_within_k() -> None:
    assert listings_at_k(ragged([[2, -1, 0], [2, 1], []]), 4, 2).tolist() == [0, 1, 2, 0]


def test_coverage_at_k_counts_an_item_once() -> None:
    assert coverage_at_k(ragged([[0, 1, 2], [1, 0]]), 8, 2) == 2 / 8


def test_coverage_at_k_leaves_unknown_items_out() -> None:
    assert coverage_at_k(ragged([[-1, 3], [-1], []]), 5, 2) == 1 / 5


def test_gini_at_k_weighs_the_ordered_counts() -> None:
    # Counts 0, 0, 1, 2 ascending have weights -3, -1, 1, 3.
    lists = ragged([[3, 0], [3]])
    assert gini_at_k(lists, 4, 2) == pytest.approx((1 * 1 + 3 * 2) / 3 / (4 - 1), abs=TOLERANCE)


def test_gini_at_k_is_zero_when_all_items_are_listed_equally() -> None:
    assert gini_at_k(ragged([[0, 1], [2, 3]]), 4, 2) == pytest.approx(0.0, abs=TOLERANCE)


def test_gini_at_k_is_one_when_one_item_has_every_place() -> None:
    assert gini_at_k(ragged([[3, 0], [3, 1]]), 5, 1) == pytest.approx(1.0, abs=TOLERANCE)


def test_shares_are_nan_when_no_list_holds_a_known_item() -> None:
    lists = ragged([[-1], []])
    with np.errstate(all="raise"):
        assert isnan(gini_at_k(lists, 3, 2))
    assert coverage_at_k(lists, 3, 2) == 0 / 3


@pytest.mark.parametrize(
    ("lists", "n_items", "k", "message"),
    [
        ([[0, 4]], 4, 2, "expected items below n_items=4, got 4"),
        ([[]], 0, 2, "n_items: expected an int >= 1, got 0"),
        ([[0]], 4, 0, "k: expected an int >= 1, got 0"),
    ],
)
def test_coverage_at_k_refuses_what_has_no_meaning(lists: list[list[int]], n_items: int, k: int, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        coverage_at_k(ragged(lists), n_items, k)


def test_gini_at_k_refuses_a_catalogue_of_one_item() -> None:
    with pytest.raises(KernelError, match="gini n_items: expected an int >= 2, got 1"):
        gini_at_k(ragged([[0]]), 1, 1)


@given(rows=LISTS, k=K)
def test_catalogue_metrics_match_the_oracle(rows: list[list[int]], k: int) -> None:
    listed = [item for row in rows for item in row[:k]]
    counts = [listed.count(item) for item in range(N_ITEMS)]
    lists = ragged(rows)
    assert coverage_at_k(lists, N_ITEMS, k) == len(set(listed)) / N_ITEMS
    if listed:
        assert gini_at_k(lists, N_ITEMS, k) == pytest.approx(gini_oracle(counts), abs=TOLERANCE)


@given(rows=LISTS, k=K, seed=st.integers(0, 99))
def test_catalogue_metrics_do_not_change_with_the_order_of_users_and_names_of_items(
    rows: list[list[int]], k: int, seed: int
) -> None:
    renamed = np.random.default_rng(seed).permutation(N_ITEMS)
    turned = ragged([[int(renamed[item]) for item in row] for row in rows[::-1]])
    for metric in (coverage_at_k, gini_at_k):
        np.testing.assert_array_equal(metric(turned, N_ITEMS, k), metric(ragged(rows), N_ITEMS, k))
