"""Settings proposed for a feed from samples of its files: columns, times, event types, each with its evidence.

Owns: what `recsys-spark init` writes for a feed, notes for a person to check included; of event types: names, roles,
weights, and what their values count.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from recsys_spark.cli.init.column_profile import Profile, words
from recsys_spark.cli.init.guess import Found, find_order, guess_columns
from recsys_spark.cli.init.guess_time import guess_time
from recsys_spark.cli.init.guess_type import TypeGuess, ValueKind, guess_type, type_name, value_kind_of
from recsys_spark.cli.init.spellings import REQUIRED, RULES, Feed
from recsys_spark.config.settings_text import Setting
from recsys_spark.errors import ArgumentError

# If fewer lines of a type than this share name an item, it is no engagement with items: searches, logins.
_MIN_WITH_ITEM = 0.5


# If a larger share of lines is refused, ingest refuses the batch (ingest.max_bad_row_ratio).
_FEW = 0.01
_MEANS = {"user_id": "the user", "item_id": "the item"}
_SEGMENTS = ("segment", "tier", "plan", "country", "region", "market", "language", "city")
_MIN_VECTOR = 8  # shorter lists of numbers are sizes and coordinates


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
        notes.append(f"lines of these types are quarantined, because they name no item: {', '.join(skipped)}")
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


@dataclass(frozen=True)
class Proposal:
    """What is proposed for one feed.

    sections: settings by the name of their section, in the order of the file.  notes: what a person should check.
    """

    columns: dict[str, Found]
    sections: dict[str, list[Setting]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """What is known of the files of a feed: the sample, days in their names, and where they were found.

    where: as an error names it.  path: of the first file, from the probed folder on.
    """

    where: str
    path: str
    columns: Mapping[str, Profile]
    rows: Sequence[Mapping[str, Any]]
    known_days: frozenset[date]
    today: date


def propose_events(evidence: Evidence) -> Proposal:
    """Settings of the event log; raises ArgumentError if user or item cannot be told."""
    found = _required("events", evidence)
    proposal = Proposal(found)
    general = proposal.sections.setdefault("events", [])
    if "event_time" in found:
        general += _time_settings(proposal, evidence, ("event_time",))
    else:
        general.append(_clock_setting(proposal, evidence))
    lines = EventLines(found, evidence.columns, evidence.rows)
    if "event_type" in found:
        types, notes, skipped = propose_types(lines)
        if skipped:
            names = ", ".join(skipped)
            general.append(Setting("unknown_types", "skip", f"lines of these types name no item: {names}"))
    else:
        types, notes = propose_default_type(lines, evidence.path)
        general.append(Setting("default_type", types[0].name, "the log has no column with the type of the event"))
    proposal.notes.extend(notes)
    general += _value_settings(proposal, evidence.columns)
    proposal.sections["events.columns"] = _column_settings("events", proposal, evidence.columns)
    for one in types:
        settings = [Setting("raw", one.raw)] if one.raw != [one.name] else []
        settings += [Setting("role", one.guess.role)] if one.guess.role != "engage" else []
        settings += [Setting("weight", round(one.guess.weight, 6), one.why)] if one.guess.role == "engage" else []
        settings += _transform_settings(one.guess.value_transform, one.largest_value)
        proposal.sections[f"events.types.{one.name}"] = settings
    _note_missing(proposal, evidence)
    return proposal


def _clock_setting(proposal: Proposal, evidence: Evidence) -> Setting:
    """`clock` of a log without times; a column that tells the order is added to the proposal's columns."""
    taken = {one.name for ours, one in proposal.columns.items() if ours != "position"}
    found = find_order(evidence.columns, taken)
    places = [(row.get(proposal.columns["user_id"].name), row.get(found.name)) for row in evidence.rows if found]
    n_users = len({user for user, _ in places})
    # A position on a screen repeats within a user who comes again; a place in an order does not.
    if found and len(set(places)) == len(places) and 2 * n_users <= len(places):
        proposal.columns["position"] = found
        return Setting("clock", "order", f"no column has times; {found.name} says what came first of a user's events")
    proposal.columns.pop("position", None)
    proposal.notes.append(
        "no column has times, so what is newer does not count more; if the lines of a user stand in the order in which "
        'things happened, write clock = "order"'
    )
    return Setting("clock", "none", "no column has times")


def propose_catalogue(feed: Feed, evidence: Evidence) -> Proposal:
    """Settings of the snapshots of items or users; raises ArgumentError if the id cannot be told."""
    proposal = Proposal(_required(feed, evidence))
    general = proposal.sections.setdefault(feed, [])
    general += _time_settings(proposal, evidence, ("created_at", "valid_from"))
    vectors = [name for name, profile in evidence.columns.items() if _is_vector(profile)]
    if vectors:
        general.append(Setting("vectors", vectors, "lists of numbers of one length"))
    proposal.sections[f"{feed}.columns"] = _column_settings(feed, proposal, evidence.columns)
    if feed == "users":
        taken = {one.name for one in proposal.columns.values()}
        free = {
            name.lower(): name for name, profile in evidence.columns.items() if name not in taken and profile.is_kind
        }
        segment = next((free[name] for name in _SEGMENTS if name in free), None)
        if segment:
            why = f"users of one segment share a list; {evidence.columns[segment].evidence}"
            proposal.sections["segments"] = [Setting("attribute", segment, why)]
    return proposal


def _required(feed: Feed, evidence: Evidence) -> dict[str, Found]:
    """The columns of the feed; raises ArgumentError unless the required ones are among them."""
    found = guess_columns(feed, evidence.columns)
    missing = [ours for ours in REQUIRED[feed] if ours not in found and ours != "event_time"]
    if missing:
        seen = ", ".join(_described(profile) for profile in evidence.columns.values())[:600]
        meant = " and ".join(_MEANS[ours] for ours in missing)
        by_hand = ", ".join(f'{ours} = "<column>"' for ours in missing)
        raise ArgumentError(
            f"{evidence.where}: expected a column that can be {meant}, got {seen or 'no columns'}; write by hand a "
            f"recsys.toml with [landing] {feed} = <folder> and [{feed}.columns] {by_hand}"
        )
    return found


def _described(profile: Profile) -> str:
    """The column as an error shows it: its name, and the names of nested fields."""
    inner = next((value for value in profile.values if isinstance(value, dict)), None)
    return f"{profile.name} (nested: {', '.join(map(str, inner))})" if inner else profile.name


def _time_settings(proposal: Proposal, evidence: Evidence, ours: tuple[str, ...]) -> list[Setting]:
    """`time_format`, if it is not the default, and `timezone`, where times carry none."""
    settings: list[Setting] = []
    formats: dict[str, str] = {}
    for column in (one for one in ours if one in proposal.columns):
        name = proposal.columns[column].name
        guess = guess_time(evidence.columns[name].values, evidence.known_days, evidence.today)
        if guess is None:
            continue
        if guess.time_format not in formats and formats:
            others = ", ".join(formats.values())
            proposal.notes.append(f"{name} is left out: it is written as {guess.time_format}, unlike {others}")
            del proposal.columns[column]
            continue
        formats[guess.time_format] = name
        proposal.notes.extend(f"{name}: {note}" for note in guess.notes)
        if guess.time_format != "iso" and not settings:
            settings.append(Setting("time_format", guess.time_format, f"{name}: {guess.why}"))
        if any("timezone" in note for note in guess.notes):
            settings.append(Setting("timezone", "UTC", f"a guess: {name} does not say"))
    return list({one.key: one for one in reversed(settings)}.values())[::-1]


def _column_settings(feed: Feed, proposal: Proposal, columns: Mapping[str, Profile]) -> list[Setting]:
    """The mapping where the log's name differs from ours; "" where a column of our name means something else."""
    settings = []
    for ours in RULES[feed]:
        found = proposal.columns.get(ours)
        if found:
            if not found.sure:
                proposal.notes.append(f"{ours} is guessed to be {found.name}: {found.why}")
            if found.name != ours or not found.sure:
                settings.append(Setting(ours, found.name, found.why))
        elif ours in columns:
            settings.append(Setting(ours, "", f"the column {ours} of the log is not what is meant here"))
            proposal.notes.append(f"the log's own {ours} is left out: {columns[ours].evidence}")
    return settings


def _value_settings(proposal: Proposal, columns: Mapping[str, Profile]) -> list[Setting]:
    """`on_bad_value`, where many values would be refused."""
    if "value" not in proposal.columns:
        return []
    numbers = columns[proposal.columns["value"].name].numbers
    n_below = sum(number < 0 for number in numbers)
    if n_below <= _FEW * len(numbers):
        return []
    proposal.notes.append(f"{n_below} of {len(numbers)} values are below zero; on_bad_value = cap counts them as 0")
    return [Setting("on_bad_value", "cap", f"{n_below} of {len(numbers)} values are below zero: they count as 0")]


def _transform_settings(transform: str, largest: float) -> list[Setting]:
    if transform == "log":
        return [
            Setting(
                "value_transform", "log", "weight x log(1 + value): a crate is wanted more than a bottle, not 24 times"
            )
        ]
    if transform == "cap":
        return [
            Setting("value_transform", "cap", "weight x value"),
            Setting("value_cap", float(largest), "highest value of the sample"),
        ]
    return []


def _note_missing(proposal: Proposal, evidence: Evidence) -> None:
    """Notes how many lines lack a user or a time, and which columns are not kept."""
    n_rows = len(evidence.rows)
    for ours in (one for one in ("user_id", "event_time") if one in proposal.columns):
        n_without = n_rows - len(evidence.columns[proposal.columns[ours].name].values)
        if n_without:
            becomes = "kept as anonymous, for popularity alone" if ours == "user_id" else "refused"
            proposal.notes.append(f"{n_without} of {n_rows} lines have no {ours}: they are {becomes}")
    used = {one.name for one in proposal.columns.values()}
    others = [name for name in evidence.columns if name not in used]
    if others:
        proposal.notes.append(f"columns that are not kept: {', '.join(others)[:300]} (attributes = [...] keeps them)")


def _is_vector(profile: Profile) -> bool:
    lengths = {len(value) if isinstance(value, list) else 0 for value in profile.values}
    return (
        len(lengths) == 1
        and min(lengths) >= _MIN_VECTOR
        and all(isinstance(one, int | float) for value in profile.values[:20] for one in value)
    )
