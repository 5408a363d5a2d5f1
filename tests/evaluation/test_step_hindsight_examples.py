"""Examples for a ranking model, row by row on a small bundle, and the share of those that are drawn."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from recsys_spark.evaluation.step_hindsight import ranking_examples
from recsys_spark.features.declared import declared_tables
from recsys_spark.warehouse.publish_row import PublishRow
from recsys_spark.warehouse.spark_check import check_rows, check_schema, measure_rows, spark_schema
from tests.local_frame import local_frame

DAY = date(2025, 3, 1)
MADE = PublishRow(7, "publish", "20250301-001-9f2c81aa", DAY, 6, (), "", "", 48, datetime(2025, 3, 1, tzinfo=UTC), "")
SHOWN, CLICKED = datetime(2025, 3, 1, 9, tzinfo=UTC), datetime(2025, 3, 1, 10, tzinfo=UTC)
EXAMPLES = declared_tables()["ranking_examples"]
SCHEMA = spark_schema(EXAMPLES, without=("run_id",))
PAIRS = (
    "user_id string, item_id string, shown_at timestamp, position int, propensity double, surface string, "
    "engaged_at timestamp, last_engaged_at timestamp, value double"
)


def frame(spark: SparkSession, name: str, rows: list[dict[str, Any]]) -> DataFrame:
    """Rows of a table, nulls for what is not given, whatever the contract says of it."""
    fields = spark_schema(declared_tables()[name], without=("run_id",)).fields
    schema = StructType([StructField(field.name, field.dataType) for field in fields])
    return local_frame(spark, [tuple(row.get(field) for field in schema.names) for row in rows], schema)


def listed(user: str, items: list[tuple[str, list[tuple[str, int, float]]]]) -> dict[str, Any]:
    entries = [
        {
            "item_id": item,
            "rank": rank,
            "score": 1.0 / rank,
            "sources": [dict(zip(("source", "rank", "score"), one, strict=True)) for one in sources],
        }
        for rank, (item, sources) in enumerate(items, 1)
    ]
    return {"user_id": user, "variant": "main", "items": entries, "generated_at": SHOWN}


@pytest.fixture(scope="module")
def lists(spark: SparkSession) -> dict[str, DataFrame]:
    long = listed("u2", [(f"item {at:03d}", [("als", at + 1, 1.0)]) for at in range(200)])
    candidates = [
        listed("u0", [("x", [("als", 1, 2.0), ("popular/global", 3, 1.0)]), ("y", [("explore", 1, 0.125)]), ("z", [])]),
        listed("u1", [("x", [("als", 1, 2.0)])]),
        long,
    ]
    users = [{"user_id": "u0", "segment": "gold", "recent_items": ["w"]}]
    items = [{"item_id": "x", "title": "an x", "category": "letters"}]
    return {
        "candidates": frame(spark, "candidates", candidates),
        "user_features": frame(spark, "user_features", users),
        "item_features": frame(spark, "item_features", items),
    }


@pytest.fixture(scope="module")
def pairs(spark: SparkSession) -> DataFrame:
    rows = [
        ("u0", "x", SHOWN, 2, 0.5, "home", CLICKED, CLICKED, 1.5),
        ("u0", "y", SHOWN, 3, None, None, None, None, 0.0),
        ("u0", "not listed", SHOWN, 1, None, None, CLICKED, CLICKED, 1.0),
        ("u2", "item 007", None, None, None, None, CLICKED, CLICKED, 1.0),
    ]
    return local_frame(spark, rows, PAIRS)


def test_an_example_is_a_candidate_with_what_became_of_it(lists: dict[str, DataFrame], pairs: DataFrame) -> None:
    made = ranking_examples(lists, pairs, 0, 1, MADE, SCHEMA)
    check_schema(made, EXAMPLES, without=("run_id",))
    check_rows(measure_rows(made, EXAMPLES), EXAMPLES, "here")
    rows = {(row["user_id"], row["item_id"]): row for row in made.collect()}
    assert set(rows) == {("u0", "x"), ("u0", "y"), ("u2", "item 007")}
    x = rows["u0", "x"]
    assert (x["list_run_id"], x["list_date"], x["rank"], x["label"], x["value"]) == (MADE.run_id, DAY, 1, 1, 1.5)
    assert (x["position"], x["propensity"], x["surface"], x["drawn"]) == (2, 0.5, "home", False)
    assert [tuple(one) for one in x["sources"]] == [("als", 1, 2.0), ("popular/global", 3, 1.0)]
    assert (x["user_segment"], x["user_recent_items"], x["item_title"]) == ("gold", ["w"], "an x")
    y = rows["u0", "y"]
    assert (y["label"], y["propensity"], y["engaged_at"]) == (0, 0.125, None), "explored: its own propensity"
    assert (y["user_segment"], y["item_title"]) == ("gold", None)
    seven = rows["u2", "item 007"]
    assert (seven["rank"], seven["label"], seven["shown_at"], seven["user_segment"]) == (8, 1, None, None)


def test_what_was_neither_shown_nor_engaged_with_is_drawn_from_the_list(
    lists: dict[str, DataFrame], pairs: DataFrame
) -> None:
    drawn = ranking_examples(lists, pairs, 40, 1, MADE, SCHEMA).where("drawn").collect()
    assert {row["label"] for row in drawn} == {0}
    of_long = [row["item_id"] for row in drawn if row["user_id"] == "u2"]
    assert len(of_long) == pytest.approx(40, abs=4 * (40 * 0.8) ** 0.5)
    assert [row["item_id"] for row in drawn if row["user_id"] == "u0"] == ["z"], "a short list is taken whole"
    assert not [row for row in drawn if row["user_id"] == "u1"], "nobody knows whether u1 saw the list"
    again = ranking_examples({**lists, "candidates": lists["candidates"].repartition(5)}, pairs, 40, 1, MADE, SCHEMA)
    assert {row["item_id"] for row in again.where("drawn AND user_id = 'u2'").collect()} == set(of_long)
    other = ranking_examples(lists, pairs, 40, 2, MADE, SCHEMA).where("drawn AND user_id = 'u2'").collect()
    assert {row["item_id"] for row in other} != set(of_long)


def test_a_feature_that_is_newer_than_the_bundle_is_null(lists: dict[str, DataFrame], pairs: DataFrame) -> None:
    older = {**lists, "user_features": lists["user_features"].drop("recent_items")}
    made = ranking_examples(older, pairs, 0, 1, MADE, SCHEMA)
    check_schema(made, EXAMPLES, without=("run_id",))
    assert {row["user_recent_items"] for row in made.collect()} == {None}


def test_columns_are_those_of_both_feature_tables() -> None:
    names = set(EXAMPLES.names)
    tables = declared_tables()
    for side in ("user", "item"):
        for column in tables[f"{side}_features"].names:
            assert column in (f"{side}_id", "run_id") or f"{side}_{column}" in names
    assert EXAMPLES.names[-1] == "run_id"
