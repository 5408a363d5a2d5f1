"""The two towers as a torch module, by the formulas of `two_tower.kernels.towers`.

Owns: the torch module, its initial weights, and their way to and from plain arrays.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.two_tower.kernels.inputs import Encoded, TowerInputs
from recsys_spark.two_tower.kernels.towers import Shape, weight_shapes

# Small enough that the first embeddings say little, large enough that they differ.
_DEVIATION = 0.1


class EncodedTensors(NamedTuple):
    """`Encoded` as tensors on one device.  ids: empty, or (n,), below 0 for none."""

    dense: Tensor
    indptr: Tensor
    buckets: Tensor
    weights: Tensor
    ids: Tensor


class Pooled(NamedTuple):
    """Histories as rows of a given matrix of embeddings: indices, their weights, and where each begins, (n,)."""

    indices: Tensor
    weights: Tensor
    starts: Tensor


def as_rows(encoded: Encoded, device: torch.device) -> EncodedTensors:
    """`encoded` on `device`."""
    places = encoded.buckets.astype(np.int64), encoded.ids.astype(np.int64)
    dense, indptr, weights, buckets, ids = (
        torch.as_tensor(part).to(device) for part in (encoded.dense, encoded.indptr, encoded.weights, *places)
    )
    return EncodedTensors(dense, indptr, buckets, weights, ids)


class _Tower(nn.Module):
    """One tower; its parameters bear the names of `towers.Tower`."""

    dense: nn.Parameter
    buckets: nn.Parameter
    ids: nn.Parameter
    history: nn.Parameter
    bias: nn.Parameter
    into: nn.Parameter
    into_bias: nn.Parameter
    out: nn.Parameter
    out_bias: nn.Parameter

    def __init__(self, inputs: TowerInputs, shape: Shape, has_history: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.normalize = shape.normalize
        for name, size in weight_shapes(inputs, shape, has_history).items():
            if name == "history":
                first = torch.eye(*size)  # a user begins as the mean of their items
            elif name in ("into_bias", "out", "out_bias"):
                first = torch.zeros(size)  # what the hidden layer adds begins at nothing
            else:
                deviation = (2.0 / size[0]) ** 0.5 if name == "into" else _DEVIATION
                first = torch.randn(size, generator=generator) * deviation
            self.register_parameter(name, nn.Parameter(first))

    def forward(self, rows: EncodedTensors, keep: Tensor | None, pooled: Tensor | None) -> Tensor:
        """Embeddings, (n, d).  keep: 1 where the id counts, 0 where it is dropped, (n,); None: all count."""
        x = self.bias + rows.dense @ self.dense
        if len(rows.buckets):
            x = x + F.embedding_bag(
                rows.buckets, self.buckets, rows.indptr, mode="sum", per_sample_weights=rows.weights,
                include_last_offset=True,
            )  # fmt: skip
        if len(rows.ids):
            counts = (rows.ids >= 0).to(x.dtype) if keep is None else keep * (rows.ids >= 0)
            x = x + F.embedding(rows.ids.clamp(min=0), self.ids) * counts[:, None]
        if pooled is not None:
            x = x + pooled @ self.history
        x = x + F.relu(x @ self.into + self.into_bias) @ self.out + self.out_bias
        return F.normalize(x, dim=1) if self.normalize else x


class TwoTower(nn.Module):
    """Both towers and the scale of their products, 1 / temperature."""

    def __init__(
        self, users: TowerInputs, items: TowerInputs, shape: Shape, temperature: float, learn_scale: bool, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed % (1 << 63))
        self.user = _Tower(users, shape, True, generator)
        self.item = _Tower(items, shape, False, generator)
        first = torch.tensor(-float(np.log(temperature)))
        self.log_scale = nn.Parameter(first, requires_grad=learn_scale)

    def forward(
        self, users: EncodedTensors, items: EncodedTensors, keep: Tensor | None, histories: Pooled
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of users (n, d) and of items (m, d), and the scale of their products.

        histories: of the users, as rows of `items`.
        """
        vectors = self.item(items, keep, None)
        pooled = F.embedding_bag(
            histories.indices, vectors, histories.starts, mode="sum", per_sample_weights=histories.weights
        )
        return self.user(users, None, pooled), vectors, self.log_scale.exp()

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight as `user.NAME` or `item.NAME`, and `log_scale`."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes the weights of `arrays`; KeyError or RuntimeError if they are those of another model."""
        self.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})

    def start_from(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Takes those weights of an earlier model that are learnt here, in the same shape; the names of the others."""
        mine = self.state_dict()
        learnt = {name for name, one in self.named_parameters() if one.requires_grad}
        taken = {name: arrays[name] for name in learnt & set(arrays) if arrays[name].shape == tuple(mine[name].shape)}
        self.load({name: value.numpy() for name, value in mine.items()} | taken)
        return sorted(set(mine) - set(taken))
