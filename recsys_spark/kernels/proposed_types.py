"""Event types for the settings, proposed from the lines of a sample: names, roles, weights, what their values count.

Owns: which of the log's types become ours.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_spark.kernels.column_profile import Profile, words
from recsys_spark.kernels.guess import Found
from recsys_spark.kernels.guess_type import TypeGuess, ValueKind, guess_type, type_name, value_kind_of

# Lines of a type that name an item less often than this are no engagement with one: searches, logins.
_MIN_WITH_ITEM = 0.5


@dataclass(frozen=True)
class EventLines:
    """The sample of the log: our columns, the profile of each of its columns, and its rows."""

    found: Mapping[str, Found]
    columns: Mapping[str, Profile]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ProposedType:
    """One type of the settings.  raw: its names in the log; largest_value: highest value of the sample, 0 for none."""

    name: str
    raw: list[str]
    guess: TypeGuess
    largest_value: float
    why: str


def propose_types(lines: EventLines) -> tuple[list[ProposedType], list[str], list[str]]:
    """The types of the log's type column, most frequent first; notes; names of types whose lines have no item."""
    column, item = lines.found["event_type"].name, lines.found["item_id"].name
    counts: Counter[str] = Counter()
    with_item: Counter[str] = Counter()
    for row in lines.rows:
        raw = row.get(column)
        if raw is not None and str(raw).strip():
            counts[str(raw)] += 1
            with_item[str(raw)] += row.get(item) not in (None, "")
    skipped = sorted(raw for raw in counts if with_item[raw] < _MIN_WITH_ITEM * counts[raw])
    grouped: dict[str, list[str]] = {}
    for raw, _ in counts.most_common():
        if raw not in skipped:
            grouped.setdefault(type_name(raw), []).append(raw)
    types = [_propose(lines, name, raws, sum(counts[raw] for raw in raws)) for name, raws in grouped.items()]
    notes = [
        f"the event type {', '.join(one.raw)} is not understood: taken as a view with weight 1"
        for one in types
        if not one.guess.known
    ]
    n_without = len(lines.rows) - sum(counts.values())
    if n_without:
        notes.append(
            f"{n_without} of {len(lines.rows)} lines have no event type: they are refused, or set default_type"
        )
    if skipped:
        notes.append(f"lines of these types are set aside, because they name no item: {', '.join(skipped)}")
    return types, notes, skipped


def propose_default_type(lines: EventLines, path: str) -> tuple[list[ProposedType], list[str]]:
    """The one type of a log without a type column, told by the path of its files, else by what its values are."""
    kind = _value_kind(lines)
    said = [guess for word in words(path) if (guess := guess_type(word.removesuffix("s"), "")).known]
    names: dict[ValueKind, str] = {"rating": "rating", "quantity": "purchase", "duration": "play"}
    name = names["rating"] if kind == "rating" else said[0].name if said else names.get(kind, "interaction")
    note = f"the log has no column with the type of the event: every line is taken as a {name}"
    return [_propose(lines, name, [name], len(lines.rows))], [note]


def _propose(lines: EventLines, name: str, raws: list[str], n_lines: int) -> ProposedType:
    values = _values_of(lines, raws)
    # A value that is always the same says nothing.
    kind = _value_kind(lines) if len(set(values)) > 1 else ""
    largest = max(values, default=0.0)
    guess = guess_type(raws[0], kind, largest)
    return ProposedType(name, raws, guess, largest, f"{guess.why}; {n_lines:,} lines of the sample")


def _value_kind(lines: EventLines) -> ValueKind:
    return value_kind_of(lines.found["value"].name) if "value" in lines.found else ""


def _values_of(lines: EventLines, raws: list[str]) -> list[float]:
    """Values of the lines of these types; of all lines where there is no type column."""
    if "value" not in lines.found:
        return []
    value, column = lines.found["value"].name, lines.found.get("event_type")
    chosen = (row for row in lines.rows if column is None or str(row.get(column.name)) in raws)
    return [abs(float(row[value])) for row in chosen if row.get(value) not in (None, "")]
