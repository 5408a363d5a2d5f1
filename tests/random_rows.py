"""Rows of a declared table with random values."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_spark.warehouse.arrow import arrow_schema, arrow_type
from recsys_spark.warehouse.contract import ListOf, MapOf, StructOf, Table, Type

# Random frames stay inside this window, so that a frame can be aged and cut by any test date after it.
_FIRST_SECOND = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
_SECONDS = 90 * 86400


def random_table(table: Table, n_rows: int, rng: np.random.Generator) -> pa.Table:
    """`n_rows` random rows that keep types, nullability and the uniqueness of single-column keys.

    Conditions that tie columns together are the caller's to establish: the test that needs them replaces those columns.
    """
    columns = []
    for column in table.columns:
        unique = table.key == (column.name,)
        values = [_random_value(column.type, row if unique else None, rng) for row in range(n_rows)]
        if column.nullable:
            values = [None if rng.random() < 0.1 else value for value in values]
        columns.append(pa.array(values, type=arrow_type(column.type)))
    return pa.table(columns, schema=arrow_schema(table))


def _random_value(declared: Type, unique: int | None, rng: np.random.Generator) -> Any:
    number = unique if unique is not None else int(rng.integers(0, 1000))
    match declared:
        case ListOf(element):
            return [_random_value(element, None, rng) for _ in range(rng.integers(0, 4))]
        case MapOf(value):
            return [(f"key{index}", _random_value(value, None, rng)) for index in range(rng.integers(0, 3))]
        case StructOf(fields):
            return {column.name: _random_value(column.type, None, rng) for column in fields}
        case "string":
            return f"s{number}"
        case "int" | "long":
            return number
        case "float" | "double":
            return float(np.float32(rng.random()))
        case "boolean":
            return bool(rng.integers(0, 2))
        case "date":
            return date(2024, 1, 1 + number % 28)
        case _:
            return datetime.fromtimestamp(_FIRST_SECOND + int(rng.integers(0, _SECONDS)), tz=UTC)
