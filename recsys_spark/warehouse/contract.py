"""Table contracts: types, columns and tables as plain data, without pyspark or pyarrow.

Owns: what can be declared about a table.
"""

from dataclasses import dataclass, field
from typing import Literal

Scalar = Literal["string", "int", "long", "float", "double", "boolean", "timestamp", "date"]
Family = Literal["events", "catalogue", "ledger", "bundle", "work"]


@dataclass(frozen=True)
class ListOf:
    """A list of one element type; elements are never null."""

    element: "Type"


@dataclass(frozen=True)
class MapOf:
    """A map with string keys; values are never null."""

    value: "Type"


@dataclass(frozen=True)
class StructOf:
    """A nested record with named fields."""

    fields: tuple["Column", ...]


Type = Scalar | ListOf | MapOf | StructOf


@dataclass(frozen=True)
class Column:
    """One column: its type, meaning and unit, whether it may be null, and a SQL condition that every row must meet."""

    name: str
    type: Type
    doc: str
    unit: str = ""
    nullable: bool = False
    check: str = ""


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, the columns that identify a row, and how its files are laid out.

    family: `bundle` tables are partitioned by `run_id` and published together; `work` tables are partitioned by
    `run_id` and stay inside a run; `ledger` tables are small, append-only and written without Spark.
    sort_by: files are range-partitioned and sorted by these columns, so that a reader finds a row from statistics.
    row_group_bytes: uncompressed size of a Parquet row group, 0 for the writer's own choice.
    volatile: columns that a content hash leaves out (run ids and times of writing).
    """

    name: str
    family: Family
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    row_group_bytes: int = 0
    volatile: frozenset[str] = field(default_factory=frozenset)

    def column(self, name: str) -> Column:
        """The column called `name`; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name}.{name}")

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(column.name for column in self.columns)


def run_table(
    name: str, family: Literal["bundle", "work"], doc: str, columns: tuple[Column, ...], **layout: object
) -> Table:
    """A table that a run writes: the declared columns, then `run_id`, by which it is partitioned."""
    run_id = Column("run_id", "string", "the run that wrote the row")
    volatile = frozenset({"run_id"}) | frozenset(layout.pop("volatile", ()))  # type: ignore[call-overload]
    return Table(name, family, doc, (*columns, run_id), partition_by=("run_id",), volatile=volatile, **layout)  # type: ignore[arg-type]
