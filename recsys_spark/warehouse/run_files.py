"""Parquet files of one run of one table, as the Delta log lists them, and checks that they are whole.

Owns: the reader's view of a table without reading a row: paths, row counts, the bounds of the sort column, the newest
version, the days and runs that have rows.  By delta-rs alone, without a JVM.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from recsys_spark.errors import BundleExpired, DamagedError, RecsysError, StoreFault
from recsys_spark.warehouse.arrow import form_of
from recsys_spark.warehouse.delta_rs import open_delta, read_whole, table_path
from recsys_spark.warehouse.location import Location, inside, parquet_source, store_fault
from recsys_spark.warehouse.publish_row import PublishedTable, restore
from recsys_spark.warehouse.tables import TABLES

_ROLL_BACK = "go back to a whole bundle with `recsys-spark rollback`, or run the date again"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a run.

    low, high: bounds of the sort column in the log, None if it has none.  Writers cut long texts: `low` may be a prefix
    of the smallest value, and `high` a prefix of the greatest.
    """

    rel_path: str
    size_bytes: int
    n_rows: int
    low: str | None
    high: str | None


@dataclass(frozen=True)
class RunFiles:
    """The files of one run of one table, and the table's columns without `run_id`; run_id None: the whole table."""

    name: str
    folder: Location
    run_id: str | None
    schema: pa.Schema
    files: tuple[DataFile, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the run according to the log."""
        return sum(file.n_rows for file in self.files)

    @property
    def where(self) -> str:
        """The name of the run of the table in errors."""
        return self.name if self.run_id is None else f"{self.name} run_id={self.run_id}"

    def checked_path(self, file: DataFile) -> Location:
        """Where `file` is; DamagedError if it has another size than the log says, BundleExpired if it is gone."""
        path = inside(self.folder, file.rel_path, self.name)
        try:
            found = path.stat().st_size
        except FileNotFoundError as err:
            raise self.missing(file) from err
        if found != file.size_bytes:
            raise self.damaged(file, f"expected {file.size_bytes} bytes, got {found}")
        return path

    @contextmanager
    def reading(self, file: DataFile, expected: str) -> Iterator[Any]:
        """`file` for pyarrow.parquet, checked; errors inside become DamagedError or BundleExpired."""
        try:
            yield parquet_source(self.checked_path(file))
        except FileNotFoundError as err:
            raise self.missing(file) from err
        except (OSError, ValueError, KeyError, pa.ArrowException) as err:
            fault = store_fault(self.folder, err)
            raise fault or self.damaged(file, f"expected {expected}, got {_first_line(err)}") from err

    def check_columns(self, file: DataFile, found: pa.Schema) -> None:
        """Raises DamagedError unless every column in the footer of `file` is one of the table's, with its type.

        A footer has no checksum: one flipped bit turns a list into text, or renames a column.  A column that was added
        to the table after the run may be absent.
        """
        for field in found:
            if field.name == "run_id":  # Spark repeats the partition column in its files
                continue
            declared = self.schema.field(field.name).type if field.name in self.schema.names else None
            if declared is None or form_of(field.type) != form_of(declared):
                raise self.damaged(file, f"expected column {field.name} as {declared}, got {field.type}")

    def damaged(self, file: DataFile, fault: str) -> DamagedError:
        """The error for a file with this fault."""
        return DamagedError(f"{self.where} {file.rel_path}: {fault}; {_remedy(self.name, self.run_id)}")

    def missing(self, file: DataFile) -> RecsysError:
        """The error for a missing file: damage if the table still lists it, otherwise gc has deleted it."""
        table = open_table(self.folder, self.name)
        if file.rel_path in {listed.rel_path for listed in _list_files(table, self.folder, self.name, self.run_id)}:
            return self.damaged(file, "expected a file, got none")
        return BundleExpired(
            f"{self.where}: expected the files of the bundle, got {file.rel_path} deleted by gc after "
            "its grace; call bundle.refresh() and use the bundle that it returns"
        )


def open_table(folder: Location, name: str, version: int | None = None) -> DeltaTable:
    """The table at `version`, by default its newest.

    Raises DamagedError if its log cannot be read, or needs Delta features that the product keeps off.
    """
    try:
        table = open_delta(folder, version)
        reader_version = table.protocol().min_reader_version
    except StoreFault:
        raise
    except Exception as err:  # delta-rs raises ValueError, OSError and plain Exception for a log that it cannot parse
        raise DamagedError(
            f"{name}: expected a Delta table at {folder}, got {_first_line(err)}; {restore(name)}"
        ) from err
    if reader_version != 1:
        raise DamagedError(
            f"{name}: expected a table without deletion vectors and column mapping, got reader version "
            f"{reader_version}; turn both off and rewrite the table"
        )
    return table


def read_named(folder: Location, name: str, columns: list[str]) -> pa.Table:
    """These columns of all rows of a table, of any run; DamagedError if it cannot be read."""
    return read_whole(folder, columns, stored=open_table(folder, name))


def list_run(folder: Location, name: str, run_id: str, sort_column: str | None) -> RunFiles:
    """The files of `run_id` in the newest version of the table.

    The newest version is right for every run: the rows of a run do not change once it is published.
    """
    table = open_table(folder, name)
    schema = pa.schema(table.schema().to_arrow())
    columns = pa.schema([field for field in schema if field.name != "run_id"])
    return RunFiles(name, folder, run_id, columns, _list_files(table, folder, name, run_id, sort_column))


def open_published(root: Location, published: PublishedTable, run_id: str) -> RunFiles:
    """The files of `run_id`, all present; DamagedError if they do not hold the number of rows that was published."""
    where = f"{published.name} run_id={run_id}"
    sort_by = TABLES[published.name].sort_by
    folder = inside(root, published.rel_path, where)
    run = list_run(folder, published.name, run_id, sort_by[0] if sort_by else None)
    if run.n_rows != published.n_rows:
        raise DamagedError(f"{where}: expected {published.n_rows} rows as published, found {run.n_rows}; {_ROLL_BACK}")
    for file in run.files:
        run.checked_path(file)
    return run


def list_version(folder: Location, name: str, version: int) -> RunFiles:
    """The files of `version` of a table without partitions."""
    table = open_table(folder, name, version)
    return RunFiles(name, folder, None, pa.schema(table.schema().to_arrow()), _list_files(table, folder, name))


def list_table(folder: Location, name: str, sort_column: str) -> tuple[int, tuple[DataFile, ...]]:
    """The newest version of a table without partitions, and its files; bounds of a number are its decimal text."""
    table = open_table(folder, name)
    return int(table.version()), _list_files(table, folder, name, sort_column=sort_column)


def _list_files(
    table: DeltaTable, folder: Location, name: str, run_id: str | None = None, sort_column: str | None = None
) -> tuple[DataFile, ...]:
    try:
        actions = pa.table(table.get_add_actions(flatten=True))
    except Exception as err:  # see open_table
        raise DamagedError(f"{name}: expected readable file actions, got {_first_line(err)}; {restore(name)}") from err
    if run_id is not None and actions.num_rows:
        actions = actions.filter(pc.equal(actions["partition.run_id"], run_id))
    return tuple(
        DataFile(path, size, _count_rows(folder / path, name, run_id) if rows is None else rows, low, high)
        for path, size, rows, low, high in zip(
            _values(actions, "path"),
            _values(actions, "size_bytes"),
            _values(actions, "num_records"),
            _texts(actions, f"min.{sort_column}"),
            _texts(actions, f"max.{sort_column}"),
            strict=True,
        )
    )


def _values(actions: pa.Table, column: str) -> Sequence[Any]:
    if column not in actions.column_names:
        return [None] * actions.num_rows
    return actions[column].to_pylist()  # type: ignore[no-any-return]


def _texts(actions: pa.Table, column: str) -> Sequence[str | None]:
    return [None if value is None else str(value) for value in _values(actions, column)]


def _remedy(name: str, run_id: str | None) -> str:
    """The advice on a damaged file: another run can replace that of a run, but not that of a whole table."""
    return restore(name) if run_id is None else _ROLL_BACK


def _count_rows(path: Location, name: str, run_id: str | None) -> int:
    try:
        return int(pq.read_metadata(parquet_source(path)).num_rows)
    except (OSError, pa.ArrowException) as err:
        remedy = _remedy(name, run_id)
        raise DamagedError(f"{name}: expected a Parquet file, got {_first_line(err)}; {remedy}") from err


def _first_line(err: BaseException) -> str:
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:300]


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
