"""Lists of candidates as a service gets them.

Owns: their types, and their way out of a row of `candidates` or `fallback_candidates`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal, NamedTuple

import pyarrow as pa

Origin = Literal["user", "segment", "global"]


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
