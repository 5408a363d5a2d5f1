"""Answers of the reader: a user's candidates, related items of an item, and scored items.

Owns: the types of these answers and the checks of what is asked; the way from a row of `candidates` or
`fallback_candidates` to a list, and from rows of `item_neighbors` to related items, as stored or in the order of one
user.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal, NamedTuple

import pyarrow as pa

from recsys_spark.errors import ArgumentError

Origin = Literal["user", "segment", "global"]


# Newest items of the user by which related items are ordered: each costs one more read of a list.
HISTORY_ITEMS = 10


class Source(NamedTuple):
    """A list that proposed an item, with the item's rank (from 1) and score in it."""

    source: str
    rank: int
    score: float


@dataclass(frozen=True)
class Candidate:
    """One item of a list; rank from 1, score higher is better, and every list that proposed it."""

    item_id: str
    rank: int
    score: float
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Candidates:
    """A list, best first.  origin: whether it was made for the user, for their segment or for everybody.

    variant: the experiment whose list it is; None: a list that is not the user's own.
    """

    user_id: str
    items: tuple[Candidate, ...]
    origin: Origin
    generated_at: datetime
    variant: str | None = None


def candidates_of(user_id: str, row: pa.Table, origin: Origin) -> Candidates:
    """The list in the one row of `row`; columns are flattened before they become Python values, not row by row."""
    items = row["items"].combine_chunks().flatten()
    sources = items.field("sources")
    flat = sources.flatten()
    proposals = map(Source, *(flat.field(name).to_pylist() for name in Source._fields))
    lengths = sources.value_lengths().to_pylist()
    fields = zip(*(items.field(name).to_pylist() for name in ("item_id", "rank", "score")), strict=True)
    listed = tuple(
        Candidate(item_id, rank, score, tuple(islice(proposals, length)))
        for (item_id, rank, score), length in zip(fields, lengths, strict=True)
    )
    generated_at = row["generated_at"][0].as_py()
    # Parquet's INT96, in which Spark stores times by default, has no zone; Spark writes UTC.
    variant = row["variant"][0].as_py() if "variant" in row.column_names else None
    return Candidates(user_id, listed, origin, generated_at.replace(tzinfo=UTC), variant)


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
    n_max the greatest such sum in the list: nearness to what the user had at most doubles a score.  Ties keep the
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


def check_k(where: str, k: int) -> int:
    """`k` itself; raises ArgumentError unless a list of that length can be asked for."""
    if k < 1:
        raise ArgumentError(f"{where}: expected k of at least 1, got {k}; ask for as many items as you show")
    return k


def check_ids(where: str, ids: Sequence[object]) -> None:
    """Raises ArgumentError unless all ids are text that UTF-8 can hold."""
    for one in ids:
        if not isinstance(one, str):
            raise ArgumentError(f"{where}: expected ids as text, got {type(one).__name__}; ids are strings end to end")
        try:
            one.encode()
        except UnicodeEncodeError as err:
            raise ArgumentError(
                f"{where}: expected ids as valid Unicode, got a lone surrogate; decode it first"
            ) from err


class Scored(NamedTuple):
    """An item with its rank, from 1, and its score, higher is better."""

    item_id: str
    rank: int
    score: float


def merge(answers: Iterable[Sequence[Scored]], k: int) -> tuple[Scored, ...]:
    """The `k` best of the answers of several machines to one vector, ties by item_id; ranks begin at 1 again."""
    found = sorted((one for answer in answers for one in answer), key=lambda one: (-one.score, one.item_id.encode()))
    return tuple(one._replace(rank=rank) for rank, one in enumerate(found[: check_k("merge", k)], 1))
