"""The fit against a slow twin and weights that are known."""

from dataclasses import replace
from math import log, log2

import numpy as np
import pytest

from recsys_spark.errors import KernelError
from recsys_spark.kernels.learned_blend import Choices, fit_weights, say, utilities

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
    keys = np.arange(n_users, dtype=np.uint64), np.tile(np.arange(n_items, dtype=np.uint64), n_users)
    return Choices(np.arange(n_users + 1) * n_items, flat, chosen.ravel(), *keys)


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


def test_of_users_keeps_whole_choice_sets() -> None:
    choices = planted(8, np.array([[1.0, 0.0]]), n_users=4, n_items=3)
    some = choices.of_users(np.array([False, True, False, True]))
    assert some.indptr.tolist() == [0, 3, 6]
    np.testing.assert_array_equal(some.said, choices.said.reshape(4, 3, 1, 2)[[1, 3]].reshape(6, 1, 2))
    assert some.user_keys.tolist() == [1, 3]
    assert some.item_keys.tolist() == [0, 1, 2] * 2


def test_fit_weights_ignores_users_who_chose_nothing_and_the_order_of_users() -> None:
    choices = planted(5, np.array([[2.0, 0.0], [0.0, 1.0]]), n_users=50)
    idle = Choices(
        np.concatenate([choices.indptr, choices.indptr[-1] + np.array([30, 30])]),
        np.concatenate([choices.said, choices.said[:30]]),
        np.concatenate([choices.chosen, np.zeros(30, bool)]),
        np.arange(52, dtype=np.uint64),
        np.concatenate([choices.item_keys, choices.item_keys[:30]]),
    )
    np.testing.assert_allclose(fit_weights(idle, RIDGE), fit_weights(choices, RIDGE), atol=1e-4)  # steps of L-BFGS
    turned = Choices(
        choices.indptr,
        choices.said.reshape(50, 30, 2, 2)[::-1].reshape(-1, 2, 2),
        choices.chosen.reshape(50, 30)[::-1].ravel(),
        choices.user_keys[::-1],
        choices.item_keys,
    )
    np.testing.assert_allclose(fit_weights(turned, RIDGE), fit_weights(choices, RIDGE), atol=1e-4)


def test_fit_weights_of_no_choice_is_zero_and_of_no_ridge_refused() -> None:
    choices = planted(6, np.array([[2.0, 0.0]]), n_users=3)
    none = replace(choices, chosen=np.zeros_like(choices.chosen))
    assert fit_weights(none, RIDGE).tolist() == [[0.0, 0.0]]
    with pytest.raises(KernelError, match="learned blend: expected ridge > 0, got 0"):
        fit_weights(choices, 0.0)
