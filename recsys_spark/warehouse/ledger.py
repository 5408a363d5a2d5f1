"""Append-only ledgers, and creation of all tables, by delta-rs: no JVM, and a commit that fails if it lost a race.

Owns: every write to tables of the family `ledger`; creation of all tables.  Spark writes the rows of data tables
(`spark_tables`).  Reason of the split: delta-rs creates a table in about 0.04 s where Spark takes 1 s or more, and its
local commit is an exclusive create, where Hadoop's rename on a local folder can lose one of two commits.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recsys_spark.errors import EnvironmentFault, LockedError
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.delta_rs import open_delta, read_whole, table_path
from recsys_spark.warehouse.location import Location, answering, delta_options, store_fault
from recsys_spark.warehouse.run_files import open_table
from recsys_spark.warehouse.tables import AUDITS, RUN_STEPS

# delta-rs and DuckDB read what is published: neither deletion vectors nor column mapping may ever be on.
_PROPERTIES = {"delta.enableDeletionVectors": "false", "delta.columnMapping.mode": "none"}


def create_tables(root: Location, tables: Iterable[Table]) -> None:
    """Creates the missing ones of `tables`, with comments, NOT NULL and CHECKs.

    Raises EnvironmentFault if it cannot, or if an existing table lacks columns: nothing migrates it silently.
    """
    try:
        for table in tables:
            _create(table_path(root, table.name), table)
    except (OSError, DeltaError) as err:
        cause = " ".join(str(err).split())  # delta-rs writes several lines
        raise store_fault(root, err) or EnvironmentFault(
            f"[storage] root: expected a folder that can be written, got {root} ({cause}); "
            "give another with --set storage.root=..., or change its rights"
        ) from err


def _create(path: Location, table: Table) -> None:
    """Creates the table, or adds the checks that a kill between the two commits left out."""
    created = DeltaTable.create(
        str(path),
        storage_options=delta_options(path),
        schema=arrow_schema(table),
        mode="ignore",
        partition_by=list(table.partition_by) or None,
        name=table.name,
        description=table.doc,
        configuration=_PROPERTIES,
    )
    _check_columns(path, table, created)
    known = created.metadata().configuration
    checks = {f"{column.name}_valid": column.check for column in table.columns if column.check}
    missing = {name: check for name, check in checks.items() if f"delta.constraints.{name}" not in known}
    if missing:
        created.alter.add_constraint(missing)


def _check_columns(path: Location, table: Table, stored: DeltaTable) -> None:
    found = {field.name for field in stored.schema().fields}
    if lacking := [name for name in table.names if name not in found]:
        raise EnvironmentFault(
            f"{path}: expected the columns of this version, found none called {', '.join(lacking)}; another version "
            "made this warehouse: give a new one with --set storage.root=..., and the logs are taken in again"
        )


def stored_tables(root: Location, tables: Iterable[Table], needed: Collection[str]) -> list[Table]:
    """Those of `tables` that exist; missing ones are not created: an older warehouse may lack one.

    needed: names of those that must exist.  Raises DamagedError for a table without a readable log, and
    EnvironmentFault for one that lacks columns.
    """
    found = []
    for table in tables:
        path = table_path(root, table.name)
        if table.name in needed or path.exists():
            _check_columns(path, table, open_table(path, table.name))
            found.append(table)
    return found


def append_rows(root: Location, table: Table, rows: list[dict[str, Any]], at_version: int | None = None) -> int:
    """Appends `rows` in one commit and returns the table's new version.

    at_version: the commit succeeds only on top of this version, otherwise LockedError: another writer came first.
    """
    path = table_path(root, table.name)
    stored = open_delta(path, at_version)
    frame = pa.Table.from_pylist(rows, schema=arrow_schema(table))
    properties = CommitProperties(max_commit_retries=0 if at_version is not None else 3)
    try:
        with answering(path):
            write_deltalake(stored, frame, mode="append", commit_properties=properties)
    except CommitFailedError as err:
        raise LockedError(
            f"{table.name}: expected to commit on version {stored.version()}, got another writer's commit; "
            "look at `recsys-spark status`, then run the command again"
        ) from err
    return int(open_delta(path).version())


def read_rows(
    root: Location,
    table: Table,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """The rows of a ledger, [] if it does not exist; timestamps are datetimes in UTC, maps are dicts.

    columns: what to read, None for all.  filters: (column, comparison, value) that all must hold.
    """
    named, held = list(columns) if columns else None, list(filters) if filters else None
    try:
        frame = read_whole(table_path(root, table.name), named, held)
    except TableNotFoundError:
        return []
    rows: list[dict[str, Any]] = frame.to_pylist(maps_as_pydicts="strict")
    return rows


def steps_of(root: Location, run_id: str) -> dict[str, dict[str, Any]]:
    """The completed steps of a run by name; of a step that was run again, the newest row counts."""
    return _newest(root, RUN_STEPS, run_id, "step")


def gates_of(root: Location, run_id: str) -> dict[str, dict[str, Any]]:
    """The newest verdict of every gate on a run, by name."""
    return _newest(root, AUDITS, run_id, "gate")


def _newest(root: Location, table: Table, run_id: str, key: str) -> dict[str, dict[str, Any]]:
    """The newest row of a run for every value of `key`."""
    rows = [row for row in read_rows(root, table) if row["run_id"] == run_id]
    return {row[key]: row for row in sorted(rows, key=lambda row: row["recorded_at"])}
