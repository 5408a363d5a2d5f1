"""Weights of sources: the prior where there is little to learn, what tells where there is much."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from recsys_spark.errors import KernelError
from recsys_spark.kernels.shrunk_weights import Taken, _loss_of, choose_ridge, fit_weights, recall

PRIOR = np.ones(3)
RIDGES = (10.0, 1.0, 0.1, 0.01, 0.001)


def made(n_users: int, tells: tuple[float, ...], seed: int = 4, n_items: int = 30) -> Taken:
    """Users who took two items each, by what the sources say of them as far as each tells, and by chance."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_users, n_items, len(tells)))
    utilities = values @ np.array(tells) + rng.gumbel(size=(n_users, n_items))
    taken = np.zeros((n_users, n_items), bool)
    np.put_along_axis(taken, np.argsort(-utilities, axis=1)[:, :2], True, axis=1)
    return Taken(
        np.arange(n_users + 1) * n_items,
        values.reshape(-1, len(tells)),
        taken.ravel(),
        rng.integers(0, 2**63, n_users, dtype=np.uint64),
        np.tile(rng.integers(0, 2**63, n_items, dtype=np.uint64), n_users),
    )


def test_weights_are_in_the_proportions_of_what_tells_where_there_is_much_to_learn_from() -> None:
    weights = fit_weights(made(3000, (2.0, 1.0, 0.0)), PRIOR, 1e-3)
    assert weights[0] / weights[1] == pytest.approx(2.0, rel=0.15)
    assert weights[2] < 0.1 * weights[0]


def test_weights_are_drawn_to_the_prior_by_the_ridge() -> None:
    held = made(300, (2.0, 1.0, 0.0))
    spreads = [np.ptp(fit_weights(held, PRIOR, ridge)) for ridge in RIDGES]
    assert spreads == sorted(spreads)
    np.testing.assert_allclose(fit_weights(held, PRIOR, 1e6), PRIOR, atol=1e-4)


def test_weights_are_never_below_zero() -> None:
    weights = fit_weights(made(1000, (1.0, 1.0, -2.0)), PRIOR, 1e-3)
    assert weights[2] == 0
    assert (weights[:2] > 0).all()


def test_the_gradient_is_that_of_the_loss() -> None:
    held = made(20, (1.0, 0.5, 0.0))
    loss = _loss_of(held.values, held.taken / 2, held.users, held.indptr[:-1], PRIOR, 0.3)
    for at in (np.array([0.0, 1, 1, 1]), np.array([-1.0, 0.2, 2.0, 0.5])):
        np.testing.assert_allclose(loss(at)[1], approx_fprime(at, lambda x: loss(x)[0], 1e-7), atol=1e-5)


def test_weights_of_nothing_are_the_prior() -> None:
    held = made(5, (1.0, 1.0, 1.0))
    nothing = held.where(np.ones(5, bool), np.zeros(len(held.taken), bool))
    np.testing.assert_array_equal(fit_weights(nothing, PRIOR, 0.1), PRIOR)
    assert len(recall(nothing, PRIOR, 5)) == 0
    with pytest.raises(KernelError, match="expected ridge > 0, got 0"):
        fit_weights(held, PRIOR, 0.0)


def test_choose_ridge_is_free_where_sources_differ_and_strong_where_they_do_not() -> None:
    assert choose_ridge(made(2000, (3.0, 0.0, 0.0)), PRIOR, RIDGES, 3) <= 0.1
    assert choose_ridge(made(30, (0.7, 0.7, 0.7)), PRIOR, RIDGES, 3) >= 1.0
    held = made(5, (1.0, 1.0, 1.0))
    assert choose_ridge(held.where(np.ones(5, bool), np.zeros(150, bool)), PRIOR, RIDGES, 3) == RIDGES[0]


def test_where_keeps_the_sets_of_users_and_what_they_took_of_some_items() -> None:
    held = made(4, (1.0, 1.0, 1.0))
    users, items = np.array([True, False, True, False]), held.item_keys % 2 == 0
    part = held.where(users, items)
    assert part.indptr.tolist() == [0, 30, 60]
    rows = np.isin(held.users, [0, 2])
    np.testing.assert_array_equal(part.values, held.values[rows])
    np.testing.assert_array_equal(part.taken, (held.taken & items)[rows])


def test_recall_counts_what_is_taken_among_the_best_and_breaks_ties_against_it() -> None:
    held = Taken(
        np.array([0, 3, 5, 6]),
        np.array([[3.0], [2.0], [1.0], [1.0], [1.0], [5.0]]),
        np.array([False, True, True, True, False, False]),
        np.arange(3, dtype=np.uint64),
        np.arange(6, dtype=np.uint64),
    )
    np.testing.assert_array_equal(recall(held, np.ones(1), 2), [0.5, 1.0])
    np.testing.assert_array_equal(recall(held, np.ones(1), 1), [0.0, 0.0])
