"""A feature is one entry: its column, its contract and its documentation follow."""

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import ContractError
from recsys_spark.features.declared import (
    INDEX,
    Feature,
    Group,
    RowSource,
    aggregate_group,
    declared_tables,
    extended_table,
    group_modules,
)
from recsys_spark.warehouse.contract import ListOf
from recsys_spark.warehouse.tables import ITEM_FEATURES, TABLES, USER_FEATURES

VISITS = Feature("n_visits", "long", "visits", "days", "sum(n_visits)", check="n_visits >= 0")
GAP = Feature("gap", "double", "longest gap", "days", "max(gap)", unit="days", null_when="one day", check="gap > 0")


def test_extended_table_adds_the_columns_before_run_id() -> None:
    group = Group("user_features", (VISITS, GAP))
    table = extended_table(USER_FEATURES, {"visits": group})
    assert table.names == ("user_id", "segment", "recent_items", "n_visits", "gap", "run_id")
    assert (table.key, table.sort_by, table.partition_by) == (("user_id",), ("user_id",), ("run_id",))
    assert extended_table(ITEM_FEATURES, {"visits": group}) == ITEM_FEATURES


def test_column_carries_unit_null_rule_and_check() -> None:
    assert (VISITS.column.nullable, VISITS.column.check, VISITS.column.doc) == (False, "n_visits >= 0", "visits")
    assert (GAP.column.nullable, GAP.column.unit, GAP.column.doc) == (True, "days", "longest gap; null: one day")
    assert GAP.column.check == "gap IS NULL OR gap > 0"


def test_extended_table_refuses_a_name_that_is_taken() -> None:
    taken = Feature("segment", "long", "segment", "days", "count(*)")
    with pytest.raises(ContractError, match=r"features/groups/b\.py: .* got 'segment', which warehouse/tables\.py has"):
        extended_table(USER_FEATURES, {"b": Group("user_features", (taken,))})
    with pytest.raises(
        ContractError, match=r"features/groups/b\.py: .* got 'n_visits', which features/groups/a\.py has"
    ):
        extended_table(USER_FEATURES, {name: Group("user_features", (VISITS,)) for name in "ab"})


def test_group_modules_are_found_by_file() -> None:
    assert list(group_modules()) == ["activity", "offer", "popularity", "reach", "response", "taste"]


def test_aggregate_group_fills_by_the_null_rule_and_computes_over_the_index_last(spark: SparkSession) -> None:
    days = spark.createDataFrame([("ann", 2, 5), ("ann", 3, 4)], "user_id string, n_visits int, gap int")
    index = spark.createDataFrame([("ann", 10), ("bob", 20)], "user_id string, doubled int")
    group = Group(
        "user_features",
        (
            Feature("doubled", "long", "twice the visits", INDEX, "n_visits * 2 + doubled"),
            VISITS,
            GAP,
            Feature("gaps", ListOf("int"), "gaps", "days", "array_sort(collect_list(gap))"),
        ),
    )
    frame = aggregate_group(index, group, {"days": RowSource(days, "user_id")})
    assert frame.columns == ["user_id", "doubled", "n_visits", "gap", "gaps"]
    rows = {row.user_id: tuple(row)[1:] for row in frame.collect()}
    assert rows == {"ann": (5 * 2 + 10, 5, 5.0, [4, 5]), "bob": (20, 0, None, [])}


def test_declared_tables_extends_the_feature_tables_and_the_examples_that_hold_them() -> None:
    changed = {name for name, table in declared_tables().items() if table != TABLES[name]}
    assert changed == {"user_features", "item_features", "ranking_examples"}
    assert list(declared_tables()) == list(TABLES)


@pytest.mark.parametrize("name", ["user_features", "item_features"])
def test_declared_features_name_the_unit_of_days(name: str) -> None:
    columns = [column for column in declared_tables()[name].columns if column.name.startswith("days_")]
    assert columns
    assert {column.unit for column in columns} == {"days"}
