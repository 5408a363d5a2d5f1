"""Rules that every declared table keeps; a new table is held to them by being declared."""

import re

import pytest

from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf, Table, Type
from recsys_spark.warehouse.tables import TABLES


def _columns(columns: tuple[Column, ...]) -> list[Column]:
    return [inner for column in columns for inner in (column, *_nested(column.type))]


def _nested(declared: Type) -> list[Column]:
    match declared:
        case ListOf(inner) | MapOf(inner):
            return _nested(inner)
        case StructOf(fields):
            return _columns(fields)
        case _:
            return []


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_table_is_named_documented_and_keyed_by_its_own_columns(table: Table) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", table.name)
    assert table.doc
    assert len(set(table.names)) == len(table.names)
    assert {*table.key, *table.partition_by, *table.sort_by, *table.volatile} <= set(table.names)
    for column in _columns(table.columns):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
        assert column.doc
        assert not (column.check and column.nullable and "IS NULL OR" not in column.check)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_table_of_a_run_is_partitioned_by_it(table: Table) -> None:
    assert (table.family in ("bundle", "work")) == (table.partition_by == ("run_id",))
