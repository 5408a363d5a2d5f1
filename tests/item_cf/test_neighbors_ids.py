"""Lists of indices get the ids of their items."""

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import KernelError
from recsys_spark.item_cf import neighbors
from recsys_spark.item_cf.neighbors import fit_item_ids, with_item_ids


def _index(spark: SparkSession):
    return spark.createDataFrame([(2, "ü"), (0, "a"), (1, "b")], "item_idx int, item_id string").repartition(3)


def test_with_item_ids_names_items_and_neighbors(spark: SparkSession) -> None:
    rows = [(0, [2, 1], [0.5, 0.25]), (1, [], []), (2, [0], [0.125])]
    lists = spark.createDataFrame(rows, "col_idx int, neighbors array<int>, scores array<float>").coalesce(1)
    found = {row.item_id: (row.item_idx, [tuple(one) for one in row.neighbors])
             for row in with_item_ids(lists, fit_item_ids(_index(spark))).collect()}  # fmt: skip
    assert found == {"a": (0, [("ü", 2, 0.5), ("b", 1, 0.25)]), "b": (1, []), "ü": (2, [("a", 0, 0.125)])}


def test_fit_item_ids_refuses_more_bytes_than_it_can_send(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "MAX_ID_BYTES", 3)
    with pytest.raises(KernelError, match="item_cf: expected at most 3 bytes of ids of items, got 4; lower inter"):
        fit_item_ids(_index(spark))
