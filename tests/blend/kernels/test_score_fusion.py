"""Scores on one scale, and their sums, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.fusion import UNITS, Pool, fuse, pool_lists
from recsys_spark.blend.kernels.score_fusion import (
    Known,
    Scaling,
    fused_totals,
    known_scores,
    moments_of,
    scaled,
    shared_scores,
)
from recsys_spark.blend.kernels.walks import RankedLists, Walked, index_shared

N_USERS, N_ITEMS = 3, 6

# Of every user the items of two lists, best first, and what a source scores.
LISTS = st.lists(st.permutations(range(N_ITEMS)).map(lambda items: items[:3]), min_size=N_USERS, max_size=N_USERS)
SCORES = st.dictionaries(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), st.floats(-4, 9).map(lambda x: round(x, 2))
)
MOMENTS = st.tuples(st.sampled_from([np.nan, 0.0, 0.5, 2.0]), st.floats(-1, 1).map(lambda x: round(x, 2)))


def pool_of(*lists: list[list[int]]) -> Pool:
    walked = [Walked(np.array(one, np.int32), np.ones((N_USERS, 3), np.float32)) for one in lists]
    return pool_lists(walked, [True] * len(walked))


def known_of(scores: dict[tuple[int, int], float], deviation: np.ndarray, mean: np.ndarray) -> Known:
    users, items = (np.array([cell[at] for cell in scores], np.int64) for at in (0, 1))
    return known_scores(users, items, np.array(list(scores.values()), np.float64), mean, deviation)


@given(
    LISTS,
    LISTS,
    SCORES,
    st.lists(MOMENTS, min_size=N_USERS, max_size=N_USERS),
    st.sampled_from(["capped", "background"]),
)
@settings(max_examples=150, deadline=None)
def test_scaled_matches_a_plain_loop(
    one: list[list[int]],
    other: list[list[int]],
    scores: dict[tuple[int, int], float],
    moments: list[tuple[float, float]],
    scaling: Scaling,
) -> None:
    pool = pool_of(one, other)
    deviation, mean = (np.array([user[at] for user in moments]) for at in (0, 1))
    found = scaled(pool, known_of(scores, deviation, mean), scaling)
    for user, item, value in zip(pool.users.tolist(), pool.items.tolist(), found.tolist(), strict=True):
        score = scores.get((user, item))
        if score is None:
            assert value == 0
            continue
        if deviation[user] > 0:
            expected = (score - mean[user]) / deviation[user]
        else:
            best = max(score for (whose, _), score in scores.items() if whose == user)
            expected = score / best if best > 0 else 0
        assert value == pytest.approx(min(expected, 10.0) if scaling == "capped" else expected)


def test_lists_that_users_share_stand_on_the_same_scale() -> None:
    """Two lists over ten items that may be listed, the second without a score that tells apart; a user without any."""
    pool = pool_of([[0, 1, 2]] * N_USERS)
    lists = RankedLists(np.array([0, 2, 2]), np.array([2, 0], np.int32), np.array([6.0, 4.0], np.float32))
    moments = moments_of(lists, 10)
    all_scores = np.array([6.0, 4.0] + [0.0] * 8)
    assert moments.mean.tolist() == [1.0, 0.0]
    assert moments.deviation.tolist() == [pytest.approx(all_scores.std()), 0.0]
    found = shared_scores(pool, index_shared(lists), np.array([0, 1, -1]), moments).reshape(3, 3)
    np.testing.assert_allclose(found[0], [(4 - 1) / all_scores.std(), 0, (6 - 1) / all_scores.std()])
    assert not found[1:].any()


def test_totals_order_by_weighted_sums_and_then_by_what_many_share() -> None:
    pool = pool_of([[0, 1, 2]] * N_USERS)
    near = np.array([1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0])
    far = np.array([4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    shared = np.array([0.0, 0.0, 0.0, 0.25, 1.0, 0.5, 0.0, 0.0, 1.0])
    totals = fused_totals(pool, [(1.0, near), (0.25, far), (0.0, shared)], [shared])
    assert [(part.min(), part.max()) for part in totals.reshape(3, 3)] == [(0, UNITS)] * 3
    fused = fuse(pool, totals, 3)
    # The second user has no list of their own; the third is told only what is worse than any other.
    assert fused.items.reshape(3, 3).tolist() == [[1, 0, 2], [1, 2, 0], [2, 0, 1]]
    # The sums of the first are 2, 3 and 2: by the smaller index.
    assert totals[0] == totals[2] == 0


def test_totals_weigh_items_one_by_one_where_new_ones_weigh_otherwise() -> None:
    pool = pool_of([[0, 1, 2]] * N_USERS)
    values, weights = np.array([1.0, 2.0, 3.0] * 3), np.array([1.0, 1.0, 0.1] * 3)
    totals = fused_totals(pool, [(weights, values)], [])
    assert fuse(pool, totals, 3).items.reshape(3, 3).tolist() == [[1, 0, 2]] * 3


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_totals_are_the_same_whatever_the_size_of_weights(scale: float) -> None:
    pool = pool_of([[0, 1, 2]] * N_USERS, [[3, 4, 5]] * N_USERS)
    values = np.random.default_rng(1).standard_normal((2, len(pool.items)))
    expected = fused_totals(pool, [(1.0, values[0]), (0.5, values[1])], [])
    found = fused_totals(pool, [(scale, values[0]), (scale / 2, values[1])], [])
    np.testing.assert_allclose(found, expected, atol=2)


def test_totals_of_nothing() -> None:
    nobody = pool_lists([Walked(np.full((2, 3), -1, np.int32), np.zeros((2, 3), np.float32))], [True])
    assert fused_totals(nobody, [], []).tolist() == []
