"""The words of a declaration."""

import pytest

from recsys_spark.warehouse.contract import Column, run_table
from recsys_spark.warehouse.tables import EVENTS


def test_column_is_found_by_name() -> None:
    assert EVENTS.column("value").nullable
    with pytest.raises(KeyError, match=r"events\.nothing"):
        EVENTS.column("nothing")


def test_run_table_adds_the_run_and_leaves_it_out_of_the_content() -> None:
    table = run_table("t", "work", "doc", (Column("a", "int", "a"),), volatile={"a"})
    assert table.names == ("a", "run_id")
    assert table.partition_by == ("run_id",)
    assert table.volatile == {"a", "run_id"}
