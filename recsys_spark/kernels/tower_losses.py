"""What a two-tower model is trained to make small.

Owns: the formulas.

Letters: B examples, each a user and the item that they engaged with, C, R and H further items.  Losses are sums over
the examples, weighted by w, which the caller divides.  NO is the score of an item that does not take part.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

NO = -1e30


def sampled_softmax(positive: Tensor, corrected: Tensor, hard: Tensor, w: Tensor) -> Tensor:
    """Softmax over all items, estimated from samples of them (Bengio and Senecal 2008).

    positive: scores of the wanted items, (B,).  corrected: scores of drawn items less the log of how often each was
    expected, (B, C): logQ.  hard: scores of items that were chosen, not drawn, (B, H).  Where a sample is the wanted
    item itself its score is NO; then the expected gradient is that of the full softmax as samples grow.
    """
    total = torch.logsumexp(torch.cat([positive[:, None], corrected, hard], dim=1), dim=1)
    return (w * (total - positive)).sum()


def binary_cross_entropy(positive: Tensor, negatives: Tensor, w: Tensor) -> Tensor:
    """Logistic loss of the wanted item against 1, and the mean of that of the others (B, R) against 0."""
    taking_part = ~(negatives <= NO / 2)  # NaN takes part, to be seen
    against = torch.where(taking_part, F.softplus(negatives), 0.0).sum(dim=1) / taking_part.sum(dim=1).clamp(min=1)
    return (w * (F.softplus(-positive) + against)).sum()


def bpr(positive: Tensor, negatives: Tensor, w: Tensor) -> Tensor:
    """Bayesian personalized ranking (Rendle et al. 2009): mean over negatives (B, R) of -log sigmoid(s_ui - s_uj)."""
    taking_part = ~(negatives <= NO / 2)  # NaN takes part, to be seen
    # Not the difference itself: that of NO is not finite in float32's square.
    difference = torch.where(taking_part, positive[:, None] - negatives, 0.0)
    lost = torch.where(taking_part, F.softplus(-difference), 0.0).sum(dim=1) / taking_part.sum(dim=1).clamp(min=1)
    return (w * lost).sum()


def triplet(
    anchor: Tensor, positive: Tensor, negatives: Tensor, taking_part: Tensor, margin: float, w: Tensor
) -> Tensor:
    """Triplet margin (Schroff et al. 2015) on items: mean of max(0, D(a, p) - D(a, n) + margin), D = |a - b|^2.

    anchor: an item that was engaged with, (B, d).  positive: the next one, (B, d).  negatives: (B, R, d), those with
    `taking_part` (B, R).  Of units D = 2 - 2 cos.
    """
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor[:, None] - negatives).square().sum(dim=2)
    lost = torch.where(taking_part, F.relu(near[:, None] - far + margin), 0.0)
    return (w * lost.sum(dim=1) / taking_part.sum(dim=1).clamp(min=1)).sum()
