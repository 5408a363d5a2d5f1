"""Removal of rows of a run and of files that no table names any more, through delta-rs.

Owns: the two deletions of the product.  Called by `gc` under the lock.
"""

from recsys_spark.location import Location
from recsys_spark.tables.contract import Table
from recsys_spark.tables.delta_rs import open_delta, table_path
from recsys_spark.tables.run_id import check_run_id


def delete_run(root: Location, table: Table, run_id: str) -> None:
    """Drops the partition of `run_id` in one commit; its files stay until `vacuum`."""
    open_delta(table_path(root, table.name)).delete(f"run_id = '{check_run_id(run_id)}'")


def vacuum(root: Location, table: Table, unused_for_hours: int) -> int:
    """Deletes files that left the table, or were never committed, more than this many hours ago; how many."""
    stored = open_delta(table_path(root, table.name))
    removed = stored.vacuum(
        retention_hours=unused_for_hours, dry_run=False, enforce_retention_duration=False, full=True
    )
    return len(removed)
