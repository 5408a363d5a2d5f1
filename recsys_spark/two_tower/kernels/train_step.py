"""Training step and loss functions of the two-tower model: sampled softmax with logQ, BPR, cross-entropy, triplet.

Owns: the losses, how a batch becomes one, the optimizer, and the embeddings of a model in training.

Each of several processes makes the same batch, takes its part of the users and sees all items of the batch, so the sum
of their losses is that of one process; gradients are summed, not averaged.

Letters: B examples, each a user and the item that they engaged with; C drawn, R random and H hard items beside it.
Losses are sums over the examples, weighted by w, which the caller divides.  NO is the score of an item that does not
take part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_spark.two_tower.kernels.batches import Batch, Shard, entries_of, histories_of, items_before, take
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.two_tower.kernels.torch_towers import EncodedTensors, Pooled, TwoTower, as_rows
from recsys_spark.two_tower.kernels.towers import Shape, history_weights

NO = -1e30


_LAST_RATE = 0.02  # of the learning rate: it falls linearly to this part
_EVAL_ROWS = 16_384  # rows that are embedded at a time


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
    # Not the bare difference: with NO its square is not finite in float32.
    difference = torch.where(taking_part, positive[:, None] - negatives, 0.0)
    lost = torch.where(taking_part, F.softplus(-difference), 0.0).sum(dim=1) / taking_part.sum(dim=1).clamp(min=1)
    return (w * lost).sum()


def triplet(
    anchor: Tensor, positive: Tensor, negatives: Tensor, taking_part: Tensor, margin: float, w: Tensor
) -> Tensor:
    """Triplet margin (Schroff et al. 2015) on items: mean of max(0, D(a, p) - D(a, n) + margin), D = |a - b|^2.

    anchor: an item that was engaged with, (B, d).  positive: the next one, (B, d).  negatives: (B, R, d), those with
    `taking_part` (B, R).  For unit vectors D = 2 - 2 cos.
    """
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor[:, None] - negatives).square().sum(dim=2)
    lost = torch.where(taking_part, F.relu(near[:, None] - far + margin), 0.0)
    return (w * lost.sum(dim=1) / taking_part.sum(dim=1).clamp(min=1)).sum()


@dataclass(frozen=True)
class Learning:
    """How a model is trained; the settings of [two_tower] by the same names.

    id_dropout: share of ids that a step drops.  n_steps: steps of all epochs, over which the rate falls.
    """

    loss: Literal["softmax", "bce", "bpr", "triplet"]
    log_q: bool
    learning_rate: float
    id_dropout: float
    margin: float
    n_steps: int


class EncodedItems(NamedTuple):
    """All items: what their tower takes, and log Q_j for the loss, float32 (n_items,).

    engaged: columns of `encoded.dense` of numbers that are dropped with the id (`TowerInputs.engaged_columns`).
    """

    encoded: Encoded
    log_q: np.ndarray
    engaged: np.ndarray


class Trainer:
    """A model in training on one device."""

    def __init__(
        self,
        model: TwoTower,
        catalogue: EncodedItems,
        shape: Shape,
        learning: Learning,
        device: torch.device,
        sum_over_processes: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.model = model.to(device)
        self.catalogue, self.shape, self.learning, self.device = catalogue, shape, learning, device
        self._sum = sum_over_processes
        learnt = [one for one in self.model.parameters() if one.requires_grad and one.numel()]
        self.optimizer = torch.optim.Adam(learnt, lr=learning.learning_rate, fused=True)
        # Made at the beginning, because Adam counts a weight's steps from its first gradient on, and kept, because each
        # step adds to them: several processes, and one that resumes, then count steps as a single one does.
        self._gradients = [torch.zeros_like(one) for one in learnt]
        for one, gradient in zip(learnt, self._gradients, strict=True):
            one.grad = gradient
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda done: max(_LAST_RATE, 1.0 - done / max(1, learning.n_steps))
        )

    def step(self, shard: Shard, batch: Batch, rng: np.random.Generator, rank: int = 0, world_size: int = 1) -> Tensor:
        """One step over `batch`, of which this process takes its part; its part of the loss, which is a mean."""
        mine = batch.part(rank, world_size)
        self.optimizer.zero_grad(set_to_none=False)
        loss = self._loss(shard, batch, mine, rng) / max(float(batch.weights.sum()), 1e-30)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._sum is not None:
            for gradient in self._gradients:
                self._sum(gradient)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def _loss(self, shard: Shard, batch: Batch, mine: Batch, rng: np.random.Generator) -> Tensor:
        """The weighted sum of losses of `mine`, a part of `batch`."""
        history, anchors = shard.items[histories_of(mine)], self._anchors(shard, mine)
        parts = [batch.positive, history, mine.random.ravel(), mine.hard[mine.hard >= 0], anchors[anchors >= 0]]
        items = np.unique(np.concatenate(parts))
        # Drawn for the whole catalogue, so that every process drops the same ids, whichever items it needs.
        kept = (rng.random(len(self.catalogue.log_q), dtype=np.float32) >= self.learning.id_dropout)[items]
        users, vectors, scale = self.model(
            self._rows(take(shard.encoded, mine.rows)),
            self._rows(self._without_engagement(take(self.catalogue.encoded, items), ~kept)),
            self._tensor(kept.astype(np.float32)),
            self._pooled(np.searchsorted(items, history), mine.lengths),
        )
        found = _Scored(self, items, users, vectors, scale, self._tensor(mine.weights))
        if self.learning.loss == "softmax":
            return found.softmax(batch, mine)
        if self.learning.loss == "triplet":
            return found.triplet(mine, anchors)
        positive, negatives = found.positive(mine), found.chosen(mine)
        loss = bpr if self.learning.loss == "bpr" else binary_cross_entropy
        return loss(positive, negatives, found.weights)

    def _anchors(self, shard: Shard, mine: Batch) -> np.ndarray:
        """The anchors of a triplet loss; the other losses have none."""
        return items_before(shard, mine) if self.learning.loss == "triplet" else np.empty(0, np.int32)

    def _without_engagement(self, encoded: Encoded, dropped: np.ndarray) -> Encoded:
        """`encoded`, a copy, with the engaged numbers of the rows `dropped` as if they were null."""
        rows, columns = np.flatnonzero(dropped)[:, None], self.catalogue.engaged
        encoded.dense[rows, columns] = 0.0
        encoded.dense[rows, columns + 1] = 1.0
        return encoded

    def arrays(self) -> dict[str, np.ndarray]:
        """The model and the optimizer, for `load`: `model.NAME`, `PLACE.NAME` of the optimizer's state, and `steps`."""
        found = {f"model.{name}": array for name, array in self.model.arrays().items()}
        for place, state in self.optimizer.state_dict()["state"].items():
            found |= {f"{place}.{name}": value.cpu().numpy().astype(np.float32) for name, value in state.items()}
        return found | {"steps": np.array([self.schedule.last_epoch], np.int64)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes up the training where `arrays` left it."""
        self.model.load({name[6:]: array for name, array in arrays.items() if name.startswith("model.")})
        states: dict[int, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            place, _, of = name.partition(".")
            if place.isdigit():
                states.setdefault(int(place), {})[of] = torch.as_tensor(np.array(array))
        steps = int(arrays["steps"][0])
        given = self.optimizer.state_dict()
        rate = self.learning.learning_rate * self.schedule.lr_lambdas[0](steps)
        groups = [group | {"lr": rate} for group in given["param_groups"]]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.schedule.last_epoch = steps

    def embed_items(self) -> np.ndarray:
        """Embeddings of all items, float32 (n_items, d)."""
        parts = []
        with torch.no_grad():
            for first in range(0, len(self.catalogue.log_q), _EVAL_ROWS):
                rows = np.arange(first, min(first + _EVAL_ROWS, len(self.catalogue.log_q)))
                parts.append(self.model.item(self._rows(take(self.catalogue.encoded, rows)), None, None).cpu().numpy())
        return np.concatenate(parts)

    def embed_users(self, shard: Shard, rows: np.ndarray, starts: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Embeddings of users, float32 (n, d), by their history from `starts`, (n,); items: those of all items."""
        parts = []
        vectors = self._tensor(items)
        with torch.no_grad():
            for first in range(0, len(rows), _EVAL_ROWS):
                some, begin = rows[first : first + _EVAL_ROWS], starts[first : first + _EVAL_ROWS]
                lengths = np.minimum(shard.indptr[some + 1] - begin, self.shape.history_items)
                pooled = self._pooled(shard.items[entries_of(begin, lengths)].astype(np.int64), lengths)
                means = torch.nn.functional.embedding_bag(
                    pooled.indices, vectors, pooled.starts, mode="sum", per_sample_weights=pooled.weights
                )
                parts.append(self.model.user(self._rows(take(shard.encoded, some)), None, means).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.shape.dim), np.float32)

    def _rows(self, encoded: Encoded) -> EncodedTensors:
        return as_rows(encoded, self.device)

    def _pooled(self, indices: np.ndarray, lengths: np.ndarray) -> Pooled:
        weights = history_weights(lengths, self.shape.half_life_items)
        starts = np.cumsum(lengths) - lengths
        return Pooled(self._tensor(indices), self._tensor(weights), self._tensor(starts.astype(np.int64)))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values)).to(self.device)

    def places(self, items: np.ndarray, wanted: np.ndarray) -> Tensor:
        """Where the items `wanted` stand in `items`; for NONE any place."""
        return self._tensor(np.searchsorted(items, np.maximum(wanted, items[0])))

    def log_q(self, items: np.ndarray) -> Tensor:
        """log Q_j of each, or zeros."""
        values = self.catalogue.log_q[items] if self.learning.log_q else np.zeros(items.shape, np.float32)
        return self._tensor(values)


@dataclass(frozen=True)
class _Scored:
    """Embeddings of a batch: of users (B, d), and of `items` (m,), which are ascending."""

    trainer: Trainer
    items: np.ndarray
    users: Tensor
    vectors: Tensor
    scale: Tensor
    weights: Tensor

    def vectors_of(self, wanted: np.ndarray) -> Tensor:
        """Embeddings of these items, in their shape; for NONE any."""
        # Not by indexing, whose gradient sorts.
        return torch.nn.functional.embedding(self.trainer.places(self.items, wanted), self.vectors)

    def positive(self, mine: Batch) -> Tensor:
        """Scores of the wanted items, (B,)."""
        wanted = self.vectors_of(mine.positive)
        return (self.users * wanted).sum(dim=1) * self.scale

    def softmax(self, batch: Batch, mine: Batch) -> Tensor:
        """Sampled softmax over the wanted items of all examples, random and hard ones."""
        others = self.vectors_of(batch.positive)
        in_batch = self.users @ others.T * self.scale - self.trainer.log_q(batch.positive)[None]
        same = self.trainer._tensor(mine.positive[:, None] == batch.positive[None])
        random = self.scores(mine.random, mine.positive) - self.trainer.log_q(mine.random)
        corrected = torch.cat([in_batch.masked_fill(same, NO), random], dim=1)
        return sampled_softmax(self.positive(mine), corrected, self.scores(mine.hard, mine.positive), self.weights)

    def chosen(self, mine: Batch) -> Tensor:
        """Scores of random and hard items, (B, R + H)."""
        return torch.cat([self.scores(mine.random, mine.positive), self.scores(mine.hard, mine.positive)], dim=1)

    def scores(self, others: np.ndarray, positive: np.ndarray) -> Tensor:
        """Scores with `others`, (B, R), NO where one is none or the wanted item itself: an accidental hit."""
        found = torch.einsum("bd,brd->br", self.users, self.vectors_of(others))
        return (found * self.scale).masked_fill(self._excluded(others, positive), NO)

    def triplet(self, mine: Batch, anchors: np.ndarray) -> Tensor:
        """Triplets of items alone: the one engaged with before the wanted one, the wanted one, and a negative."""
        others = np.concatenate([mine.hard, mine.random], axis=1)
        near, far = (self.vectors_of(one) for one in (mine.positive, others))
        taking_part = ~self._excluded(others, mine.positive)
        weights = self.weights * self.trainer._tensor((anchors >= 0).astype(np.float32))
        start = self.vectors_of(np.where(anchors >= 0, anchors, mine.positive))
        return triplet(start, near, far, taking_part, self.trainer.learning.margin, weights)

    def _excluded(self, others: np.ndarray, positive: np.ndarray) -> Tensor:
        return self.trainer._tensor((others < 0) | (others == positive[:, None]))
