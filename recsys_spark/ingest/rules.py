"""Business rules as data: rows are checked, sets of rules are stored, and those in force on a date are read.

Owns: what a row of a rule may hold, when a rule is in force, which set holds on which date, and how a file becomes a
set.  Which items a rule means is in `blend.compile_rules`; what rules do to lists, and which of two decides, in
`blend.kernels.rules`.

A rule names one target (item_id, category or brand), for users of one segment or for everybody, and a time: it is in
force at a cutoff with starts_at <= cutoff < ends_at, where an open end sets no bound.  The cutoff is a run's, so a rule
that ends within the day acts until the next run.  Kinds:

block      the target is not listed
allow      what no allow rule names is not listed
boost      fused scores of the target are multiplied by factor
pin        the item stands at position
available  the target is listed within the window alone; of several windows for one item and segment one is enough
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from recsys_spark.errors import ArgumentError, ConfigError
from recsys_spark.ingest.values import shown
from recsys_spark.warehouse.ledger import append_rows, read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import RULES

KINDS = ("block", "allow", "boost", "pin", "available")
TARGETS = ("item_id", "category", "brand")

# Two lists of weight 1 that agree on rank 1 have a fused score of 1 / 30; a boosted score is at most 64.
MAX_FACTOR = 1000.0
_MAX_POSITION = 2**31 - 1  # provenance has int32


_TEXTS = ("rule_id", "kind", *TARGETS, "segment", "reason")
_TIMES = ("starts_at", "ends_at")
_OF_SETS = ("valid_from", "recorded_at")
_MAX_BYTES = 64 << 20  # a million rules; they are sent to every worker


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


_FIELDS = tuple(one.name for one in fields(Rule))


def _is_blank(value: Any) -> bool:
    """Whether a value is None, blank text, or NaN, which data frames have for a missing number."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def _parse(given: Mapping[str, Any]) -> tuple[Rule | None, list[str]]:
    """The rule of the values of a row, and its faults; None if its values cannot be read."""
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
        return str(value).strip()  # with an invisible blank a rule would match nothing
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
    """Faults of the fields of a rule against each other."""
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


def take_in_rules(root: Location, path: Path, valid_from: date) -> int:
    """Records the rules of a file as the set from `valid_from` on, and returns how many there are.

    path: .csv with a header, or .jsonl; columns as the fields of `Rule`.  A file without a row ends all rules.
    Raises ArgumentError if the file cannot be read, ConfigError with every fault of every row.
    """
    rules = parse_rules(_rows(path), str(path))
    values = [asdict(rule) for rule in rules]
    text = json.dumps(values, default=str, sort_keys=True)
    row = {"set_id": sha256(text.encode()).hexdigest()[:16], "valid_from": valid_from, "recorded_at": datetime.now(UTC)}
    nothing = dict.fromkeys(name for name in RULES.names if name not in row)
    append_rows(root, RULES, [nothing | row | value for value in values or [{}]])
    return len(rules)


def rules_of(root: Location, day: date, known_at: datetime | None = None) -> tuple[str, tuple[Rule, ...]]:
    """The id and the rules of the set of a date: the newest whose valid_from is not after it; ("", ()) without one.

    known_at: sets that were recorded later do not count.
    """
    sets = read_rows(root, RULES, _OF_SETS, [("valid_from", "<=", day)])
    sets = [row for row in sets if known_at is None or row["recorded_at"] <= known_at]
    if not sets:
        return "", ()
    newest = max((row["valid_from"], row["recorded_at"]) for row in sets)
    rows = read_rows(root, RULES, filters=[(name, "=", value) for name, value in zip(_OF_SETS, newest, strict=True)])
    fields = Rule.__dataclass_fields__
    rules = [{name: row[name] for name in fields} for row in rows if row["rule_id"] is not None]
    return rows[0]["set_id"], parse_rules(rules, "table rules")


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, unchecked."""
    where = f"{path}: expected rules as .csv or .jsonl"
    if path.suffix not in (".csv", ".jsonl"):
        raise ArgumentError(f"{where}, got {path.suffix or 'no ending'!r}; rename or convert it")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ArgumentError(f"{where} of at most {_MAX_BYTES} bytes, got {path.stat().st_size}; keep fewer rules")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise ArgumentError(f"{where} in UTF-8, got {err}; correct the path or the file") from err
    if path.suffix == ".csv":
        return list(csv.DictReader(StringIO(text, newline=""), restkey="further columns"))
    return [_object(line, f"{path} line {number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise ArgumentError(f"{place}: expected one JSON object, got {line[:60]!r} ({err}); correct the line") from err
    if not isinstance(value, dict):
        raise ArgumentError(f"{place}: expected one JSON object, got {line[:60]!r}; correct the line")
    return value
