"""Metrics against arithmetic written out, a slow oracle, and properties that hold for any lists."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.numeric.metrics import Match, match, ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import ragged

# Sums of at most 12 terms of size 1 in float64: an error of 1e-12 is four digits more than rounding can cost.
TOLERANCE = 1e-12

ITEMS = st.integers(0, 15)
USERS = st.lists(
    st.tuples(st.lists(ITEMS, max_size=12, unique=True), st.lists(ITEMS, min_size=1, max_size=8, unique=True)),
    min_size=1,
    max_size=6,
)
K = st.integers(1, 14)
METRICS = [
    Match.recall_at_k,
    Match.precision_at_k,
    Match.hit_at_k,
    Match.average_precision_at_k,
    Match.reciprocal_rank_at_k,
    Match.ndcg_at_k,
]


def oracle(ranked: list[int], targets: list[int], k: int) -> tuple[float, float]:
    """Recall and ndcg of one user, by the definitions."""
    top = ranked[:k]
    recall = sum(item in top for item in targets) / len(targets)
    gained = sum(1 / log2(rank + 1) for rank, item in enumerate(top, start=1) if item in targets)
    best = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
    return recall, gained / best


def other_oracle(ranked: list[int], targets: list[int], k: int) -> tuple[float, float, float, float]:
    """Precision, hit, average precision and reciprocal rank of one user, by the definitions."""
    top = ranked[:k]
    hit_ranks = [rank for rank, item in enumerate(top, start=1) if item in targets]
    precisions = [sum(item in targets for item in top[:rank]) / rank for rank in hit_ranks]
    return (
        len(hit_ranks) / k,
        float(bool(hit_ranks)),
        sum(precisions) / min(len(targets), k),
        1 / hit_ranks[0] if hit_ranks else 0.0,
    )


def graded_oracle(ranked: list[int], grades: dict[int, float], k: int) -> float:
    gained = sum((2 ** grades.get(item, 0) - 1) / log2(rank + 1) for rank, item in enumerate(ranked[:k], start=1))
    ideal = sorted(grades.values(), reverse=True)[:k]
    return gained / sum((2**grade - 1) / log2(rank + 1) for rank, grade in enumerate(ideal, start=1))


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


def test_precision_at_k_divides_by_k_when_the_list_is_shorter() -> None:
    matched = match(ragged([[5, 6, 7], [5]]), ragged([[7, 5], [5]]))
    assert matched.precision_at_k(2).tolist() == [1 / 2, 1 / 2]


def test_hit_at_k_is_one_for_any_number_of_hits() -> None:
    matched = match(ragged([[5, 6], [1, 2], []]), ragged([[6, 5], [2], [3]]))
    assert matched.hit_at_k(2).tolist() == [1.0, 1.0, 0.0]
    assert matched.hit_at_k(1).tolist() == [1.0, 0.0, 0.0]


def test_average_precision_at_k_divides_by_what_could_be_hit() -> None:
    matched = match(ragged([[5, 1, 6, 7], [1, 5, 6, 2]]), ragged([[7, 6, 5], [5, 6, 7, 8, 9]]))
    np.testing.assert_allclose(
        matched.average_precision_at_k(4), [(1 / 1 + 2 / 3 + 3 / 4) / 3, (1 / 2 + 2 / 3) / 4], atol=TOLERANCE
    )
    np.testing.assert_allclose(matched.average_precision_at_k(2), [1 / 1 / 2, 1 / 2 / 2], atol=TOLERANCE)


def test_reciprocal_rank_at_k_takes_the_first_hit() -> None:
    matched = match(ragged([[1, 2, 5, 6], [5, 6]]), ragged([[5, 6], [5, 6]]))
    assert matched.reciprocal_rank_at_k(4).tolist() == [1 / 3, 1 / 1]
    assert matched.reciprocal_rank_at_k(2).tolist() == [0.0, 1.0]


def test_graded_ndcg_at_k_gains_by_relevance() -> None:
    # Targets in another order than their relevance: the best list has 9 (grade 3), then 6 (2), then 8 (1).
    matched = match(ragged([[5, 6, 7, 8]]), ragged([[6, 9, 8]]))
    relevance = np.array([2, 3, 1])
    gained = (2**2 - 1) / log2(3) + (2**1 - 1) / log2(5)
    best = [(2**3 - 1) / log2(2), (2**2 - 1) / log2(3), (2**1 - 1) / log2(4)]
    np.testing.assert_allclose(matched.graded_ndcg_at_k(4, relevance), [gained / sum(best)], atol=TOLERANCE)
    expected = (2**2 - 1) / log2(3) / sum(best[:2])
    np.testing.assert_allclose(matched.graded_ndcg_at_k(2, relevance), [expected], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("relevance", "targets", "message"),
    [
        ([1.0], [1, 2], r"expected one value per target, \(2,\), got \(1,\)"),
        ([1.0, 0.0], [1, 2], "expected values above 0 and at most 64, got 0.0"),
        ([1.0, float("nan")], [1, 2], "expected values above 0 and at most 64, got nan"),
        ([65.0, 1.0], [1, 2], "expected values above 0 and at most 64, got 65.0"),
        ([1.0, 2.0], [1, 1], "expected no target twice"),
    ],
)
def test_graded_ndcg_at_k_refuses_relevance_that_has_no_meaning(
    relevance: list[float], targets: list[int], message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        match(ragged([[1]]), ragged([targets])).graded_ndcg_at_k(2, np.array(relevance))


def test_metrics_are_float64_when_nobody_has_a_hit() -> None:
    matched = match(ragged([[1], []]), ragged([[2], [2]]))
    for metric in METRICS:
        assert metric(matched, 2).dtype == np.float64, metric.__name__
        assert metric(matched, 2).tolist() == [0.0, 0.0], metric.__name__


def test_metrics_refuse_k_below_one() -> None:
    with pytest.raises(KernelError, match="metrics k: expected an int >= 1, got 0"):
        recall_at_k(ragged([[1]]), ragged([[1]]), 0)


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
    matched = match(lists, targets)
    others = np.array([other_oracle(ranked, wanted, k) for ranked, wanted in users])
    for column, metric in enumerate(METRICS[1:5]):
        np.testing.assert_allclose(metric(matched, k), others[:, column], atol=TOLERANCE, err_msg=metric.__name__)


@given(users=USERS, k=K, data=st.data())
def test_graded_ndcg_at_k_matches_the_oracle(
    users: list[tuple[list[int], list[int]]], k: int, data: st.DataObject
) -> None:
    lists, targets = ragged([ranked for ranked, _ in users]), ragged([wanted for _, wanted in users])
    n_targets = len(targets.values)
    relevance = np.array(data.draw(st.lists(st.integers(1, 5), min_size=n_targets, max_size=n_targets)))
    grades = [relevance[start:stop] for start, stop in zip(targets.indptr[:-1], targets.indptr[1:], strict=True)]
    expected = [
        graded_oracle(ranked, dict(zip(wanted, map(float, grade), strict=True)), k)
        for (ranked, wanted), grade in zip(users, grades, strict=True)
    ]
    matched = match(lists, targets)
    np.testing.assert_allclose(matched.graded_ndcg_at_k(k, relevance), expected, atol=TOLERANCE)
    as_binary = matched.graded_ndcg_at_k(k, np.full(n_targets, 1))
    np.testing.assert_allclose(as_binary, matched.ndcg_at_k(k), atol=TOLERANCE)


@given(users=USERS, k=K)
def test_metrics_follow_the_users_into_another_order(users: list[tuple[list[int], list[int]]], k: int) -> None:
    as_given = match(ragged([ranked for ranked, _ in users]), ragged([wanted for _, wanted in users]))
    turned = match(ragged([ranked for ranked, _ in users[::-1]]), ragged([wanted for _, wanted in users[::-1]]))
    for metric in METRICS:
        np.testing.assert_array_equal(metric(turned, k), metric(as_given, k)[::-1], err_msg=metric.__name__)


@given(users=USERS)
def test_metrics_but_precision_do_not_change_beyond_the_longest_list(
    users: list[tuple[list[int], list[int]]],
) -> None:
    # 12 places and 8 targets are the most that a user has.
    matched = match(ragged([ranked for ranked, _ in users]), ragged([wanted for _, wanted in users]))
    for metric in METRICS:
        scale = 12 / 100 if metric is Match.precision_at_k else 1
        np.testing.assert_allclose(
            metric(matched, 100), metric(matched, 12) * scale, atol=TOLERANCE, err_msg=metric.__name__
        )


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
