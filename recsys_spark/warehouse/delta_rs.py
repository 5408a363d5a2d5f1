"""Delta tables by delta-rs, without a JVM, on a folder or an object store: opened, read whole, cleaned up.

Owns: what delta-rs and Arrow are told of the store, how a small table is read, and the removal of a run's rows and of
files that no table names any more.
"""

from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow.fs import SubTreeFileSystem

from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.location import Location, answering, arrow_files, delta_options
from recsys_spark.warehouse.run_id import check_run_id


def table_path(root: Location, name: str) -> Location:
    """Where the table called `name` is stored."""
    return root.absolute() / "tables" / name


def open_delta(place: Location, version: int | None = None) -> DeltaTable:
    """The table at `version`, by default its newest; raises StoreFault, or else what delta-rs raises."""
    with answering(place):
        return DeltaTable(str(place), version=version, storage_options=delta_options(place))


def read_whole(
    place: Location,
    columns: list[str] | None = None,
    filters: list[tuple[str, str, Any]] | None = None,
    stored: DeltaTable | None = None,
) -> pa.Table:
    """Rows of a small table, of all runs; raises StoreFault, or else what delta-rs raises.

    columns: what to read, None for all.  filters: (column, comparison, value) that all must hold.  stored: the
    opened table, None for its newest version.
    The files are read through Arrow's own file system.  Through delta-rs's, which calls Python, a thread of Arrow may
    still be closing a file when the interpreter ends, and the process aborts after its work is done: 29 of 150
    processes on two busy cores (https://github.com/apache/arrow/issues/34314), and none this way.
    """
    files, key = arrow_files(place)
    stored = stored or open_delta(place)
    with answering(place):
        return stored.to_pyarrow_table(columns=columns, filters=filters, filesystem=SubTreeFileSystem(key, files))


def delete_run(root: Location, table: Table, run_id: str) -> None:
    """Drops the partition of `run_id` in one commit; its files stay until `vacuum`."""
    open_delta(table_path(root, table.name)).delete(f"run_id = '{check_run_id(run_id)}'")


def vacuum(root: Location, table: Table, unused_for_hours: int) -> int:
    """Deletes files that left the table, or were never committed, more than this many hours ago; returns how many."""
    stored = open_delta(table_path(root, table.name))
    removed = stored.vacuum(
        retention_hours=unused_for_hours, dry_run=False, enforce_retention_duration=False, full=True
    )
    return len(removed)
