"""The two towers in numpy: from encoded features (`two_tower.kernels.inputs`) and pooled items to embeddings.

Owns: the form of the weights, and what they compute; `two_tower.kernels.torch_towers` learns them by the same formulas.

A tower, for one row:  x = dense P + (sum of weight x B[bucket]) + I[id] + h H + b, e = x + relu(x V + c) U + d, and
the embedding is e, or e / |e|.  dense, buckets and id are those of `inputs.Encoded`.  Only users have h, the pooled
history: the mean of the embeddings of a user's newest items, weighted by `history_weights`.  Only items have ids.

Letters: n rows, d length of an embedding, g of the hidden layer, D of the dense input.
"""

from dataclasses import dataclass

import numpy as np

from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import offsets
from recsys_spark.two_tower.kernels.inputs import Encoded, TowerInputs


@dataclass(frozen=True)
class Shape:
    """What both towers have in common.

    dim: d.  hidden: g.  normalize: whether embeddings have length 1.  history_items: newest items that are pooled;
    half_life_items: the place in the list at which an item counts half of the newest.
    """

    dim: int
    hidden: int
    normalize: bool
    history_items: int
    half_life_items: float


@dataclass(frozen=True)
class Tower:
    """The weights of one tower, float32; those of an input that the tower lacks have no rows.

    dense: (D, d).  buckets: (n_buckets, d).  ids: (n_ids, d).  history: (d, d), or (0, d).  bias: (d,).
    into: (d, g), into_bias: (g,), out: (g, d), out_bias: (d,).
    """

    dense: np.ndarray
    buckets: np.ndarray
    ids: np.ndarray
    history: np.ndarray
    bias: np.ndarray
    into: np.ndarray
    into_bias: np.ndarray
    out: np.ndarray
    out_bias: np.ndarray


def weight_shapes(inputs: TowerInputs, shape: Shape, has_history: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a tower, in the order of `Tower`."""
    d, g = shape.dim, shape.hidden
    return {
        "dense": (inputs.width, d),
        "buckets": (inputs.n_buckets, d),
        "ids": (inputs.n_ids, d),
        "history": (d if has_history else 0, d),
        "bias": (d,),
        "into": (d, g),
        "into_bias": (g,),
        "out": (g, d),
        "out_bias": (d,),
    }


def embed(tower: Tower, encoded: Encoded, history: np.ndarray | None, normalize: bool) -> np.ndarray:
    """Embeddings, float32 (n, d).  history: pooled items, float32 (n, d), or None where the tower takes none.

    Raises KernelError if one is not finite.
    """
    x = np.repeat(tower.bias[None], len(encoded.dense), axis=0)
    x += encoded.dense @ tower.dense
    x += bag_sums(tower.buckets, encoded)
    if len(encoded.ids):
        known = encoded.ids >= 0
        x[known] += tower.ids[encoded.ids[known]]
    if history is not None:
        x += history @ tower.history
    x += np.maximum(x @ tower.into + tower.into_bias, 0.0) @ tower.out + tower.out_bias
    if normalize:
        norms = np.sqrt(np.einsum("nd,nd->n", x, x))
        x /= np.where(norms > 0, norms, 1.0)[:, None]
    if not np.isfinite(x).all():
        raise KernelError(
            f"towers: expected finite embeddings, got {int((~np.isfinite(x).all(axis=1)).sum())} others of {len(x)}; "
            "train the model again, with a lower [two_tower] learning_rate if that gives them too"
        )
    return x


def bag_sums(table: np.ndarray, encoded: Encoded) -> np.ndarray:
    """Weighted sums of rows of `table` by bag, float32 (n, d)."""
    lengths = np.diff(encoded.indptr)
    order = np.argsort(-lengths, kind="stable")
    starts, longest_first = encoded.indptr[:-1][order], lengths[order]
    sums = np.zeros((len(lengths), table.shape[1]), np.float32)
    # The first of every bag, the second of every bag, ...: 3 times as fast as bag by bag or more up to 100 in a bag
    # (and half as fast for 50 bags of 2000), and nothing large in between.
    n_longer = np.searchsorted(-longest_first, -np.arange(lengths.max(initial=0)), side="left")
    for place, n in enumerate(n_longer):
        at = starts[:n] + place
        sums[:n] += table[encoded.buckets[at]] * encoded.weights[at, None]
    found = np.empty_like(sums)
    found[order] = sums
    return found


def history_weights(lengths: np.ndarray, half_life_items: float) -> np.ndarray:
    """What each item of histories of these lengths counts for, newest first, one history after the other, float32.

    0.5 ** (place / half_life_items), by history divided by their sum.
    """
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    raw = 0.5 ** (places / half_life_items)
    # The sum of a geometric series, by length; expm1, for a half-life so long that its ratio rounds to 1.
    exponent = np.log(0.5) / half_life_items
    totals = np.expm1(exponent * lengths) / np.expm1(exponent)
    return np.asarray(raw / np.repeat(totals, lengths), np.float32)


def pool_history(vectors: np.ndarray, items: np.ndarray, lengths: np.ndarray, half_life_items: float) -> np.ndarray:
    """Pooled vectors of histories, float32 (n, d), zeros for an empty one.

    vectors: (m, d).  items: rows of `vectors`, one history after the other, newest first.  lengths: (n,).
    """
    indptr = offsets(lengths)
    weights = history_weights(lengths, half_life_items)
    nothing = np.empty((len(lengths), 0), np.float32)
    return bag_sums(vectors, Encoded(nothing, indptr, items.astype(np.int32), weights, np.empty(0, np.int32)))
