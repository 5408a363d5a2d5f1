"""The source `two_tower` follows the embeddings of the run, of items that nobody has had too."""

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.sources import check_params, two_tower
from recsys_spark.steps import index, interactions
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.check import check_schema
from recsys_spark.tables.spark import spark_schema
from tests.engagement import TYPES_SET, Event, before, make_context, make_events, make_items, make_users
from tests.index_files import make_shards

# The last of them may not be shown; nobody has had the third.
VECTORS = {"a": ([1.0, 0.0], True), "b": ([0.6, 0.8], True), "new": ([0.8, 0.6], True), "old": ([1.0, 0.0], False)}
LOG = [Event("ann", "a", "buy", before(days=1)), Event("bob", "b", "buy", before(days=1))]


def _lists(spark: SparkSession, make_config, *sets: str) -> dict[str, list[str]]:
    config = make_config(TYPES_SET, 'sources.enabled=["two_tower"]', *sets)
    context = make_context(spark, config)
    items, users = make_items(spark, {name: {} for name in VECTORS}), make_users(spark, {"cold": {}})
    tables = {"events": make_events(spark, LOG), "items": items, "users": users}
    tables |= index.run(tables, context)
    tables |= interactions.run(tables, context)
    ids = {row.item_id: row.item_idx for row in tables["item_index"].collect()}
    people = {row.user_id: row.user_idx for row in tables["user_index"].collect()}
    rows = [(ids[name], *vector) for name, vector in VECTORS.items()]
    tables["item_embeddings"] = spark.createDataFrame(rows, "item_idx int, vector array<float>, shown boolean")
    rows = [(idx, [1.0, 0.0]) for idx in people.values()]
    # The index holds what may be shown, which here are the first three.
    shown = np.array([VECTORS[name][0] for name in sorted(VECTORS) if VECTORS[name][1]], np.float32)
    shards = make_shards(config.root, shown, 2, "Flat")
    schema = spark_schema(TABLES["ann_shards"], without=("run_id",))
    tables["ann_shards"] = spark.createDataFrame([tuple(row[name] for name in schema.names) for row in shards], schema)
    tables["user_embeddings"] = spark.createDataFrame(rows, "user_idx int, vector array<float>")
    frame = two_tower.generate(
        {name: tables[name] for name in two_tower.READS}, check_params(config)["two_tower"], context
    )
    check_schema(frame, TABLES["source_candidates"], without=("run_id",))
    names = {idx: name for name, idx in ids.items()}
    by_user = {row.user_idx: [names[one.item_idx] for one in row["items"]] for row in frame.collect()}
    assert {row.source for row in frame.select("source").distinct().collect()} == {"two_tower"}
    return {user: by_user[idx] for user, idx in people.items()}


@pytest.mark.parametrize("search", ["exact", "ann"])
def test_generate_ranks_by_product_without_what_a_user_had(spark: SparkSession, make_config, search: str) -> None:
    lists = _lists(spark, make_config, f"ann.search={search}")
    assert lists == {"ann": ["new", "b"], "bob": ["a", "new"], "cold": ["a", "new", "b"]}


def test_generate_cuts_its_lists_and_keeps_what_was_seen_if_the_policy_does(spark: SparkSession, make_config) -> None:
    lists = _lists(spark, make_config, "sources.two_tower.max_items=1", "candidates.seen=keep")
    assert lists == {"ann": ["a"], "bob": ["a"], "cold": ["a"]}
