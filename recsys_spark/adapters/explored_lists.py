"""A worker's side of exploration: what may be explored for each audience, and a block's lists with explored items.

Owns: the form of the broadcast, and what is hidden from whom.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_spark.kernels.blend import Fused
from recsys_spark.kernels.fused_lists import spread
from recsys_spark.kernels.rules import RuleBook, may_see
from recsys_spark.numeric.ragged import Ragged

if TYPE_CHECKING:
    from recsys_spark.kernels.explore import Samples

EXPLORE = "explore"  # what provenance calls the source of an explored item


@dataclass(frozen=True)
class Exploration:
    """The day's samples of fresh items, and the seed by which users take one of them."""

    samples: "Samples"
    seed: int


@dataclass(frozen=True)
class Exploring:
    """What a task makes of it once.  barred: the fresh items that each audience may not see, one row each."""

    exploration: Exploration
    barred: Ragged


def open_exploration(exploration: Exploration, book: RuleBook | None, n_audiences: int) -> Exploring:
    """Ready for many blocks of users of these audiences.  book: the rules in force; None: there are none."""
    if book is None:
        return Exploring(exploration, Ragged(np.zeros(n_audiences + 1, np.int64), np.zeros(0, np.int64)))
    exploration = replace(exploration, samples=_some(exploration.samples, book.shown[exploration.samples.items]))
    items = exploration.samples.items
    seen = np.vstack(
        [may_see(book.barred, np.full(len(items), audience), items) for audience in range(n_audiences)]
    )  # (n_audiences, n)
    lengths = (~seen).sum(axis=1)
    return Exploring(exploration, Ragged(np.concatenate([[0], np.cumsum(lengths)]), items[np.nonzero(~seen)[1]]))


def explored_lists(
    fused: Fused,
    user_ids: Sequence[str],
    hidden: Sequence[Ragged],
    audiences: np.ndarray,
    exploring: Exploring,
    share: float,
    k: int,
    column: int,
) -> Fused:
    """`fused` with a share of its places given to fresh items, which the provenance has as `column`.

    hidden: by user, what may not be explored for them.  audiences: int64 (n_users,).  What a list holds already is not
    explored.
    """
    # Compiled code: a worker that explores nothing need not wait a second for the compiler.
    from recsys_spark.kernels.explore import assign_samples, explore, slots
    from recsys_spark.kernels.explored_lists import with_explored

    samples = exploring.exploration.samples
    ranks = slots(k, share)
    if not len(samples.items) or not len(ranks):
        return fused
    sample_of = assign_samples(user_ids, exploring.exploration.seed, len(samples.order))
    listed = Ragged(fused.indptr, fused.items.astype(np.int64))
    barred = _rows(exploring.barred, audiences)
    explored = explore(samples, sample_of, [*hidden, listed, barred], len(ranks))
    return with_explored(fused, explored, ranks, k, column)


def _some(samples: "Samples", kept: np.ndarray) -> "Samples":
    """The samples of the items where `kept`, bool (n,), is True, in their order."""
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    order = number[samples.order]
    return replace(samples, items=samples.items[kept], order=order[order >= 0].reshape(len(order), int(kept.sum())))


def _rows(ragged: Ragged, rows: np.ndarray) -> Ragged:
    """The rows `rows` of `ragged`, some of them several times."""
    at, lengths = spread(ragged.indptr, rows)
    return Ragged(np.concatenate([[0], np.cumsum(lengths)]), ragged.values[at])
