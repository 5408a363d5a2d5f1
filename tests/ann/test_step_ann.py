"""The step writes a manifest that holds every item that may be shown, or refuses what finds too little."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.ann import step_ann
from recsys_spark.ann.kernels.index_choice import ladder
from recsys_spark.ann.shard_files import open_shard
from recsys_spark.config.load import load_config
from recsys_spark.context import Context
from recsys_spark.errors import GateRefused
from recsys_spark.warehouse.tables import ANN_SHARDS
from tests.clustered import clustered, clustered_queries
from tests.engagement import make_context
from tests.kept_rows import kept_rows
from tests.local_frame import local_frame

N_ITEMS, N_USERS, DIM = 300, 40, 8
Y = clustered(N_ITEMS, DIM, seed=1)
X = clustered_queries(Y, N_USERS, seed=2)
HIDDEN = 7  # may not be shown
VECTOR = "vector array<float>, norm float, model_version string"
CATALOGUE = "item_id string, category string"
SMALL = ("two_tower.dim=8", 'ann.factory="IVF8,PQ4x4"', "ann.items_per_shard=200", "ann.min_recall=0.5")


def _tables(spark: SparkSession, lengths: np.ndarray | None = None) -> dict[str, DataFrame]:
    vectors = Y if lengths is None else Y * lengths[:, None]
    norms = np.linalg.norm(vectors, axis=1)
    items = [
        (f"item-{idx}", idx, vector.tolist(), float(norms[idx]), "m1", idx != HIDDEN)
        for idx, vector in enumerate(vectors)
    ]
    users = [(f"user-{idx}", idx, vector.tolist(), 1.0, "m1") for idx, vector in enumerate(X)]
    catalogue = [(f"item-{idx}", "AB"[idx % 2]) for idx in range(N_ITEMS)]
    return {
        "item_embeddings": local_frame(spark, items, f"item_id string, item_idx int, {VECTOR}, shown boolean"),
        "user_embeddings": local_frame(spark, users, f"user_id string, user_idx int, {VECTOR}"),
        "items": local_frame(spark, catalogue, CATALOGUE),
    }


def _context(spark: SparkSession, make_config: Any, *sets: str) -> Context:
    return make_context(spark, make_config(*SMALL, *sets))


def _run(tables: dict[str, DataFrame], context: Context) -> list[dict[str, Any]]:
    rows = kept_rows(step_ann.run(tables, context)["ann_shards"], ANN_SHARDS)
    return sorted((row.asDict() for row in rows), key=lambda row: row["shard"])


Indexed = tuple[list[dict[str, Any]], Context]


@pytest.fixture(scope="module")
def indexed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """The rows of an index of all items, and the context of the run."""
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    context = make_context(spark, load_config(sets=(root, *SMALL)))
    return _run(_tables(spark), context), context


def test_run_indexes_what_may_be_shown_and_records_how_to_search_it(indexed: Indexed) -> None:
    rows, context = indexed
    shards = [open_shard(context.config.root, row) for row in rows]
    held = np.sort(np.concatenate([shard.ids for shard in shards]))
    assert held.tolist() == [idx for idx in range(N_ITEMS) if idx != HIDDEN]
    figures = context.figures
    assert (figures["n_items"], figures["n_shards"], figures["n_parts"]) == (N_ITEMS - 1, 2, 1)
    assert {(row["factory"], row["rerank"], row["model_version"], row["n_shards"]) for row in rows} == {
        ("IVF8,PQ4x4", 4, "m1", 2)
    }
    (nprobe,) = {row["nprobe"] for row in rows}
    reached = {n: figures[f"recall_at_100_nprobe_{n}"] for n in ladder(8)}
    assert nprobe == figures["nprobe"] == min(n for n, recall in reached.items() if recall >= 0.5)
    assert {row["recall_at_100"] for row in rows} == {reached[nprobe]} == {figures["recall_at_100"]}
    assert figures["raw_bytes_per_vector"] == 4 * DIM
    assert figures["bytes_per_vector"] == sum(row["n_bytes"] for row in rows) / (N_ITEMS - 1)


def test_run_refuses_an_index_that_finds_too_little_with_all_that_was_measured(
    spark: SparkSession, make_config: Any
) -> None:
    context = _context(spark, make_config, "ann.min_recall=1.0", "ann.rerank=1", "ann.items_per_shard=999")
    with pytest.raises(GateRefused) as refused:
        step_ann.run(_tables(spark), context)
    said = str(refused.value)
    assert "part all of 299 items, IVF8,PQ4x4: expected a recall@100 of at least 1.0" in said
    assert re.search(r"nprobe 1: recall@10 .*\nnprobe 2: .*\nnprobe 4: .*\nnprobe 8: recall@10", said)


@pytest.fixture(scope="module")
def parts(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of an index for every category, of embeddings whose lengths differ."""
    sets = ("ann.partition_by=category", "two_tower.normalize=false", 'ann.factory="IVF8,Flat"', "ann.min_recall=1.0")
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    context = make_context(spark, load_config(sets=(root, *SMALL, *sets)))
    return _run(_tables(spark, np.linspace(0.2, 4.0, N_ITEMS)), context)


def test_run_makes_an_index_for_every_part(parts: list[dict[str, Any]]) -> None:
    assert [(row["part"], row["shard"], row["n_shards"], row["ntotal"]) for row in parts] == [
        ("A", 0, 1, 150), ("B", 1, 1, 149),
    ]  # fmt: skip
    assert {row["recall_at_100"] for row in parts} == {1.0}


def test_run_without_normalized_embeddings_indexes_products(parts: list[dict[str, Any]]) -> None:
    assert {row["d"] for row in parts} == {16}
    assert {row["recall_at_100"] for row in parts} == {1.0}


def test_run_of_a_day_without_towers_has_no_rows(spark: SparkSession, make_config: Any) -> None:
    tables = {name: frame.limit(0) for name, frame in _tables(spark).items()}
    assert _run(tables, _context(spark, make_config)) == []


def test_run_without_users_searches_every_list(spark: SparkSession, make_config: Any) -> None:
    tables = _tables(spark)
    tables["user_embeddings"] = tables["user_embeddings"].limit(0)
    rows = _run(tables, _context(spark, make_config))
    assert {(row["nprobe"], row["recall_at_100"]) for row in rows} == {(8, None)}  # nothing was measured


def test_run_again_gives_the_same_rows(spark: SparkSession, indexed: Indexed) -> None:
    rows, context = indexed
    tables = {name: frame.repartition(3) for name, frame in _tables(spark).items()}
    assert _run(tables, replace(context, figures={})) == rows


@pytest.fixture(scope="module")
def small_parts(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The rows of a part of six items, at one a shard, and of a part of one; with one user."""
    tables = _tables(spark)
    tables["item_embeddings"] = tables["item_embeddings"].where("item_idx = 3 or item_idx >= 20 and item_idx < 26")
    tables["user_embeddings"] = tables["user_embeddings"].where("user_idx = 0")
    catalogue = [("item-3", "one"), *((f"item-{idx}", "six") for idx in range(20, 26))]
    tables["items"] = local_frame(spark, catalogue, CATALOGUE)
    sets = ("ann.partition_by=category", 'ann.factory=""', "ann.items_per_shard=1", "ann.min_recall=1.0")
    root = f"storage.root={tmp_path_factory.mktemp('warehouse')}"
    rows = _run(tables, make_context(spark, load_config(sets=(root, *SMALL, *sets))))
    return {part: [row for row in rows if row["part"] == part] for part in ("one", "six")}


def test_run_with_more_shards_than_items_leaves_out_the_empty_ones(
    small_parts: dict[str, list[dict[str, Any]]],
) -> None:
    rows = small_parts["six"]
    assert sum(row["ntotal"] for row in rows) == 6
    assert len(rows) < 6 == rows[0]["n_shards"]  # the hash has left at least one empty
    assert {row["recall_at_100"] for row in rows} == {1.0}


def test_run_of_one_item_and_one_user_is_an_index(small_parts: dict[str, list[dict[str, Any]]]) -> None:
    (row,) = small_parts["one"]
    assert (row["ntotal"], row["factory"], row["nprobe"], row["min_item_idx"]) == (1, "Flat", 1, 3)
