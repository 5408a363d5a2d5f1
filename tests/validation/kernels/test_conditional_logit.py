"""Weights of sources: the prior where there is little to learn, what tells where there is much."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from recsys_spark.errors import KernelError
from recsys_spark.validation.kernels.conditional_logit import Taken, _loss_of, fit_weights

PRIOR = np.ones(3)
RIDGES = (10.0, 1.0, 0.1, 0.01, 0.001)


def made(n_users: int, tells: tuple[float, ...], seed: int = 4, n_items: int = 30) -> Taken:
    """Users who took two items each, by what the sources say of them as far as each tells, and by chance."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_users, n_items, len(tells)))
    utilities = values @ np.array(tells) + rng.gumbel(size=(n_users, n_items))
    taken = np.zeros((n_users, n_items), bool)
    np.put_along_axis(taken, np.argsort(-utilities, axis=1)[:, :2], True, axis=1)
    items = np.tile(np.arange(n_items, dtype=np.int32), n_users)
    return Taken(np.arange(n_users + 1) * n_items, items, values.reshape(-1, len(tells)), taken.ravel())


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
    nothing = replace(held, taken=np.zeros(len(held.taken), bool))
    np.testing.assert_array_equal(fit_weights(nothing, PRIOR, 0.1), PRIOR)
    with pytest.raises(KernelError, match="expected ridge > 0, got 0"):
        fit_weights(held, PRIOR, 0.0)
