"""Values of single lists against arithmetic written out, a slow oracle, and properties that hold for any lists."""

from itertools import combinations
from math import log, log2, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.evaluation.kernels import list_metrics
from recsys_spark.evaluation.kernels.list_metrics import (
    calibration_error_at_k,
    intra_list_diversity_at_k,
    novelty_at_k,
    serendipity_at_k,
)
from recsys_spark.numeric.metrics import match
from recsys_spark.numeric.ragged import ragged

# Sums of at most 50 terms of size 10 in float64, divided by counts.
TOLERANCE = 1e-12

N_ITEMS = 10
LIST = st.lists(st.integers(0, N_ITEMS - 1), max_size=6, unique=True)
PAIRS = st.lists(st.tuples(LIST, LIST), min_size=1, max_size=5)
K = st.integers(1, 8)
CATEGORIES = st.lists(st.lists(st.integers(0, 4), max_size=3, unique=True), min_size=N_ITEMS, max_size=N_ITEMS)
SEED = st.integers(0, 99)


def diversity_oracle(items: list[int], vectors: np.ndarray) -> float:
    items = [item for item in items if vectors[item].any()]
    distances = [
        1 - vectors[a] @ vectors[b] / (np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b]))
        for a, b in combinations(items, 2)
    ]
    return sum(distances) / len(distances) if distances else nan


def mix_oracle(items: list[int], categories: list[list[int]]) -> dict[int, float]:
    items = [item for item in items if categories[item]]
    return {
        category: sum((category in categories[item]) / len(categories[item]) for item in items) / len(items)
        for category in {category for item in items for category in categories[item]}
    }


def calibration_oracle(top: list[int], history: list[int], categories: list[list[int]]) -> float:
    p, q = mix_oracle(history, categories), mix_oracle(top, categories)
    if not p or not q:
        return nan
    return sum(share * log(share / (0.99 * q.get(category, 0.0) + 0.01 * share)) for category, share in p.items())


def test_novelty_at_k_is_mean_self_information() -> None:
    lists = ragged([[0, 1, 2], [2]])
    expected = [(-log2(8 / 8) - log2(2 / 8)) / 2, -log2(1 / 8)]
    np.testing.assert_allclose(novelty_at_k(lists, np.array([8, 2, 1]), 8, 2), expected, atol=TOLERANCE)


def test_novelty_at_k_counts_never_engaged_and_unknown_items_as_if_one_user_had() -> None:
    lists = ragged([[0], [-1], []])
    np.testing.assert_allclose(novelty_at_k(lists, np.array([0, 4]), 8, 2), [log2(8), log2(8), nan], atol=TOLERANCE)


@pytest.mark.parametrize(("item_users", "n_users"), [([9, 1], 8), ([-1, 1], 8), ([0, 0], 0)])
def test_novelty_at_k_refuses_counts_that_are_no_share(item_users: list[int], n_users: int) -> None:
    with pytest.raises(KernelError, match=f"expected counts from 0 to n_users={n_users}"):
        novelty_at_k(ragged([[0]]), np.array(item_users), n_users, 2)


def test_serendipity_at_k_counts_hits_that_popularity_lacks() -> None:
    # Hits are 5, 6 and 7; popularity has 6 in its first three places and 7 only in the fourth.
    lists, targets, popular = ragged([[5, 6, 7]]), ragged([[7, 6, 5, 1]]), ragged([[6, 1, 2, 7]])
    assert serendipity_at_k(lists, targets, popular, 3).tolist() == [2 / 3]


def test_serendipity_at_k_divides_by_k_and_ignores_unknown_items() -> None:
    lists, targets, popular = ragged([[5, -1], []]), ragged([[5, -1], [2]]), ragged([[], [2]])
    assert serendipity_at_k(lists, targets, popular, 4).tolist() == [1 / 4, 0 / 4]


def test_diversity_at_k_is_mean_distance_of_pairs() -> None:
    vectors = np.array([[2, 0], [0, 3], [1, 1], [-1, 0]], dtype=np.float32)
    expected = [(1 - 0 + 1 - 1 / sqrt(2) + 1 - 1 / sqrt(2)) / 3, 1 - (-1)]
    diversity = intra_list_diversity_at_k(ragged([[0, 1, 2, 3], [0, 3]]), vectors, 3)
    np.testing.assert_allclose(diversity, expected, atol=TOLERANCE)


def test_diversity_at_k_leaves_out_items_without_a_vector() -> None:
    vectors = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float32)
    diversity = intra_list_diversity_at_k(ragged([[0, 1, -1, 2], [0, 1], []]), vectors, 4)
    np.testing.assert_allclose(diversity, [1.0, nan, nan], atol=TOLERANCE)


def test_diversity_at_k_does_not_change_with_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    lists = ragged([[], [0, 1, 2], [], [3, 4], [5], [], [2, 5, 0, 4]])
    whole = intra_list_diversity_at_k(lists, vectors, 4)
    monkeypatch.setattr(list_metrics, "BLOCK_VALUES", 2 * 4 * 4)
    np.testing.assert_array_equal(intra_list_diversity_at_k(lists, vectors, 4), whole)


def test_diversity_at_k_refuses_vectors_that_are_not_finite() -> None:
    vectors = np.array([[1, 0], [np.inf, 1]], dtype=np.float32)
    with pytest.raises(KernelError, match="expected finite values, got others in item 1"):
        intra_list_diversity_at_k(ragged([[0]]), vectors, 2)


def test_calibration_error_at_k_diverges_from_the_history() -> None:
    # History: 3/4 category 0, 1/4 category 1 (item 2 has both).  First two of the list: all category 1.
    lists, histories = ragged([[1, 3, 0]]), ragged([[0, 2]])
    categories = ragged([[0], [1], [0, 1], [1]])
    p, q = [3 / 4, 1 / 4], [0.0, 1.0]
    expected = sum(p[g] * log(p[g] / (0.99 * q[g] + 0.01 * p[g])) for g in (0, 1))
    np.testing.assert_allclose(calibration_error_at_k(lists, histories, categories, 2), [expected], atol=TOLERANCE)


def test_calibration_error_at_k_is_zero_for_the_same_mix_and_log_100_for_another() -> None:
    lists, histories = ragged([[1, 0], [1, 1]]), ragged([[0, 1, 0, 1], [0]])
    errors = calibration_error_at_k(lists, histories, ragged([[0], [1]]), 2)
    np.testing.assert_allclose(errors, [0.0, log(100)], atol=TOLERANCE)


def test_calibration_error_at_k_has_no_meaning_without_categories() -> None:
    # No history, an empty list, a list of unknown items, and one whose only item has no category.
    lists, histories = ragged([[0], [], [-1], [1]]), ragged([[], [0], [0], [0]])
    assert np.isnan(calibration_error_at_k(lists, histories, ragged([[0], []]), 2)).all()


def test_calibration_error_at_k_refuses_a_category_without_an_index() -> None:
    with pytest.raises(KernelError, match="item_categories: expected category indices >= 0, got -1"):
        calibration_error_at_k(ragged([[0]]), ragged([[0]]), ragged([[-1]]), 2)


def test_list_metrics_refuse_rows_that_do_not_pair() -> None:
    one, two, categories = ragged([[1]]), ragged([[1], [0]]), ragged([[0], [1]])
    with pytest.raises(KernelError, match="got 1 lists and 2 rows"):
        serendipity_at_k(one, two, one, 2)
    with pytest.raises(KernelError, match="got 1 lists and 2 rows"):
        serendipity_at_k(one, one, two, 2)
    with pytest.raises(KernelError, match="got 1 lists and 2 rows"):
        calibration_error_at_k(one, two, categories, 2)


def test_list_metrics_refuse_items_outside_the_catalogue() -> None:
    outside, inside = ragged([[2]]), ragged([[1]])
    message = "expected items below n_items=2, got 2"
    with pytest.raises(KernelError, match=message):
        novelty_at_k(outside, np.array([1, 1]), 2, 1)
    with pytest.raises(KernelError, match=message):
        intra_list_diversity_at_k(outside, np.ones((2, 3), dtype=np.float32), 1)
    with pytest.raises(KernelError, match=message):
        calibration_error_at_k(outside, inside, ragged([[0], [1]]), 1)
    with pytest.raises(KernelError, match=message):
        calibration_error_at_k(inside, outside, ragged([[0], [1]]), 1)


@given(pairs=PAIRS, k=K)
def test_serendipity_at_k_is_all_hits_without_popularity_and_none_of_itself(
    pairs: list[tuple[list[int], list[int]]], k: int
) -> None:
    lists, targets = ragged([one for one, _ in pairs]), ragged([[*other, N_ITEMS] for _, other in pairs])
    nothing = ragged([[] for _ in pairs])
    precision = match(lists, targets).precision_at_k(k)
    np.testing.assert_array_equal(serendipity_at_k(lists, targets, nothing, k), precision)
    assert not serendipity_at_k(lists, targets, lists, k).any()


@given(rows=st.lists(LIST, min_size=1, max_size=5), k=K, seed=SEED)
def test_diversity_and_novelty_at_k_match_the_oracle(rows: list[list[int]], k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N_ITEMS, 3)).astype(np.float32) * (rng.random((N_ITEMS, 1)) < 0.8)
    expected = [diversity_oracle(row[:k], vectors.astype(np.float64)) for row in rows]
    # A pair's cosine is the difference of sums near 36: 1e-12 is a hundred times their rounding.
    np.testing.assert_allclose(intra_list_diversity_at_k(ragged(rows), vectors, k), expected, atol=TOLERANCE)
    item_users = rng.integers(0, 6, size=N_ITEMS)
    bits = [[-log2(max(item_users[item], 1) / 5) for item in row[:k]] for row in rows]
    means = [sum(row) / len(row) if row else nan for row in bits]
    np.testing.assert_allclose(novelty_at_k(ragged(rows), np.minimum(item_users, 5), 5, k), means, atol=TOLERANCE)


@given(pairs=PAIRS, categories=CATEGORIES, k=K)
def test_calibration_error_at_k_matches_the_oracle(
    pairs: list[tuple[list[int], list[int]]], categories: list[list[int]], k: int
) -> None:
    lists, histories = ragged([one for one, _ in pairs]), ragged([other for _, other in pairs])
    expected = [calibration_oracle(one[:k], other, categories) for one, other in pairs]
    errors = calibration_error_at_k(lists, histories, ragged(categories), k)
    np.testing.assert_allclose(errors, expected, atol=TOLERANCE)
    turned = calibration_error_at_k(
        ragged([one for one, _ in pairs[::-1]]), ragged([other for _, other in pairs[::-1]]), ragged(categories), k
    )
    np.testing.assert_allclose(turned, errors[::-1], atol=TOLERANCE)
