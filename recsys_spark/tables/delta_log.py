"""What a Delta log says about a table without reading a row: its newest version, its days, its files.

Owns: reads of table state through delta-rs, no JVM.  Called by the run ledger, the runner's opening checks and gc.
"""

from datetime import date

from recsys_spark.location import Location
from recsys_spark.tables.delta_rs import open_delta, table_path
from recsys_spark.tables.run_files import open_table


def last_version(root: Location, name: str) -> int:
    """Newest Delta version of the table; DamagedError if its log cannot be read."""
    return int(open_table(table_path(root, name), name).version())


def days_with_rows(root: Location, name: str) -> list[date]:
    """The days of a table that is partitioned by `ds`, ascending."""
    partitions = open_delta(table_path(root, name)).partitions()
    return sorted({date.fromisoformat(str(partition["ds"])) for partition in partitions})


def runs_with_rows(root: Location, name: str) -> set[str]:
    """The runs that have rows in a table that is partitioned by `run_id`."""
    return {str(partition["run_id"]) for partition in open_delta(table_path(root, name)).partitions()}
