"""Writer of the Parquet files of one run of one table: tasks write the rows that they hold, one commit lists the files.

Owns: the bytes of these files, and what the Delta log says of them.  Spark's own Delta writer queries the table's log
by several jobs before and after each write, which took longer than the rows of a small day; here a write is one job,
and delta-rs commits.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from recsys_spark.errors import ContractError
from recsys_spark.warehouse.arrow import arrow_schema, form_of
from recsys_spark.warehouse.contract import Table
from recsys_spark.warehouse.delta_rs import open_delta
from recsys_spark.warehouse.location import Location, arrow_files
from recsys_spark.warehouse.run_files import list_run

Batches = Iterator[pa.RecordBatch]
Maker = Callable[[Batches, Counter[str]], Batches]

# One row for each file: its entry in the log, and what the maker of its rows counted.
WRITTEN_SCHEMA = "path string, n_bytes long, n_rows long, stats string, counts map<string, long>"

_ROW_GROUP_BYTES = 64 << 20


def write_rows(folder: Location, table: Table, run_id: str, make: Maker) -> Callable[[Batches], Batches]:
    """The function for `mapInArrow` that writes what `make` makes of a task's batches, as one file of `run_id`.

    It returns one row in WRITTEN_SCHEMA, with n_rows 0 and no file if there was nothing to write.  Every attempt of a
    task writes a file of another name: one that failed or came second leaves a file that is in no log, and `gc` removes
    it.  Raises ContractError if a batch has other columns than `table`.
    """
    expected = {field.name: form_of(field.type) for field in arrow_schema(table) if field.name != "run_id"}

    def write_batches(batches: Batches) -> Batches:
        counts: Counter[str] = Counter()
        with _new_file(folder, table, run_id) as file:
            for batch in make(batches, counts):
                _check_columns(batch, expected, table.name)
                file.add(batch)
        yield pa.RecordBatch.from_pylist([file.row() | {"counts": list(counts.items())}], schema=_WRITTEN)

    return write_batches


def commit_files(folder: Location, table: Table, run_id: str, written: Iterable[dict[str, Any]]) -> None:
    """Makes `written`, rows in WRITTEN_SCHEMA, the files of the run; they replace those that the log listed before.

    The caller holds the lock of the warehouse.
    """
    now = int(time.time() * 1000)
    added: list[AddAction | RemoveAction] = [
        AddAction(row["path"], row["n_bytes"], {"run_id": run_id}, now, True, row["stats"])
        for row in written
        if row["n_rows"]
    ]
    replaced = bool(list_run(folder, table.name, run_id, None).files)
    if added or replaced:
        stored = open_delta(folder)
        stored.create_write_transaction(
            added,
            "overwrite" if replaced else "append",
            stored.schema(),
            list(table.partition_by),
            [("run_id", "=", run_id)] if replaced else None,
        )


_WRITTEN = pa.schema(
    [
        ("path", pa.string()),
        ("n_bytes", pa.int64()),
        ("n_rows", pa.int64()),
        ("stats", pa.string()),
        ("counts", pa.map_(pa.string(), pa.int64())),
    ]
)


class _NewFile:
    """A file while it is written, in row groups of about the size that `table` asks for."""

    def __init__(self, folder: Location, rel_path: str, table: Table) -> None:
        self.path, self._rel_path, self._table = folder / rel_path, rel_path, table
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._n_bytes = 0  # of the pending batches
        self._n_rows = 0
        self._bounds: dict[str, tuple[Any, Any]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes the rows of `batch`; writes row groups as they fill."""
        if not batch.num_rows:
            return
        self._n_rows += batch.num_rows
        for name in self._table.sort_by:
            values = batch[name].drop_null()  # a null breaks the contract, which the caller's check will report
            if len(values):
                low, high = pc.min_max(values).as_py().values()
                held = self._bounds.get(name, (low, high))
                self._bounds[name] = (min(low, held[0]), max(high, held[1]))
        self._pending.append(batch)
        self._n_bytes += batch.nbytes
        if self._n_bytes >= self._group_bytes:
            self._write_pending(is_last=False)

    def close(self) -> None:
        """Writes what is left, and the footer."""
        if self._pending:
            self._write_pending(is_last=True)
        if self._writer is not None:
            self._writer.close()

    def row(self) -> dict[str, Any]:
        """The row of WRITTEN_SCHEMA for the file, without counts."""
        stats = {
            "numRecords": self._n_rows,
            "minValues": {name: low for name, (low, _) in self._bounds.items()},
            "maxValues": {name: high for name, (_, high) in self._bounds.items()},
        }
        n_bytes = self.path.stat().st_size if self._n_rows else 0
        return {"path": self._rel_path, "n_bytes": n_bytes, "n_rows": self._n_rows, "stats": json.dumps(stats)}

    @property
    def _group_bytes(self) -> int:
        return self._table.row_group_bytes or _ROW_GROUP_BYTES

    def _write_pending(self, is_last: bool) -> None:
        """Writes the row groups that are full, and with the last rows also one that is not."""
        rows = pa.Table.from_batches(self._pending)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files, key = arrow_files(self.path)
            self._writer = pq.ParquetWriter(
                key,
                rows.schema,
                filesystem=files,
                store_schema=False,
                write_page_checksum=True,  # there are no checksum files as Hadoop writes
                # Scores and vectors hardly repeat: the writer would start a dictionary of them, and give it up.
                use_dictionary=[path for path, kind in _leaves(rows.schema) if not pa.types.is_floating(kind)],
            )
        per_group = max(1, rows.num_rows * self._group_bytes // max(1, rows.nbytes))
        n_written = rows.num_rows if is_last else max(1, rows.num_rows // per_group) * per_group
        self._writer.write_table(rows.slice(0, n_written), row_group_size=per_group)
        self._pending = rows.slice(n_written).to_batches()
        self._n_bytes = sum(batch.nbytes for batch in self._pending)


@contextmanager
def _new_file(folder: Location, table: Table, run_id: str) -> Iterator[_NewFile]:
    """A file that is whole after the block, or gone if the block raises."""
    file = _NewFile(folder, f"run_id={run_id}/part-{uuid4().hex}.parquet", table)
    try:
        yield file
        file.close()
    except BaseException:
        file.path.unlink(missing_ok=True)
        raise


def _leaves(fields: Iterable[pa.Field], parent: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """The paths of all columns as Parquet names them, with their types."""
    for field in fields:
        path, kind = f"{parent}{field.name}", field.type
        if pa.types.is_list(kind):
            yield from _leaves([kind.value_field.with_name("element")], f"{path}.list.")
        elif pa.types.is_map(kind):
            yield from _leaves(
                [kind.key_field.with_name("key"), kind.item_field.with_name("value")], f"{path}.key_value."
            )
        elif pa.types.is_struct(kind):
            yield from _leaves(kind, f"{path}.")
        else:
            yield path, kind


def _check_columns(batch: pa.RecordBatch, expected: dict[str, str], name: str) -> None:
    found = {field.name: form_of(field.type) for field in batch.schema}
    if list(found.items()) != list(expected.items()):
        raise ContractError(
            f"{name}: expected the columns {expected}, got {found}; correct the step that writes it, or "
            "recsys_spark/warehouse/tables.py"
        )
