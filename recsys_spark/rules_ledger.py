"""Sets of rules as they were taken in: which is in force on which date, and how a file becomes one.

Owns: the table `rules`.  Called by the commands `recsys-spark rules ...`, and by the runner, which gives a run the set
of its date; needs no Spark.  A set replaces the whole one before it from its date on.  Nothing is deleted: a date that
is run again finds the rules that it had, unless a set was taken in for it since.
"""

import csv
import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from recsys_spark.errors import ArgumentError
from recsys_spark.rule_set import Rule, parse_rules
from recsys_spark.warehouse.ledger import append_rows, read_rows
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.tables import RULES

_OF_SETS = ("valid_from", "recorded_at")

_MAX_BYTES = 64 << 20  # a million rules; they are sent to every worker


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
    """The set of a date and its id: the newest whose valid_from is not after it; ("", ()) if there is none.

    known_at: sets that were taken in later do not count.
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
    """The rows of a file as they stand there."""
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
