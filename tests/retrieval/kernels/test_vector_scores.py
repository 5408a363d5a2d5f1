"""Single scores have the bits of those in lists, and moments are those of all scores."""

import numpy as np

from recsys_spark.numeric.top_k import search_items, top_k
from recsys_spark.retrieval.kernels.vector_scores import background, pair_scores, spread_of

N, M, F = 7, 40, 9
RNG = np.random.default_rng(2)
X, Y = RNG.standard_normal((N, F)).astype(np.float32), RNG.standard_normal((M, F)).astype(np.float32)
LISTED = np.arange(M) % 3 != 0


def test_pair_scores_are_those_of_the_lists_to_the_bit() -> None:
    items = search_items(Y, np.flatnonzero(LISTED))
    lists = top_k(X, items, M, None, 1 << 20)
    rows = np.repeat(np.arange(N), np.diff(lists.indptr))
    np.testing.assert_array_equal(pair_scores(X, items, rows, lists.indices), lists.scores)
    # Two that are not searched.
    assert np.isnan(pair_scores(X, items, np.array([0, 1]), np.array([0, 3], np.int32))).all()


def test_background_is_the_mean_and_deviation_over_the_searched_items() -> None:
    mean, deviation = background(X, spread_of(search_items(Y, np.flatnonzero(LISTED))))
    scores = X.astype(float) @ Y[LISTED].T
    np.testing.assert_allclose(mean, scores.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(deviation, scores.std(axis=1), rtol=1e-9)
    part = background(X[3:5], spread_of(search_items(Y, np.flatnonzero(LISTED))))
    np.testing.assert_array_equal(part, [mean[3:5], deviation[3:5]])  # to the bit
    assert background(X, spread_of(search_items(Y, np.array([], int))))[1].tolist() == [0] * N
