"""Rules of the business as data: rows are checked, those in force are chosen, and items are found for their targets.

Owns: what a row of a rule may hold, when a rule is in force, and what it means for which item.  What rules then do to
lists, and which of two decides, is in `kernels.rules`.

A rule names one target (item_id, category or brand), for users of one segment or for everybody, and a time: it is in
force at a cutoff with starts_at <= cutoff < ends_at, an open end being none.  The cutoff is a run's, so a rule that
ends within the day acts until the next run.  Kinds:

block      the target is not listed
allow      what no allow rule names is not listed
boost      fused scores of the target are multiplied by factor
pin        the item stands at position
available  the target is listed within the window alone; of several windows for one item and segment one is enough
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np

from recsys_spark.errors import ConfigError
from recsys_spark.kernels.list_walks import ITEM_BITS, cells_of
from recsys_spark.kernels.rules import EVERYBODY, Effects, Rules
from recsys_spark.kernels.values import shown

KINDS = ("block", "allow", "boost", "pin", "available")
TARGETS = ("item_id", "category", "brand")

# Two lists of weight 1 that agree on rank 1 have a fused score of 1 / 30; a boosted score ends at 64.
MAX_FACTOR = 1000.0
_MAX_POSITION = 2**31 - 1  # provenance has int32


@dataclass(frozen=True)
class Rule:
    """One rule; exactly one of item_id, category and brand is given.

    segment: None for everybody.  position: from 1, of a pin.  factor: above 0, of a boost.  starts_at, ends_at: with a
    zone, None for open.  reason: for people.
    """

    rule_id: str
    kind: str
    item_id: str | None = None
    category: str | None = None
    brand: str | None = None
    segment: str | None = None
    position: int | None = None
    factor: float | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    reason: str = ""

    @property
    def target(self) -> tuple[str, str]:
        """Column and value of the target."""
        return next((name, value) for name in TARGETS if (value := getattr(self, name)) is not None)


@dataclass(frozen=True)
class Catalogue:
    """What targets are looked up in, one row per item: item_idx int32; the others text, None for none."""

    item_idx: np.ndarray
    item_id: Sequence[str | None]
    category: Sequence[str | None]
    brand: Sequence[str | None]


@dataclass(frozen=True)
class Compiled:
    """Rules at one cutoff.  rules: None if none does anything.  n_in_force: rules that do something to lists.

    without_items: ids of rules in force whose target no item has, in the order of their bytes.
    """

    rules: Rules | None
    n_in_force: int
    without_items: tuple[str, ...]


def parse_rules(rows: Iterable[Mapping[str, Any]], where: str) -> tuple[Rule, ...]:
    """The rules of rows, by rule_id; raises ConfigError with every fault of every row.

    rows: by the names of the fields of `Rule`; a missing value is absent, None or blank.  Numbers and times may be
    text, times in ISO 8601 with a zone.  where: what errors call the place, such as a file.
    """
    rules: dict[str, Rule] = {}
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        given = {name: value for name, value in row.items() if not _is_blank(value)}
        rule_id = given.get("rule_id")
        place = f"{where} row {number}" + (f" rule_id={str(rule_id)[:60]}" if rule_id is not None else "")
        rule, found = _parse(given)
        if rule is not None and rule.rule_id in rules:
            found = ["rule_id: expected one row per rule, got a second; give it an id of its own"]
        faults += [f"{place} {fault}" for fault in found]
        if rule is not None and not found:
            rules[rule.rule_id] = rule
    if faults:
        raise ConfigError("\n".join(faults))
    return tuple(rules[rule_id] for rule_id in sorted(rules))


def in_force(rules: Iterable[Rule], cutoff: datetime) -> tuple[Rule, ...]:
    """The rules with starts_at <= cutoff < ends_at, in their order."""
    return tuple(
        rule
        for rule in rules
        if (rule.starts_at is None or rule.starts_at <= cutoff) and (rule.ends_at is None or cutoff < rule.ends_at)
    )


def compile_rules(rules: Sequence[Rule], catalogue: Catalogue, cutoff: datetime) -> Compiled:
    """The rules in force at `cutoff`, by item.  rules: as `parse_rules` gives them, each id once."""
    active = sorted(in_force(rules, cutoff), key=lambda rule: rule.rule_id)
    windows = [rule for rule in rules if rule.kind == "available"]
    acting = [rule for rule in active if rule.kind != "available"]
    items = _items_of([*acting, *windows], catalogue)
    named = {rule.segment for rule in (*acting, *windows) if rule.segment is not None}
    segments = tuple(sorted(named))
    audience_of: dict[str | None, int] = {None: EVERYBODY, **{name: at for at, name in enumerate(segments, start=1)}}
    cells = {rule: _cells(audience_of[rule.segment], items[rule.target]) for rule in (*acting, *windows)}
    open_now = _union(cells[rule] for rule in active if rule.kind == "available")
    shut = np.setdiff1d(_union(cells[rule] for rule in windows), open_now)
    restricted = np.zeros(len(segments) + 1, bool)
    restricted[[audience_of[rule.segment] for rule in acting if rule.kind == "allow"]] = True
    compiled = Rules(
        rule_ids=tuple(rule.rule_id for rule in acting),
        segments=segments,
        blocked=_union([shut, *(cells[rule] for rule in acting if rule.kind == "block")]),
        allowed=_union(cells[rule] for rule in acting if rule.kind == "allow"),
        restricted=restricted,
        boosts=_effects("boost", acting, cells),
        pins=_effects("pin", acting, cells),
    )
    without = tuple(rule.rule_id for rule in active if not len(items[rule.target]))
    return Compiled(compiled if acting or len(shut) else None, len(active), without)


_FIELDS = tuple(one.name for one in fields(Rule))
_TEXTS = ("rule_id", "kind", *TARGETS, "segment", "reason")
_TIMES = ("starts_at", "ends_at")


def _is_blank(value: Any) -> bool:
    """None, blank text, and NaN, which is what data frames have for a missing number."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def _parse(given: Mapping[str, Any]) -> tuple[Rule | None, list[str]]:
    """The rule of the values that a row gives and its faults; None if not even its values can be read."""
    faults = [
        f"{str(name)[:60]}: expected a known field, got one of another name; known are {', '.join(_FIELDS)}"
        for name in given
        if name not in _FIELDS
    ]
    values: dict[str, Any] = {}
    for name in _FIELDS:
        if name in given:
            try:
                values[name] = _value_of(name, given[name])
            except ValueError as err:
                faults.append(f"{name}: expected {err}, got {_said(given[name])}; correct it")
    faults += [f"{name}: expected a value, got none; add it" for name in ("rule_id", "kind") if name not in given]
    if faults:
        return None, faults
    rule = Rule(**values)
    return rule, _faults_of(rule)


def _value_of(name: str, value: Any) -> Any:
    """The value of a field in its type; ValueError says what was expected."""
    if name in _TEXTS:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError("text")
        return str(value).strip()  # a blank that nobody sees would make a rule for nothing
    if name in _TIMES:
        return _time_of(value)
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if name == "factor":
        if not 0 < number <= MAX_FACTOR:
            raise ValueError(f"a number above 0, at most {MAX_FACTOR:g}")
        return number
    if not (1 <= number <= _MAX_POSITION and number.is_integer()):
        raise ValueError("a whole number from 1")
    return int(number)


def _time_of(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        time = None
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise ValueError("a time with a zone such as 2025-01-31T00:00:00Z")
    return time


def _faults_of(rule: Rule) -> list[str]:
    """What the fields of a rule have against each other."""
    faults = []
    if rule.kind not in KINDS:
        faults.append(f"kind: expected one of {', '.join(KINDS)}, got {_said(rule.kind)}; correct it")
    targets = [name for name in TARGETS if getattr(rule, name) is not None]
    if len(targets) != 1:
        got = " and ".join(targets) or "none"
        faults.append(f"target: expected one of {', '.join(TARGETS)}, got {got}; write one rule for each target")
    elif rule.kind == "pin" and targets != ["item_id"]:
        faults.append(f"target: expected item_id for a pin, got {targets[0]}; boost the {targets[0]}, or pin its items")
    for name, kind in (("position", "pin"), ("factor", "boost")):
        value = getattr(rule, name)
        if rule.kind == kind and value is None:
            faults.append(f"{name}: expected a value for a {kind}, got none; add it")
        elif rule.kind in KINDS and rule.kind != kind and value is not None:
            faults.append(f"{name}: expected none for kind {rule.kind}, got {value}; take it out, or write a {kind}")
    if rule.starts_at and rule.ends_at and rule.ends_at <= rule.starts_at:
        got = f"{rule.starts_at.isoformat()} and {rule.ends_at.isoformat()}"
        faults.append(f"ends_at: expected a time after starts_at, got {got}; correct one of them")
    if rule.kind == "available" and rule.starts_at is None and rule.ends_at is None:
        faults.append("starts_at: expected starts_at or ends_at for kind available, got none; a window has an end")
    return faults


def _said(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else shown(value)


def _items_of(rules: Iterable[Rule], catalogue: Catalogue) -> dict[tuple[str, str], np.ndarray]:
    """item_idx of the items of every target of `rules`, int32, empty for one that no item has."""
    found: dict[tuple[str, str], list[int]] = {rule.target: [] for rule in rules}
    for name in {name for name, _ in found}:
        for at, value in enumerate(getattr(catalogue, name)):
            places = found.get((name, value))
            if places is not None:
                places.append(at)
    return {target: catalogue.item_idx[np.array(places, np.int64)] for target, places in found.items()}


def _cells(audience: int, items: np.ndarray) -> np.ndarray:
    return cells_of(np.full(len(items), audience), items)


def _union(cells: Iterable[np.ndarray]) -> np.ndarray:
    """All cells, int64, ascending, each once."""
    union: np.ndarray = np.unique(np.concatenate([np.zeros(0, np.int64), *cells]))
    return union


def _effects(kind: str, acting: Sequence[Rule], cells: Mapping[Rule, np.ndarray]) -> Effects:
    """What the rules of one kind do; their numbers are their places in `acting`."""
    chosen = [(at, rule) for at, rule in enumerate(acting) if rule.kind == kind]
    lengths = [len(cells[rule]) for _, rule in chosen]
    laid = np.concatenate([np.zeros(0, np.int64), *(cells[rule] for _, rule in chosen)])
    return Effects(
        audiences=(laid >> ITEM_BITS).astype(np.int32),
        items=(laid & ((1 << ITEM_BITS) - 1)).astype(np.int32),
        rules=np.repeat(np.array([at for at, _ in chosen], np.int32), lengths),
        values=np.repeat(np.array([rule.factor or rule.position for _, rule in chosen], np.float64), lengths),
    )
