"""Spark schema of a declared table, and the check of a frame against its contract.

Owns: the rendering from `contract` to pyspark types, and the rules that rows must keep.  The schema is compared without
a Spark job, all row rules are measured in one aggregate job.
"""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_spark.errors import ContractError
from recsys_spark.warehouse.contract import Column as Declared
from recsys_spark.warehouse.contract import ListOf, MapOf, StructOf, Table, Type

_SCALARS: dict[str, T.DataType] = {
    "string": T.StringType(),
    "int": T.IntegerType(),
    "long": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "boolean": T.BooleanType(),
    "timestamp": T.TimestampType(),
    "date": T.DateType(),
}


def spark_type(declared: Type) -> T.DataType:
    """The Spark type of a declared type; list elements and map values are not nullable."""
    match declared:
        case ListOf(element):
            return T.ArrayType(spark_type(element), containsNull=False)
        case MapOf(value):
            return T.MapType(T.StringType(), spark_type(value), valueContainsNull=False)
        case StructOf(fields):
            return T.StructType([_field(column) for column in fields])
        case _:
            return _SCALARS[declared]


def spark_schema(table: Table, without: tuple[str, ...] = ()) -> T.StructType:
    """The Spark schema of `table` in contract order, without the columns named in `without`."""
    return T.StructType([_field(column) for column in table.columns if column.name not in without])


def _field(column: Declared) -> T.StructField:
    return T.StructField(column.name, spark_type(column.type), nullable=column.nullable)


@dataclass(frozen=True)
class RowFigures:
    """What one pass over a table's rows found.  content_hash: equal for equal rows in any order and partitioning."""

    n_rows: int
    n_distinct_keys: int
    content_hash: str
    n_null: dict[str, int]
    n_invalid: dict[str, int]


def check_schema(frame: DataFrame, table: Table, without: tuple[str, ...] = ()) -> None:
    """Raises ContractError with every missing, unexpected or mistyped column of `frame` at once."""
    expected = {field.name: field.dataType.simpleString() for field in spark_schema(table, without)}
    found = {field.name: field.dataType.simpleString() for field in frame.schema}
    faults = [f"missing {name}: {kind}" for name, kind in expected.items() if name not in found]
    faults += [f"unexpected {name}: {kind}" for name, kind in found.items() if name not in expected]
    faults += [
        f"{name}: expected {kind}, got {found[name]}"
        for name, kind in expected.items()
        if name in found and found[name] != kind
    ]
    doubled = len(frame.columns) - len(found)
    if doubled:
        faults.append(f"{doubled} column names are doubled")
    if faults:
        raise ContractError(
            f"{table.name}: expected the columns of its contract, got {'; '.join(faults)}; "
            "correct the step that writes it, or recsys_spark/warehouse/tables.py"
        )


def measure_rows(frame: DataFrame, table: Table) -> RowFigures:
    """Counts, key uniqueness, nulls, violated conditions and content hash of `frame`, in one aggregate job."""
    required = [column for column in table.columns if not column.nullable and column.name in frame.columns]
    checked = [column for column in table.columns if column.check and column.name in frame.columns]
    aggregates: list[Column] = [F.count(F.lit(1)).alias("n_rows"), _content_sum(frame, table).alias("content")]
    if table.key:
        # The hash of the key is enough to count distinct ones: 64 bits collide once in some billions of rows, and
        # 128 (two seeds) do not; counting distinct structs would carry the ids themselves through the shuffle.
        key = F.struct(F.xxhash64(F.lit(1), *table.key), F.xxhash64(F.lit(2), *table.key))
        aggregates.append(F.count_distinct(key).alias("n_distinct_keys"))
    aggregates += [F.sum(F.col(column.name).isNull().cast("long")).alias(f"null:{column.name}") for column in required]
    aggregates += [F.sum((~F.expr(column.check)).cast("long")).alias(f"bad:{column.name}") for column in checked]
    row: Any = frame.agg(*aggregates).first()
    counts = row.asDict()
    return RowFigures(
        n_rows=counts["n_rows"],
        n_distinct_keys=counts.get("n_distinct_keys", counts["n_rows"]),
        content_hash=f"{int(counts['content'] or 0) % (1 << 64):016x}-{counts['n_rows']}",
        n_null={column.name: counts[f"null:{column.name}"] or 0 for column in required},
        n_invalid={column.name: counts[f"bad:{column.name}"] or 0 for column in checked},
    )


def _content_sum(frame: DataFrame, table: Table) -> Column:
    """Sum of row hashes: independent of order and partitioning; maps are hashed through their sorted entries."""
    columns = []
    for field in spark_schema(table):
        if field.name in frame.columns and field.name not in table.volatile:
            column = F.col(field.name)
            columns.append(F.array_sort(F.map_entries(column)) if field.dataType.typeName() == "map" else column)
    return F.sum(F.xxhash64(*columns).cast("decimal(38,0)"))


def check_rows(figures: RowFigures, table: Table, where: str) -> None:
    """Raises ContractError with every rule that rows of `table` at `where` break."""
    faults = []
    if figures.n_distinct_keys != figures.n_rows:
        doubled = figures.n_rows - figures.n_distinct_keys
        faults.append(f"expected unique ({', '.join(table.key)}), got {doubled} duplicates")
    faults += [f"expected no null in {name}, got {count}" for name, count in figures.n_null.items() if count]
    faults += [
        f"expected {table.column(name).check}, got {count} rows that break it"
        for name, count in figures.n_invalid.items()
        if count
    ]
    if faults:
        raise ContractError(f"{table.name} {where}: {'; '.join(faults)}; correct the step that writes it and rerun it")
