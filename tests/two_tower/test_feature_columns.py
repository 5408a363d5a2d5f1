"""A feature is found by its name, gets the kind of its type, and numbers are measured as the towers see them."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import ConfigError
from recsys_spark.two_tower.feature_columns import feature_columns, fit_inputs
from recsys_spark.two_tower.kernels.inputs import Field, squash

SHARES = "array<struct<category: string, share: double>>"


def _frame(spark: SparkSession, *names: str, engaged: tuple[str, ...] = ()) -> DataFrame:
    index = spark.createDataFrame([(0, "a"), (1, "b"), (2, "c")], "item_idx int, item_id string")
    features = spark.createDataFrame(
        [("a", "Red Car", 10.0, [("x", 0.5)], 3), ("b", None, float("nan"), None, 0), ("c", "Toy", 1000.0, [], 9)],
        f"item_id string, title string, price double, mix {SHARES}, n_events long",
    )
    catalogue = spark.createDataFrame(
        [("a", ["t"], {"text": [1.0, 2.0]}, {"age": "3"}, datetime(2025, 1, 1, tzinfo=UTC), 1.0)],
        "item_id string, tags array<string>, vectors map<string, array<float>>, attributes map<string, string>, "
        "created_at timestamp, price double",
    )
    return feature_columns(index, features, catalogue, "item", names, engaged)


def test_feature_columns_finds_features_before_the_catalogue_and_entries_of_its_maps(spark: SparkSession) -> None:
    rows = _frame(spark, "title", "price", "tags", "vectors.text", "attributes.age", "vectors.none").orderBy("item_idx")
    first, second, third = rows.collect()
    assert tuple(first) == (0, "a", "Red Car", 10.0, ["t"], [1.0, 2.0], "3", None, "a")
    assert tuple(second)[4:] == (None,) * 5  # nobody had it, so its id says nothing
    assert third["price"] == 1000.0


def test_fit_inputs_gives_each_its_kind_and_numbers_their_measure(spark: SparkSession) -> None:
    names = ("title", "price", "mix", "tags", "vectors.text", "attributes.age")
    inputs = fit_inputs(_frame(spark, *names), "item", names, ["title"], 64, 32)
    kinds = {field.name: field.kind for field in inputs.fields}
    assert kinds == {
        "title": "words", "price": "number", "mix": "shares", "tags": "values", "vectors.text": "vector",
        "attributes.age": "category", "known_id": "id",
    }  # fmt: skip
    price = next(field for field in inputs.fields if field.name == "price")
    known = squash(np.array([10.0, 1000.0]))  # not a number is not known
    assert price.mean == pytest.approx(known.mean(), abs=1e-6)
    assert price.deviation == pytest.approx(known.std(), abs=1e-6)
    assert next(field for field in inputs.fields if field.kind == "vector").width == 2
    assert (inputs.n_buckets, inputs.n_ids) == (64, 32)


def test_fit_inputs_leaves_out_what_nobody_has_and_measures_a_constant(spark: SparkSession) -> None:
    frame = _frame(spark, "vectors.none", "price").where("item_idx = 0")
    inputs = fit_inputs(frame, "item", ["vectors.none", "price"], [], 64, 0)
    (price,) = inputs.fields
    assert price == Field("price", "number", mean=round(float(np.log1p(10.0)), 6), deviation=1.0)
    nothing = fit_inputs(frame.where("item_idx < 0"), "item", ["price"], [], 64, 0)
    assert nothing.fields == (Field("price", "number"),)


def test_what_engagement_says_is_unknown_of_an_item_that_nobody_had(spark: SparkSession) -> None:
    frame = _frame(spark, "title", engaged=("n_events",))
    rows = {row.item_id: (row.n_events, row.known_id) for row in frame.collect()}
    assert rows == {"a": (3, "a"), "b": (None, None), "c": (9, "c")}
    inputs = fit_inputs(frame, "item", ["title"], [], 64, 32, ["n_events"])
    assert [(field.name, field.engaged) for field in inputs.fields] == [
        ("title", False), ("n_events", True), ("known_id", False),
    ]  # fmt: skip
    assert inputs.fields[1].mean == pytest.approx(squash(np.array([3.0, 9.0])).mean(), abs=1e-6)


@pytest.mark.parametrize(("name", "said"), [("titel", "got 'titel'; known are"), ("created_at", "of type timestamp")])
def test_feature_columns_refuses_what_no_tower_takes(spark: SparkSession, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[two_tower\] item_features: .*{said}"):
        _frame(spark, name)
