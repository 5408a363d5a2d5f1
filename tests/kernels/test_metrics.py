"""Metrics against arithmetic written out, a slow oracle, and properties that hold for any lists."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.kernels.metrics import ndcg_at_k, ragged, recall_at_k

# Sums of at most 12 terms of size 1 in float64: an error of 1e-12 is four digits more than rounding can cost.
TOLERANCE = 1e-12

ITEMS = st.integers(0, 15)
USERS = st.lists(
    st.tuples(st.lists(ITEMS, max_size=12, unique=True), st.lists(ITEMS, min_size=1, max_size=8, unique=True)),
    min_size=1,
    max_size=6,
)
K = st.integers(1, 14)


def oracle(ranked: list[int], targets: list[int], k: int) -> tuple[float, float]:
    """Recall and ndcg of one user, by the definitions."""
    top = ranked[:k]
    recall = sum(item in top for item in targets) / len(targets)
    gained = sum(1 / log2(rank + 1) for rank, item in enumerate(top, start=1) if item in targets)
    best = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
    return recall, gained / best


def test_ragged_keeps_rows_apart() -> None:
    rows = ragged([[3, 1], [], [2]])
    assert rows.indptr.tolist() == [0, 2, 2, 3]
    assert rows.values.tolist() == [3, 1, 2]
    assert rows.rows.tolist() == [0, 0, 2]


def test_recall_at_k_divides_hits_by_targets_of_the_user() -> None:
    lists = ragged([[5, 6, 7, 8], [1, 2, 3, 4]])
    targets = ragged([[7, 5, 9], [9]])
    np.testing.assert_allclose(recall_at_k(lists, targets, 4), [2 / 3, 0 / 1], atol=TOLERANCE)


def test_recall_at_k_ignores_hits_below_k() -> None:
    assert recall_at_k(ragged([[5, 6, 7]]), ragged([[7, 5]]), 2).tolist() == [1 / 2]


def test_recall_at_k_counts_a_short_list_as_it_is() -> None:
    assert recall_at_k(ragged([[5], []]), ragged([[5], [5]]), 20).tolist() == [1.0, 0.0]


def test_ndcg_at_k_discounts_by_rank() -> None:
    lists = ragged([[5, 6, 7, 8]])
    targets = ragged([[6, 8, 9]])
    expected = (1 / log2(3) + 1 / log2(5)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4))
    np.testing.assert_allclose(ndcg_at_k(lists, targets, 4), [expected], atol=TOLERANCE)


def test_ndcg_at_k_is_one_when_targets_fill_the_top_k() -> None:
    np.testing.assert_allclose(ndcg_at_k(ragged([[4, 3]]), ragged([[1, 2, 3, 4]]), 2), [1.0], atol=TOLERANCE)


def test_metrics_never_hit_an_item_without_an_index() -> None:
    # With row and item packed into one integer, -1 in row 1 must not meet the largest item of row 0.
    lists, targets = ragged([[-1], [-1, -1]]), ragged([[9], [0]])
    assert recall_at_k(lists, targets, 5).tolist() == [0.0, 0.0]


def test_metrics_never_hit_a_target_without_an_index() -> None:
    # Two unknown items are not the same item; the unknown target still counts among the two to be found.
    assert recall_at_k(ragged([[-1, 3]]), ragged([[-1, 3]]), 5).tolist() == [1 / 2]


@pytest.mark.parametrize(
    ("lists", "targets", "message"),
    [
        ([[1]], [[1], [2]], "expected one list per row"),
        ([[1], [2]], [[1], []], "got none in row 1"),
        ([[1, 2, 1]], [[1]], "no item twice"),
    ],
)
def test_metrics_refuse_input_that_has_no_meaning(
    lists: list[list[int]], targets: list[list[int]], message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        ndcg_at_k(ragged(lists), ragged(targets), 2)


@given(users=USERS, k=K)
def test_metrics_match_the_oracle(users: list[tuple[list[int], list[int]]], k: int) -> None:
    lists, targets = ragged([ranked for ranked, _ in users]), ragged([wanted for _, wanted in users])
    expected = np.array([oracle(ranked, wanted, k) for ranked, wanted in users])
    np.testing.assert_allclose(recall_at_k(lists, targets, k), expected[:, 0], atol=TOLERANCE)
    np.testing.assert_allclose(ndcg_at_k(lists, targets, k), expected[:, 1], atol=TOLERANCE)


@given(users=USERS, k=K)
def test_recall_at_k_never_falls_as_k_grows(users: list[tuple[list[int], list[int]]], k: int) -> None:
    lists, targets = ragged([ranked for ranked, _ in users]), ragged([wanted for _, wanted in users])
    assert (recall_at_k(lists, targets, k + 1) >= recall_at_k(lists, targets, k)).all()


@given(users=USERS, k=K)
def test_ndcg_at_k_is_highest_with_targets_first(users: list[tuple[list[int], list[int]]], k: int) -> None:
    targets = ragged([wanted for _, wanted in users])
    as_ranked = ndcg_at_k(ragged([ranked for ranked, _ in users]), targets, k)
    resorted = [sorted(ranked, key=lambda item, wanted=wanted: item not in wanted) for ranked, wanted in users]
    assert (ndcg_at_k(ragged(resorted), targets, k) >= as_ranked - TOLERANCE).all()
    assert ((as_ranked >= 0) & (as_ranked <= 1 + TOLERANCE)).all()
