"""The source `two_tower` follows the embeddings of the run, of items that nobody has had too."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.warehouse.spark_check import check_schema, spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.engagement import TYPES_SET, Event, before, make_context
from tests.index_files import make_shards
from tests.indexed_log import indexed_log, names_of
from tests.proposed import proposed

# The last of them may not be shown; nobody has had the third.
VECTORS = {"a": ([1.0, 0.0], True), "b": ([0.6, 0.8], True), "new": ([0.8, 0.6], True), "old": ([1.0, 0.0], False)}
LOG = [Event("ann", "a", "buy", before(days=1)), Event("bob", "b", "buy", before(days=1))]


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataFrame]:
    """The tables of the log and the embeddings of its users and items, of which an index holds those to be shown."""
    config = load_config(sets=(f"storage.root={tmp_path_factory.mktemp('two_tower')}", TYPES_SET))
    made = indexed_log(make_context(spark, config), LOG, users=["cold"], items=VECTORS)
    ids = {name: idx for idx, name in names_of(made, "item").items()}
    rows = [(ids[name], *vector) for name, vector in VECTORS.items()]
    made["item_embeddings"] = spark.createDataFrame(rows, "item_idx int, vector array<float>, shown boolean")
    rows = [(idx, [1.0, 0.0]) for idx in names_of(made, "user")]
    made["user_embeddings"] = spark.createDataFrame(rows, "user_idx int, vector array<float>")
    return made


def _lists(spark: SparkSession, make_config, tables: dict[str, DataFrame], *sets: str) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["two_tower"]', *sets)
    # The index holds what may be shown, which here are the first three.
    shown = np.array([VECTORS[name][0] for name in sorted(VECTORS) if VECTORS[name][1]], np.float32)
    shards = make_shards(config.root, shown, 2, "Flat")
    schema = spark_schema(TABLES["ann_shards"], without=("run_id",))
    rows = [tuple(row[name] for name in schema.names) for row in shards]
    inputs = tables | {"ann_shards": spark.createDataFrame(rows, schema)}
    frame = proposed("two_tower", inputs, make_context(spark, config))
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    users, items = names_of(tables, "user"), names_of(tables, "item")
    found = frame.collect()
    assert {row.source for row in found} == {"two_tower"}
    return {users[row.user_idx]: [items[one.item_idx] for one in row["items"]] for row in found}


@pytest.mark.parametrize("search", ["exact", "ann"])
def test_generate_ranks_by_product_without_what_a_user_had(
    spark: SparkSession, make_config, tables, search: str
) -> None:
    lists = _lists(spark, make_config, tables, f"ann.search={search}")
    assert lists == {"ann": ["new", "b"], "bob": ["a", "new"], "cold": ["a", "new", "b"]}


def test_generate_cuts_its_lists_and_keeps_what_was_seen_if_the_policy_does(
    spark: SparkSession, make_config, tables
) -> None:
    lists = _lists(spark, make_config, tables, "sources.two_tower.max_items=1", "candidates.seen=keep")
    assert lists == {"ann": ["a"], "bob": ["a"], "cold": ["a"]}
