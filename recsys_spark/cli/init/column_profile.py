"""Column profiles of a sample of a log: the values of each column, how many are distinct, what they can be.

Owns: the form of a column's evidence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# A column with more distinct values than this does not name types of events, surfaces or segments.
_MAX_KINDS = 60


@dataclass(frozen=True, eq=False)
class Profile:
    """One column of a sample: its name, the rows of the sample, and the values of those rows that have one.

    as_text: the format has only text (CSV), so text may be a number.
    """

    name: str
    n_rows: int
    values: tuple[Any, ...]
    as_text: bool = True

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The values as text."""
        return tuple(str(value).strip() for value in self.values)

    @cached_property
    def n_distinct(self) -> int:
        """Distinct values."""
        return len(set(self.texts))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The values as numbers; empty if ingest would not read any of them as one."""
        refused = (bool, list, dict) if self.as_text else (bool, list, dict, str)
        if any(isinstance(value, refused) for value in self.values):
            return ()
        try:
            return tuple(float(text) for text in self.texts)
        except ValueError:
            return ()

    @property
    def is_id(self) -> bool:
        """Whether every value can be an id: text or whole number."""
        return bool(self.values) and all(
            isinstance(value, str | int) and not isinstance(value, bool) for value in self.values
        )

    @property
    def is_unique(self) -> bool:
        """Whether no value comes twice."""
        return len(self.values) > 1 and self.n_distinct == len(self.values)

    @property
    def is_kind(self) -> bool:
        """Whether the values are few and repeat: a categorical column, not an id."""
        few = self.n_distinct <= _MAX_KINDS and (self.n_distinct <= 3 or self.n_distinct * 4 <= len(self.values))
        return self.is_id and few and max(map(len, self.texts)) <= 64

    @property
    def evidence(self) -> str:
        """The values in few words."""
        example = self.texts[0][:40] if self.values else ""
        return f"{self.n_distinct:,} distinct in {len(self.values):,} values, e.g. {example}"


def profile_columns(rows: Sequence[Mapping[str, Any]], as_text: bool) -> dict[str, Profile]:
    """A profile per column of `rows`, in the order of first appearance; null and blank count as no value."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            filled = values.setdefault(name, [])
            if value is not None and not (isinstance(value, str) and not value.strip()):
                filled.append(value)
    return {name: Profile(name, len(rows), tuple(filled), as_text) for name, filled in values.items()}


def words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, whatever joins them: `visitorId`, `VISITOR_ID`, `visitor.id`."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+", name))
