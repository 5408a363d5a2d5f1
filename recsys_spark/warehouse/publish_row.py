"""Rows of `publishes`: their canonical hash, what makes them valid, and which row is the head.

Owns: the form of these rows, which alone decide what is current, as pure functions; it reads nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

from recsys_spark.errors import ArgumentError, ContractError, DamagedError
from recsys_spark.warehouse.location import RELATIVE_PATH
from recsys_spark.warehouse.run_id import check_run_id
from recsys_spark.warehouse.tables import PUBLISHES, TABLES


def restore(name: str) -> str:
    """The advice on a table that is damaged beyond one run."""
    return f"restore the table {name} from a copy of the warehouse"


_REPAIR = restore(PUBLISHES.name)


@dataclass(frozen=True)
class PublishedTable:
    """One table of a bundle, as the audit saw it in storage."""

    name: str
    rel_path: str
    delta_version: int
    n_rows: int
    content_hash: str
    schema_hash: str


@dataclass(frozen=True)
class PublishRow:
    """One checked row of `publishes`; fields as in the table's contract."""

    publish_seq: int
    kind: str
    run_id: str
    data_date: date
    prev_seq: int
    tables: tuple[PublishedTable, ...]
    config_hash: str
    code_version: str
    grace_hours: int
    published_at: datetime
    row_sha256: str

    def as_row(self) -> dict[str, Any]:
        """The row as the table stores it."""
        return asdict(self) | {"tables": [asdict(table) for table in self.tables]}


def seal_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `publishes` made of `fields` and their hash; ContractError names missing and unexpected fields.

    fields: every column except row_sha256.
    """
    expected = set(PUBLISHES.names) - {"row_sha256"}
    if set(fields) != expected:
        raise ContractError(
            f"publishes: expected the fields {sorted(expected)}, got missing {sorted(expected - set(fields))} and "
            f"unexpected {sorted(set(fields) - expected)}; give each column of the contract once"
        )
    return {**fields, "row_sha256": row_sha256(fields)}


def row_sha256(row: Mapping[str, Any]) -> str:
    """SHA-256 in hex over all fields of a publish row except `row_sha256`.

    Canonical form: JSON with sorted keys, ASCII, no blanks; days as ISO, times as ISO in UTC with microseconds.  Null
    fields are left out, so that a nullable column added later does not change the hashes of old rows.
    """
    fields = {name: value for name, value in row.items() if name != "row_sha256" and value is not None}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_canonical_time)
    return sha256(text.encode("ascii")).hexdigest()


def _canonical_time(value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ContractError(f"publishes: expected times with a zone, got {value.isoformat()}; give them in UTC")
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    raise ContractError(f"publishes: expected text, numbers, days and times, got {type(value).__name__}")


def parse_row(row: Mapping[str, Any]) -> PublishRow:
    """The checked row; DamagedError names every fault: hash, run id, paths that leave the warehouse, unknown tables."""
    where = f"publishes publish_seq={row.get('publish_seq')}"
    found = row_sha256(row)
    if found != row.get("row_sha256"):
        raise DamagedError(f"{where}: expected row_sha256 {row.get('row_sha256')}, got {found}; {_REPAIR}")
    if faults := _faults(row):
        raise DamagedError(f"{where}: expected a valid row, got {'; '.join(faults)}; {_REPAIR}")
    fields = {name: row[name] for name in PUBLISHES.names}
    return PublishRow(**fields | {"tables": tuple(PublishedTable(**table) for table in row["tables"])})


def _faults(row: Mapping[str, Any]) -> list[str]:
    names = [table["name"] for table in row["tables"]]
    faults = [f"unknown table {name!r}" for name in names if name not in TABLES or TABLES[name].family != "bundle"]
    faults += [f"table {name!r} twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for table in row["tables"]:
        if not RELATIVE_PATH.fullmatch(table["rel_path"]):
            faults.append(f"table {table['name']!r} at {table['rel_path'][:80]!r}, not a path inside the warehouse")
    try:
        check_run_id(row["run_id"])
    except ArgumentError as err:
        faults.append(str(err))
    return faults


def check_history(rows: Iterable[Mapping[str, Any]]) -> tuple[PublishRow, ...]:
    """All rows of `publishes`, checked and in order; the last one is the head.

    Raises DamagedError if any row does not match its hash, if publish_seq is not 1, 2, 3, ..., or if prev_seq is not
    that of the row before.  A rollback may name a run that was completed after one of a later date.
    """
    history = tuple(sorted((parse_row(row) for row in rows), key=lambda row: row.publish_seq))
    check_sequence(row.publish_seq for row in history)
    for row in history:
        if row.prev_seq != row.publish_seq - 1:
            raise DamagedError(
                f"publishes publish_seq={row.publish_seq}: expected prev_seq {row.publish_seq - 1}, "
                f"got {row.prev_seq}; {_REPAIR}"
            )
    return history


def check_sequence(seqs: Iterable[int]) -> None:
    """Raises DamagedError unless `seqs`, in any order, are 1, 2, 3, ... without gap or repetition."""
    found = sorted(seqs)
    for expected, seq in enumerate(found, start=1):
        if seq != expected:
            raise DamagedError(
                f"publishes: expected publish_seq {expected}, got {seq}; a row is lost or twice; {_REPAIR}"
            )
