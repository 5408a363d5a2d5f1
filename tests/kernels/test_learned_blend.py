"""The fit against a slow twin and weights that are known; the choice among weights by recall."""

from math import log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.kernels.learned_blend import Choices, choose_weights, fit_weights, say, share_found, utilities

RIDGE = 1e-3


def planted(seed: int, weights: np.ndarray, n_users: int = 400, n_items: int = 30) -> Choices:
    """Choice sets of which each user chooses one item, with the chances of the model."""
    rng = np.random.default_rng(seed)
    n_lists = len(weights)
    ranks = np.argsort(rng.random((n_users, n_lists, n_items)), axis=2) + 1  # (n_users, n_lists, n_items)
    said = say(ranks, 1.0 / ranks, np.ones(1)).transpose(0, 2, 1, 3)  # (n_users, n_items, n_lists, 2)
    flat = said.reshape(-1, n_lists, 2)
    scores = utilities(flat, weights).reshape(n_users, n_items) + rng.gumbel(size=(n_users, n_items))
    chosen = np.zeros((n_users, n_items), bool)
    chosen[np.arange(n_users), scores.argmax(axis=1)] = True
    return Choices(np.arange(n_users + 1) * n_items, flat, chosen.ravel())


def loss_of(choices: Choices, weights: np.ndarray, ridge: float) -> float:
    """The definition, user by user."""
    losses = []
    for first, end in zip(choices.indptr[:-1], choices.indptr[1:], strict=True):
        scores = [float((row.astype(float) * weights).sum()) for row in choices.said[first:end]]
        chosen = np.flatnonzero(choices.chosen[first:end])
        if len(chosen):
            total = log(sum(np.exp(score) for score in scores))
            losses.append(sum(total - scores[at] for at in chosen) / len(chosen))
    return float(np.mean(losses) + ridge * (weights**2).sum() / 2)


def test_say_discounts_ranks_and_takes_scores_in_parts_of_the_best() -> None:
    said = say(np.array([1, 2, 3]), np.array([8.0, 4.0, -1.0]), np.array([8.0, 8.0, 8.0]))
    np.testing.assert_allclose(said, [[1 / log2(2), 1.0], [1 / log2(3), 0.5], [1 / log2(4), 0.0]], rtol=1e-6)
    assert said.dtype == np.float32


@pytest.mark.parametrize("best", [0.0, -2.0])
def test_say_takes_nothing_from_scores_of_a_list_that_has_none_above_zero(best: float) -> None:
    assert say(np.array([1]), np.array([best]), np.array([best]))[0, 1] == 0.0


def test_utilities_are_the_weighted_sum_in_any_block() -> None:
    rng = np.random.default_rng(1)
    said, weights = rng.random((50, 3, 2), np.float32), rng.random((3, 2))
    whole = utilities(said, weights)
    np.testing.assert_allclose(whole, (said * weights).sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([utilities(said[:7], weights), utilities(said[7:], weights)]), whole)
    np.testing.assert_array_equal(utilities(said, np.broadcast_to(weights, said.shape)), whole)


def test_fit_weights_finds_the_weights_that_made_the_choices() -> None:
    weights = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    found = fit_weights(planted(2, weights, n_users=4000), 1e-6)
    # What both numbers of a list say differs little, so their sum is what is known well.
    np.testing.assert_allclose(found.sum(axis=1), weights.sum(axis=1), atol=0.5)
    assert found[2].sum() < 0.3


@pytest.mark.parametrize("ridge", [1e-3, 1e-1])
def test_fit_weights_is_the_least_of_the_loss_among_weights_not_below_zero(ridge: float) -> None:
    choices = planted(3, np.array([[1.0, 1.0], [0.0, 0.0]]), n_users=60)
    found = fit_weights(choices, ridge)
    least = loss_of(choices, found, ridge)
    rng = np.random.default_rng(4)
    others = [
        np.maximum(found + rng.normal(0, scale, found.shape), 0) for scale in (0.001, 0.03, 1.0) for _ in range(20)
    ]
    assert min(loss_of(choices, other, ridge) for other in others) > least - 1e-9
    assert (found >= 0).all()


def test_fit_weights_ignores_users_who_chose_nothing_and_the_order_of_users() -> None:
    choices = planted(5, np.array([[2.0, 0.0], [0.0, 1.0]]), n_users=50)
    idle = Choices(
        np.concatenate([choices.indptr, choices.indptr[-1] + np.array([30, 30])]),
        np.concatenate([choices.said, choices.said[:30]]),
        np.concatenate([choices.chosen, np.zeros(30, bool)]),
    )
    np.testing.assert_allclose(fit_weights(idle, RIDGE), fit_weights(choices, RIDGE), atol=1e-4)  # steps of L-BFGS
    turned = Choices(
        choices.indptr,
        choices.said.reshape(50, 30, 2, 2)[::-1].reshape(-1, 2, 2),
        choices.chosen.reshape(50, 30)[::-1].ravel(),
    )
    np.testing.assert_allclose(fit_weights(turned, RIDGE), fit_weights(choices, RIDGE), atol=1e-4)


def test_fit_weights_of_no_choice_is_zero_and_of_no_ridge_refused() -> None:
    choices = planted(6, np.array([[2.0, 0.0]]), n_users=3)
    none = Choices(choices.indptr, choices.said, np.zeros_like(choices.chosen))
    assert fit_weights(none, RIDGE).tolist() == [[0.0, 0.0]]
    with pytest.raises(KernelError, match="learned blend: expected ridge > 0, got 0"):
        fit_weights(choices, 0.0)


SETS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5)


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
    found = share_found(Choices(indptr, np.zeros((len(scores), 1, 2), np.float32), chosen), scores, k)
    np.testing.assert_allclose(found, expected)


def test_choose_weights_takes_what_finds_most_and_the_first_of_equals() -> None:
    choices = planted(7, np.array([[6.0, 0.0], [0.0, 0.0]]), n_users=300)
    right, wrong = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    assert choose_weights([wrong, right, 2 * right], choices, 3) == 1
    assert choose_weights([wrong], Choices(np.zeros(1, np.int64), choices.said[:0], choices.chosen[:0]), 3) == 0
