"""Removal of rows of a run and of files that no table names any more, through delta-rs.

Owns: the two deletions of the product.  Called by `gc` under the lock.
"""

from pathlib import Path

from deltalake import DeltaTable

from recsys_spark.tables.contract import Table
from recsys_spark.tables.ledger import table_path
from recsys_spark.tables.run_id import check_run_id


def delete_run(root: Path | str, table: Table, run_id: str) -> None:
    """Drops the partition of `run_id` in one commit; its files stay until `vacuum`."""
    DeltaTable(table_path(root, table.name)).delete(f"run_id = '{check_run_id(run_id)}'")


def vacuum(root: Path | str, table: Table, unused_for_hours: int) -> int:
    """Deletes files that left the table, or were never committed, more than this many hours ago; how many."""
    stored = DeltaTable(table_path(root, table.name))
    removed = stored.vacuum(
        retention_hours=unused_for_hours, dry_run=False, enforce_retention_duration=False, full=True
    )
    return len(removed)
