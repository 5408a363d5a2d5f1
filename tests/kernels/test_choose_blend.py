"""What weights find against a plain loop; how sure a difference is when it hangs on one item."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.kernels.choose_blend import choose_blend, found_more, is_found, share_found
from recsys_spark.kernels.intervals import draw, mean_interval
from recsys_spark.kernels.learned_blend import Choices, say, utilities
from tests.kernels.test_learned_blend import planted

SETS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5)
NEITHER, FIRST, SECOND = (np.array([[a, 0.0], [b, 0.0]]) for a, b in ((0, 0), (1, 0), (0, 1)))


def choices_of(indptr: np.ndarray, chosen: np.ndarray) -> Choices:
    n_users, n = len(indptr) - 1, len(chosen)
    keys = np.arange(n_users, dtype=np.uint64), np.arange(n, dtype=np.uint64)
    return Choices(indptr, np.zeros((n, 1, 2), np.float32), chosen, *keys)


def of_two_lists(chosen_items: list[int], n_items: int = 12) -> Choices:
    """Users who choose one item each; all have both lists, of which the second is the first from behind."""
    n_users = len(chosen_items)
    ranks = np.stack([np.arange(1, n_items + 1), np.arange(n_items, 0, -1)], axis=1)  # (n_items, 2)
    said = np.tile(say(ranks, 1.0 / ranks, np.ones(1)), (n_users, 1, 1))
    chosen = np.zeros((n_users, n_items), bool)
    chosen[np.arange(n_users), chosen_items] = True
    keys = np.arange(n_users, dtype=np.uint64), np.tile(np.arange(n_items, dtype=np.uint64), n_users)
    return Choices(np.arange(n_users + 1) * n_items, said, chosen.ravel(), *keys)


@given(SETS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_share_found_is_recall_with_ties_against_what_was_chosen(sets: list[list[tuple[int, bool]]], k: int) -> None:
    scores = np.array([score for one in sets for score, _ in one], float)
    chosen = np.array([flag for one in sets for _, flag in one])
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in sets])])
    expected = [
        sum(flag for _, flag in sorted(one, key=lambda pair: (-pair[0], pair[1]))[:k]) / sum(flag for _, flag in one)
        for one in sets
        if any(flag for _, flag in one)
    ]
    np.testing.assert_allclose(share_found(choices_of(indptr, chosen), scores, k), expected)


def test_found_more_draws_users_and_items_each_by_itself() -> None:
    choices = planted(7, np.array([[6.0, 0.0], [0.0, 0.0]]), n_users=150)
    more = mean_interval([found_more(FIRST, SECOND, choices, 3, seed=4)])
    users, items = draw(choices.user_keys, 4), draw(np.arange(30, dtype=np.uint64), 5)
    hits = [is_found(choices, utilities(choices.said, weights), 3).astype(float) for weights in (FIRST, SECOND)]
    values = (hits[0] - hits[1]).reshape(150, 30)
    means = np.einsum("ui,ub,ib->b", values, users, items) / users.sum(axis=0)
    assert more.estimate == pytest.approx(means[0])
    np.testing.assert_allclose([more.low, more.high], np.quantile(means[1:], [0.025, 0.975]))
    first = np.arange(150) < 70
    parts = [found_more(FIRST, SECOND, choices.of_users(part), 3, seed=4) for part in (first, ~first)]
    assert mean_interval([parts[0] + parts[1]]).low == pytest.approx(more.low)


def test_what_hangs_on_one_item_is_not_sure_and_what_many_items_say_is() -> None:
    one_item = of_two_lists([0] * 60 + [11] * 40)
    many = of_two_lists([at % 3 for at in range(60)] + [9 + at % 3 for at in range(40)], n_items=12)
    for choices, is_sure in ((one_item, False), (many, False)):
        more = mean_interval([found_more(FIRST, SECOND, choices, 3, seed=1)])
        assert more.estimate == pytest.approx(0.2)
        assert (more.low > 0) == is_sure
    wide = of_two_lists([at % 40 for at in range(900)] + [160 + at % 40 for at in range(100)], n_items=200)
    assert mean_interval([found_more(FIRST, SECOND, wide, 40, seed=1)]).low > 0


def test_choose_blend_takes_together_only_if_it_surely_finds_more() -> None:
    wide = of_two_lists([at % 40 for at in range(900)] + [160 + at % 40 for at in range(100)], n_items=200)
    decides, best, more = choose_blend(lambda _: FIRST, [NEITHER, SECOND], wide, 40, seed=1)
    assert (decides, best) == (None, 1)
    assert more.low > 0
    decides, best, more = choose_blend(lambda _: SECOND, [NEITHER, FIRST], wide, 40, seed=1)
    assert (decides, best) == (1, 1)
    assert more.high < 0
    one_item = of_two_lists([0] * 60 + [11] * 40)
    decides, best, more = choose_blend(lambda _: FIRST, [NEITHER, SECOND], one_item, 3, seed=1)
    assert (decides, best) == (1, 1)
    assert more.low < 0 < more.estimate


def test_choose_blend_judges_users_by_what_was_fitted_on_the_others() -> None:
    choices = of_two_lists([at % 12 for at in range(50)])
    fitted: list[set[int]] = []

    def fit(part: Choices) -> np.ndarray:
        fitted.append(set(part.user_keys.tolist()))
        return FIRST if 0 in fitted[-1] else SECOND

    _, _, more = choose_blend(fit, [SECOND], choices, 3, seed=1)
    assert fitted[0] | fitted[1] == set(range(50))
    assert not fitted[0] & fitted[1]
    # What was fitted with user 0 judges those who were not fitted with them; SECOND finds no more than itself.
    others = fitted[1] if 0 in fitted[0] else fitted[0]
    items = np.array([user % 12 for user in others])
    assert more.estimate == pytest.approx((np.sum(items < 3) - np.sum(items >= 9)) / 50)
    assert np.sum(items < 3) - np.sum(items >= 9) != 1  # half of the 2 of all


def test_choose_blend_has_a_user_of_several_runs_in_one_half() -> None:
    choices = of_two_lists([at % 12 for at in range(60)])
    repeated = replace(choices, user_keys=np.tile(np.arange(20, dtype=np.uint64), 3))
    fitted: list[set[int]] = []

    def fit(part: Choices) -> np.ndarray:
        fitted.append(set(part.user_keys.tolist()))
        return FIRST

    choose_blend(fit, [SECOND], repeated, 3, seed=1)
    assert not fitted[0] & fitted[1]


def test_choose_blend_of_the_same_weights_or_nobody_takes_the_first_alone() -> None:
    wide = of_two_lists([at % 40 for at in range(90)], n_items=200)
    assert choose_blend(lambda _: FIRST, [FIRST, 2 * FIRST], wide, 40, seed=1)[:2] == (0, 0)
    nobody = wide.of_users(np.zeros(90, bool))
    assert choose_blend(lambda _: FIRST, [SECOND, FIRST], nobody, 40, seed=1)[:2] == (0, 0)
