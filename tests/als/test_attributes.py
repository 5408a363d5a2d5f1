"""Declared attributes become dense columns, in the order of their names and values."""

from functools import reduce

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.als.attributes import attribute_pairs
from tests.engagement import make_items, make_users

CATALOGUE = {
    "a": {"category": "shoes", "brand": "Zeta", "tags": ["red", "new"], "attributes": {"size": "9"}},
    "b": {"category": "hats", "brand": "  ", "tags": ["red", "", "red"], "attributes": {"size": " "}},
    "c": {"category": None, "brand": None, "tags": None, "attributes": None},
    "d": {"category": "shoes", "brand": "Zeta", "tags": [], "attributes": {"colour": "red"}},
    "unknown": {"category": "gloves", "brand": "Alpha", "tags": ["rare"], "attributes": {"size": "1"}},
}
IDX = {"a": 0, "b": 1, "c": 2, "d": 3, "not in the catalogue": 4}


NAMES = {
    "category": ["category"],
    "brand": ["brand"],
    "tags": ["tags"],
    "size": ["size"],
    "colour": ["colour"],
    "none": ["none"],
    "tags+category+size+brand": ["tags", "category", "size", "brand"],
    "tags+colour": ["tags", "colour"],
}


@pytest.fixture(scope="module")
def pairs(spark: SparkSession) -> dict[str, list[tuple[int, int]]]:
    """The pairs of idx and attribute_idx for each of NAMES, from one query."""
    index = spark.createDataFrame([*IDX.items()], "item_id string, idx int").repartition(3)
    items = make_items(spark, CATALOGUE).repartition(2)
    frames = {key: attribute_pairs(items, index, "item_id", names) for key, names in NAMES.items()}
    assert {tuple(frame.dtypes) for frame in frames.values()} == {(("idx", "int"), ("attribute_idx", "int"))}
    every = reduce(DataFrame.unionAll, [frame.withColumn("names", F.lit(key)) for key, frame in frames.items()])
    found: dict[str, list[tuple[int, int]]] = {key: [] for key in NAMES}
    for row in every.collect():
        found[row.names].append((row.idx, row.attribute_idx))
    return found


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("category", {0: {1}, 1: {0}, 3: {1}}),  # hats, shoes
        ("brand", {0: {0}, 3: {0}}),  # Zeta
        ("tags", {0: {0, 1}, 1: {1}}),  # new, red
        ("size", {0: {0}}),
        ("colour", {3: {0}}),
        ("none", {}),
        # brand=Zeta, category=hats, category=shoes, size=9, tags=new, tags=red
        ("tags+category+size+brand", {0: {0, 2, 3, 4, 5}, 1: {1, 5}, 3: {0, 2}}),
        # the same value of two attributes is two: colour=red, tags=new, tags=red
        ("tags+colour", {0: {1, 2}, 1: {2}, 3: {0}}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_attribute_pairs_numbers_the_values_that_indexed_entities_have(
    pairs: dict[str, list[tuple[int, int]]], names: str, expected: dict[int, set[int]]
) -> None:
    assert sorted(pairs[names]) == sorted((idx, value) for idx, values in expected.items() for value in values)


def test_attribute_pairs_of_users_come_from_their_attributes(spark: SparkSession) -> None:
    users = make_users(spark, {"u": {"attributes": {"country": "FR", "category": "gold"}}, "v": {"attributes": {}}})
    index = spark.createDataFrame([("u", 7), ("v", 8)], "user_id string, idx int")
    rows = attribute_pairs(users, index, "user_id", ["country", "category"]).collect()
    assert sorted(tuple(row) for row in rows) == [(7, 0), (7, 1)]  # users have no column called category
