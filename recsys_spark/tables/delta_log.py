"""What a Delta log says about a table without reading a row: its newest version, its days, its files.

Owns: reads of table state through delta-rs, no JVM.  Called by the run ledger, the runner's opening checks and gc.
"""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from recsys_spark.tables.ledger import table_path
from recsys_spark.tables.run_id import check_run_id


def last_version(root: Path | str, name: str) -> int:
    """Newest Delta version of the table."""
    return int(DeltaTable(table_path(root, name)).version())


def days_with_rows(root: Path | str, name: str) -> list[date]:
    """The days of a table that is partitioned by `ds`, ascending."""
    partitions = DeltaTable(table_path(root, name)).partitions()
    return sorted({date.fromisoformat(str(partition["ds"])) for partition in partitions})


def runs_with_rows(root: Path | str, name: str) -> set[str]:
    """The runs that have rows in a table that is partitioned by `run_id`."""
    return {str(partition["run_id"]) for partition in DeltaTable(table_path(root, name)).partitions()}


def count_rows(root: Path | str, name: str, run_id: str) -> int:
    """Rows of a run by the statistics of the log's files."""
    actions = DeltaTable(table_path(root, name)).get_add_actions(flatten=True)
    frame = pa.table(actions)
    mine = frame.filter(pc.equal(frame["partition.run_id"], check_run_id(run_id)))
    return int(pc.sum(mine["num_records"]).as_py() or 0)
