"""Price levels, and the categories that users engage with, on rows that can be counted by hand."""

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.features.price_levels import category_rows, price_levels


def _shelf(spark: SparkSession, rows: list[tuple[str | None, float | None]]) -> DataFrame:
    numbered = [(number, *row) for number, row in enumerate(rows)]
    return price_levels(spark.createDataFrame(numbered, "item_idx int, category string, price double"))


def test_shelf_gives_equal_prices_one_level(spark: SparkSession) -> None:
    frame = _shelf(spark, [("tea", 1.0), ("tea", 2.0), ("tea", 2.0), ("tea", 9.0), ("tea", None), ("cups", 5.0)])
    levels = {row.item_idx: row.price_level for row in frame.collect()}
    assert levels == {0: (0 + 1 / 2) / 4, 1: (1 + 2 / 2) / 4, 2: (1 + 2 / 2) / 4, 3: (3 + 1 / 2) / 4, 4: None, 5: 1 / 2}


def test_shelf_compares_items_without_a_category_with_each_other(spark: SparkSession) -> None:
    levels = {
        row.item_idx: row.price_level for row in _shelf(spark, [(None, 1.0), (None, 2.0), ("tea", 1.5)]).collect()
    }
    assert levels == {0: 1 / 4, 1: 3 / 4, 2: 1 / 2}


def test_shelf_takes_a_bad_price_for_none(spark: SparkSession) -> None:
    bad = [float("nan"), float("inf"), -float("inf"), -0.01, 1.1e12]
    rows = [(f"tea {at}", price) for at, one in enumerate(bad) for price in (one, 1e12, 0.0)]
    found = sorted(_shelf(spark, rows).collect(), key=lambda row: row.item_idx)
    assert [(row.price, row.price_level) for row in found] == [(None, None), (1e12, 3 / 4), (0.0, 1 / 4)] * len(bad)


def test_category_rows_sums_what_a_user_engaged_with(spark: SparkSession) -> None:
    shelved = _shelf(spark, [("tea", 1.0), ("tea", 3.0), ("tea", None), (None, 2.0)])
    pairs = [(7, 0, 2.0, 1), (7, 1, 0.5, 3), (7, 2, 4.0, 1), (7, 3, 0.0, 1), (8, 0, 1.0, 0)]
    interactions = spark.createDataFrame(pairs, "user_idx int, item_idx int, weight float, n_events int")
    rows = {row.category: row.asDict() for row in category_rows(interactions, shelved, 20).collect()}
    tea = {name: float(rows["tea"][name]) for name in ("weight", "price_sum", "level_sum", "level_weight")}
    assert tea == {
        "weight": 2.0 + 0.5 + 4.0,
        "price_sum": 1.0 + 3.0,
        "level_sum": 2.0 * 1 / 4 + 0.5 * 3 / 4,
        "level_weight": 2.0 + 0.5,
    }
    assert {(row["user_idx"], row["n_priced"], row["max_categories"]) for row in rows.values()} == {
        (7, 2, 20),
        (7, 1, 20),
    }
    assert rows.keys() == {"tea", None}
