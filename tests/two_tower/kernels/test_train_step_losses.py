"""Losses against loops in numpy, and what sampling does to the softmax: unbiased with logQ, wrong without."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_spark.two_tower.kernels.batches import draw, expected_log_counts, proposal
from recsys_spark.two_tower.kernels.train_step import NO, binary_cross_entropy, bpr, sampled_softmax, triplet

B, R = 5, 4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _scores(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the wanted items, of others, of which some take no part and in row 1 none does, and weights."""
    negatives = rng.normal(scale=3, size=(B, R))
    negatives[rng.random((B, R)) < 0.3] = NO
    negatives[1] = NO
    return rng.normal(scale=3, size=B), negatives, rng.uniform(0.1, 2, B)


def _tensors(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def test_sampled_softmax_matches_a_loop(rng: np.random.Generator) -> None:
    positive, corrected, w = _scores(rng)
    hard = rng.normal(size=(B, 2))
    expected = 0.0
    for row in range(B):
        others = sum(np.exp(s) for s in [*corrected[row], *hard[row]] if s > NO / 2)
        expected += w[row] * -np.log(np.exp(positive[row]) / (np.exp(positive[row]) + others))
    found = sampled_softmax(*_tensors(positive, corrected, hard, w))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def _log_loss(score: float) -> float:
    return float(-np.log(1 / (1 + np.exp(-score))))


def test_binary_cross_entropy_matches_a_loop(rng: np.random.Generator) -> None:
    positive, negatives, w = _scores(rng)
    expected = 0.0
    for row in range(B):
        against = [_log_loss(-s) for s in negatives[row] if s > NO / 2]
        expected += w[row] * (_log_loss(positive[row]) + (np.mean(against) if against else 0.0))
    assert binary_cross_entropy(*_tensors(positive, negatives, w)).item() == pytest.approx(expected, rel=1e-12)


def test_bpr_matches_a_loop(rng: np.random.Generator) -> None:
    positive, negatives, w = _scores(rng)
    expected = 0.0
    for row in range(B):
        lost = [_log_loss(positive[row] - s) for s in negatives[row] if s > NO / 2]
        expected += w[row] * (np.mean(lost) if lost else 0.0)
    assert bpr(*_tensors(positive, negatives, w)).item() == pytest.approx(expected, rel=1e-12)


def test_triplet_matches_a_loop(rng: np.random.Generator) -> None:
    anchor, positive, negatives = rng.normal(size=(B, 3)), rng.normal(size=(B, 3)), rng.normal(size=(B, R, 3))
    taking_part, w, margin = rng.random((B, R)) < 0.7, rng.uniform(0.1, 2, B), 0.5
    taking_part[1] = False
    expected, n_lost = 0.0, 0
    for row in range(B):
        near = ((anchor[row] - positive[row]) ** 2).sum()
        distances = [((anchor[row] - n) ** 2).sum() for n in negatives[row][taking_part[row]]]
        lost = [max(0.0, near - far + margin) for far in distances]
        n_lost += sum(one > 0 for one in lost)
        expected += w[row] * (np.mean(lost) if lost else 0.0)
    assert 0 < n_lost < taking_part.sum()  # both sides of the margin
    found = triplet(*_tensors(anchor, positive, negatives), torch.tensor(taking_part), margin, torch.tensor(w))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def _of_softmax(positive: Tensor, others: Tensor, w: Tensor) -> Tensor:
    return sampled_softmax(positive, others, others[:, :0], w)


def _of_hard_ones(positive: Tensor, others: Tensor, w: Tensor) -> Tensor:
    return sampled_softmax(positive, others[:, :0], others, w)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES = pytest.mark.parametrize("loss", [_of_softmax, _of_hard_ones, binary_cross_entropy, bpr])


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_takes_no_part_has_no_gradient_and_changes_nothing(
    loss: Loss, dtype: torch.dtype, rng: np.random.Generator
) -> None:
    positive, negatives, w = (torch.tensor(array, dtype=dtype) for array in _scores(rng))
    positive.requires_grad_(), negatives.requires_grad_()
    whole = loss(positive, negatives, w)
    grads = torch.autograd.grad(whole, [positive, negatives])
    assert torch.isfinite(whole)
    assert all(torch.isfinite(grad).all() for grad in grads)
    absent = negatives.detach() < NO / 2
    assert (grads[1][absent] == 0).all()
    assert (grads[1][~absent] > 0).all()
    alone = [
        loss(positive[row : row + 1], negatives[row : row + 1][:, ~absent[row]], w[row : row + 1]) for row in range(B)
    ]
    torch.testing.assert_close(sum(alone), whole)


@LOSSES
@pytest.mark.parametrize("high", [80.0, 1e4])
def test_gradients_are_finite_for_large_scores(loss: Loss, high: float) -> None:
    positive = torch.tensor([high, -high, 0.0], requires_grad=True)
    negatives = torch.tensor([[-high, NO], [high, NO], [high, -high]], requires_grad=True)
    loss(positive, negatives, torch.ones(3)).backward()
    for score in (positive, negatives):
        assert score.grad is not None
        assert torch.isfinite(score.grad).all()
        assert score.grad[1].abs().sum() > 0.5  # it is wrong there


@LOSSES
def test_a_score_that_is_not_a_number_is_not_hidden(loss: Loss) -> None:
    negatives = torch.tensor([[0.5, torch.nan]])
    assert torch.isnan(loss(torch.zeros(1), negatives, torch.ones(1)))


def test_triplet_has_no_gradient_where_nothing_takes_part() -> None:
    anchor, positive, negatives = _tensors(np.ones((2, 3)), np.zeros((2, 3)), np.full((2, 1, 3), 0.5))
    taking_part = torch.tensor([[True], [False]])
    triplet(anchor, positive, negatives, taking_part, 1.0, torch.ones(2)).backward()
    for values in (anchor, positive, negatives):
        assert values.grad is not None
        assert values.grad[0].abs().sum() > 0
        assert values.grad[1].abs().sum() == 0


def _far_from_full(n_in_batch: int, n_random: int, turn: float) -> float:
    """How far the mean gradient of many draws is from that of the softmax over 30 items, of whose length.

    turn: what log Q is multiplied by: 1 as it should be, 0 without, -1 with the sign turned.
    """
    rng, n, wanted, n_draws = np.random.default_rng(5), 30, 4, 400
    share = rng.permutation(1 / np.arange(1.0, n + 1))
    share /= share.sum()
    probabilities = proposal(share, np.ones(len(share), bool), "uniform")
    log_q = torch.tensor(expected_log_counts(share, n_in_batch, probabilities, n_random).astype(np.float64))
    drawn = np.concatenate(
        [draw(rng, share, (n_draws, n_in_batch)), draw(rng, probabilities, (n_draws, n_random))], axis=1
    )
    scores = torch.tensor(rng.normal(size=n), requires_grad=True)
    full = torch.softmax(scores.detach(), 0) - torch.nn.functional.one_hot(torch.tensor(wanted), n)
    samples = torch.tensor(drawn.astype(np.int64))
    corrected = (scores[samples] - turn * log_q[samples]).masked_fill(samples == wanted, NO)
    positive = scores[wanted].expand(n_draws)
    sampled_softmax(positive, corrected, corrected[:, :0], torch.full((n_draws,), 1 / n_draws)).backward()
    assert scores.grad is not None
    return float((scores.grad - full).norm() / full.norm())


@pytest.mark.parametrize(("n_in_batch", "n_random"), [(400, 0), (0, 400), (200, 200)])
def test_sampled_softmax_with_log_q_has_the_gradient_of_the_full_softmax(n_in_batch: int, n_random: int) -> None:
    assert _far_from_full(n_in_batch, n_random, 1.0) < 0.02
    assert _far_from_full(n_in_batch // 8, n_random // 8, 1.0) < 0.12  # and the more samples, the nearer


def test_sampled_softmax_without_log_q_or_with_its_sign_turned_has_another_gradient() -> None:
    found = {turn: _far_from_full(200, 200, turn) for turn in (1.0, 0.0, -1.0)}
    assert found[0.0] > 10 * found[1.0]
    assert found[-1.0] > found[0.0] > 0.1
