"""Scores of users from what is near, against a sum written out."""

import numpy as np
import pytest

from recsys_spark.item_cf.kernels.user_scores import background, pair_scores, score_neighbors
from recsys_spark.numeric.sparse import Csr
from tests.item_cf_oracle import (  # fmt: skip
    lists_of,
    long_tailed,
    neighbors_of,
    oracle_scores,
    ranked_of,
    similarity_of,
    sparse,
)

NEAR = ranked_of([[(2, 0.5), (3, 0.25)], [(2, 0.5), (4, 0.5)], [], []])
NOTHING_HIDDEN = sparse(np.zeros((1, 5)))


def one_user(*weights: float) -> Csr:
    return sparse(np.array([weights], np.float32))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_score_neighbors_matches_the_oracle(k: int, normalize: bool) -> None:
    matrix = long_tailed(7, n_users=30, n_items=25)
    hidden = long_tailed(8, n_users=30, n_items=25) > 0
    ranked = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=6))
    near = np.zeros((25, 25), np.float32)
    for item, entries in enumerate(lists_of(ranked)):
        for other, score in entries:
            near[item, other] = score
    found = lists_of(score_neighbors(sparse(matrix), ranked, sparse(hidden), k, normalize))
    expected = oracle_scores(matrix.astype(float), near.astype(float), hidden, k, normalize)
    assert [[item for item, _ in entries] for entries in found] == [[item for item, _ in row] for row in expected]
    for entries, row in zip(found, expected, strict=True):
        np.testing.assert_allclose([s for _, s in entries], [s for _, s in row], rtol=1e-6)  # a score is float32


def test_score_neighbors_sums_weight_times_similarity() -> None:
    found = lists_of(score_neighbors(one_user(2, 4, 0, 0), NEAR, NOTHING_HIDDEN, 9, False))
    assert found == [[(2, 2 * 0.5 + 4 * 0.5), (4, 4 * 0.5), (3, 2 * 0.25)]]


def test_score_neighbors_divides_by_the_similarities_when_normalized() -> None:
    found = lists_of(score_neighbors(one_user(2, 4, 0, 0), NEAR, NOTHING_HIDDEN, 9, True))
    assert found == [[(4, 4.0), (2, (2 * 0.5 + 4 * 0.5) / (0.5 + 0.5)), (3, 2.0)]]


@pytest.mark.parametrize("normalize", [False, True])
def test_score_neighbors_leaves_hidden_items_out_for_their_user_alone(normalize: bool) -> None:
    history = sparse(np.array([[1, 0, 0, 0], [1, 0, 0, 0]], np.float32))
    hidden = sparse(np.array([[0, 0, 1, 0, 1], [0, 0, 0, 0, 0]]))
    found = lists_of(score_neighbors(history, NEAR, hidden, 9, normalize))
    assert [[item for item, _ in entries] for entries in found] == [[3], [2, 3]]


def test_score_neighbors_breaks_ties_by_smaller_idx() -> None:
    near = ranked_of([[(4, 0.5), (1, 0.5), (3, 0.5)]])
    found = lists_of(score_neighbors(one_user(1), near, NOTHING_HIDDEN, 2, False))
    assert found == [[(1, 0.5), (3, 0.5)]]


def test_score_neighbors_gives_an_empty_list_for_an_empty_history() -> None:
    history = sparse(np.array([[0, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    found = lists_of(score_neighbors(history, NEAR, sparse(np.zeros((2, 5))), 9, False))
    assert found == [[], [(2, 0.5), (4, 0.5)]]


def test_score_neighbors_gives_no_lists_for_no_users() -> None:
    found = score_neighbors(sparse(np.zeros((0, 4))), NEAR, sparse(np.zeros((0, 5))), 9, False)
    assert found.indptr.tolist() == [0]


def test_score_neighbors_skips_a_weight_that_has_decayed_to_nothing() -> None:
    # Such an entry leaves its sums at 0, the mark of an item that no key has listed yet.
    history = Csr(np.array([0, 3]), np.array([0, 0, 1], np.int32), np.array([0.0, np.nan, 1.0], np.float32), 4)
    assert lists_of(score_neighbors(history, NEAR, NOTHING_HIDDEN, 9, False)) == [[(2, 0.5), (4, 0.5)]]


def test_score_neighbors_lists_an_item_once_whatever_the_weights() -> None:
    # Without the rule 300 keys of weight 0 would list two items 600 times, in an array of five.
    near = ranked_of([[(1, 0.5), (2, 0.5)]] * 300 + [[(1, 1.0)]])
    history = Csr(np.array([0, 301]), np.arange(301, dtype=np.int32), np.r_[np.zeros(300), 1].astype(np.float32), 301)
    assert lists_of(score_neighbors(history, near, NOTHING_HIDDEN, 5, False)) == [[(1, 1.0)]]


def test_score_neighbors_gives_no_score_of_zero() -> None:
    near = ranked_of([[(1, 1e-3), (2, 1.0)]])
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    found = lists_of(score_neighbors(one_user(tiny), near, NOTHING_HIDDEN, 5, False))
    assert found == [[(2, tiny)]]


@pytest.mark.parametrize("normalize", [False, True])
def test_pair_scores_are_those_of_the_lists_to_the_bit(normalize: bool) -> None:
    matrix = sparse(long_tailed(9, n_users=20, n_items=25))
    ranked = neighbors_of(matrix, similarity_of("cosine", num_neighbors=5))
    lists = score_neighbors(matrix, ranked, sparse(np.zeros((20, 25))), 25, normalize)
    listed = np.zeros((20, 25), np.float32)
    for user, entries in enumerate(lists_of(lists)):
        for item, score in entries:
            listed[user, item] = score
    rng = np.random.default_rng(4)
    rows, items = np.sort(rng.integers(0, 20, 200)), rng.integers(0, 25, 200).astype(np.int32)
    rows, items = (np.array(one) for one in zip(*sorted(set(zip(rows, items, strict=True))), strict=True))
    found = pair_scores(matrix, ranked, rows, items, 25, normalize)
    np.testing.assert_array_equal(found, listed[rows, items])


@pytest.mark.parametrize("normalize", [False, True])
def test_background_is_the_mean_and_deviation_over_all_items(normalize: bool) -> None:
    matrix = long_tailed(10, n_users=12, n_items=25)
    ranked = neighbors_of(sparse(matrix), similarity_of("cosine", num_neighbors=5))
    near = np.zeros((25, 25))
    for item, entries in enumerate(lists_of(ranked)):
        for other, score in entries:
            near[item, other] = score
    scores, below = matrix @ near, (matrix > 0) @ near
    if normalize:
        scores = np.divide(scores, below, out=np.zeros(scores.shape), where=below > 0)
    mean, deviation = background(sparse(matrix), ranked, 25, 25, normalize)
    np.testing.assert_allclose(mean, scores.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(deviation, scores.std(axis=1), rtol=1e-6)
    assert background(sparse(np.zeros((2, 25))), ranked, 25, 0, normalize)[1].tolist() == [0, 0]
