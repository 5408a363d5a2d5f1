"""What is declared is what Arrow gets."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.warehouse.arrow import arrow_schema, arrow_type, schema_hash
from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf, Table
from recsys_spark.warehouse.tables import CANDIDATE_LISTS, TABLES, USER_INDEX
from tests.random_rows import random_table


def test_arrow_type_renders_nested_types() -> None:
    declared = ListOf(StructOf((Column("a", "int", "a"), Column("b", MapOf("float"), "b", nullable=True))))
    rendered = arrow_type(declared)
    assert rendered.value_field.nullable is False
    assert rendered.value_type.field("a") == pa.field("a", pa.int32(), nullable=False)
    assert rendered.value_type.field("b").nullable
    assert rendered.value_type.field("b").type.item_type == pa.float32()


def test_arrow_schema_carries_documentation_and_unit() -> None:
    comment = arrow_schema(TABLES["events"]).field("propensity").metadata[b"comment"].decode()
    assert comment == "probability of being shown, if the log has it [0 to 1]"


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_random_table_keeps_the_contract(table: Table) -> None:
    frame = random_table(table, 50, np.random.default_rng(7))
    assert frame.schema.equals(arrow_schema(table))
    for column in table.columns:
        assert column.nullable or frame[column.name].null_count == 0


def test_random_table_keeps_a_single_key_unique() -> None:
    frame = random_table(USER_INDEX, 500, np.random.default_rng(7))
    assert len(set(frame["user_idx"].to_pylist())) == 500


def test_schema_hash_changes_with_a_type_and_not_with_a_comment() -> None:
    first = Table("t", "work", "doc", (Column("a", "int", "one"),))
    assert schema_hash(first) == schema_hash(Table("t", "work", "doc", (Column("a", "int", "another"),)))
    assert schema_hash(first) != schema_hash(Table("t", "work", "doc", (Column("a", "long", "one"),)))
    assert schema_hash(CANDIDATE_LISTS) != schema_hash(USER_INDEX)
