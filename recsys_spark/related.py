"""Related items as a service asks for them: as stored, or in the order of one user.

Owns: how a user's recent items change the order.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

# Newest items of the user that are looked at: each is one more read of a list.
HISTORY_ITEMS = 10


class Related(NamedTuple):
    """A related item; rank from 1, score higher is nearer."""

    item_id: str
    rank: int
    score: float


def nearest(row: pa.Table, k: int) -> tuple[Related, ...]:
    """The first `k` of the one row of `item_neighbors`, in its order."""
    return tuple(Related(item_id, rank, score) for rank, (item_id, score) in enumerate(_pairs(row)[:k], 1))


def for_user(row: pa.Table, recent: Sequence[str], rows: Iterable[pa.Table], k: int) -> tuple[Related, ...]:
    """The `k` best of the row for a user, without the items of `recent`.

    rows: tables of `item_neighbors` with the lists of the user's newest items.
    score = similarity x (1 + n / n_max), where n is the sum of the similarities of those items to the candidate and
    n_max the greatest such sum in the list: to be near to what the user had at most doubles a score.  Ties keep the
    order of the row.
    """
    had = set(recent)
    candidates = [(item_id, score) for item_id, score in _pairs(row) if item_id not in had]
    near: dict[str, float] = {}
    for one in rows:
        for item_id, score in _pairs(one):
            near[item_id] = near.get(item_id, 0.0) + score
    most = max((near.get(item_id, 0.0) for item_id, _ in candidates), default=0.0) or 1.0
    scored = [(item_id, score * (1 + near.get(item_id, 0.0) / most)) for item_id, score in candidates]
    scored.sort(key=lambda pair: -pair[1])
    return tuple(Related(item_id, rank, score) for rank, (item_id, score) in enumerate(scored[:k], 1))


def _pairs(rows: pa.Table) -> list[tuple[str, float]]:
    """(item_id, score) of every entry of the lists in `rows`."""
    entries = rows["neighbors"].combine_chunks().flatten()
    return list(zip(entries.field("item_id").to_pylist(), entries.field("score").to_pylist(), strict=True))
