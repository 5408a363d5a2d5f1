"""What the catalogue says reaches the driver as a trial takes it, or not at all."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.numeric.sparse import Csr
from recsys_spark.validation import item_facts as module
from recsys_spark.validation.item_facts import item_facts
from tests.engagement import make_context, make_items
from tests.local_frame import local_frame

ITEMS = ("a", "b", "c", "d")
CATALOGUE = {
    "b": {"title": "red cup", "category": "cup", "tags": ["red"], "created_at": datetime(2025, 1, 5, tzinfo=UTC)},
    "c": {"title": "old cup", "category": "cup", "tags": ["red", "old"]},
    "d": {"title": "mug", "category": "mug", "created_at": datetime(2025, 1, 7, tzinfo=UTC)},
    "not indexed": {"title": "bin", "category": "bin"},
}


def rows_of(matrix: Csr | None) -> list[set[str]]:
    assert matrix is not None
    assert matrix.n_cols == len(ITEMS)
    return [{ITEMS[item] for item in matrix.indices[a:b]} for a, b in pairwise(matrix.indptr)]


def test_item_facts_are_what_the_catalogue_says_of_indexed_items(
    spark: SparkSession, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(spark, make_config('sources.enabled=["als","content"]'))
    index = local_frame(spark, list(enumerate(ITEMS)), "item_idx int, item_id string")
    inputs = {"items": make_items(spark, CATALOGUE), "item_index": index}
    found = item_facts(inputs, context)
    assert rows_of(found.attributes) == [{"b", "c"}, {"d"}, {"c"}, {"b", "c"}]  # cup, mug, old, red
    assert {frozenset(row) for row in rows_of(found.texts)} >= {frozenset("c"), frozenset("d")}
    assert found.known_at(datetime(2025, 1, 6, tzinfo=UTC)).tolist() == [False, True, True, False]
    monkeypatch.setattr(module, "_MAX_PRODUCTS", 1.0)
    context = make_context(spark, make_config('sources.enabled=["als","content"]', "validation.max_pairs=3"))
    assert item_facts(inputs, context)[:3] == (4, None, None)
    named = make_context(spark, make_config('sources.enabled=["als"]', "als.item_attributes=[]"))
    assert item_facts(inputs, named)[:3] == (4, None, None)
