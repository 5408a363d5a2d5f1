"""Through shards every user gets what exact search gives, when every list is searched and re-ranked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.ann import index_search
from recsys_spark.ann.exact_search import search_users
from recsys_spark.ann.index_search import search_shards, takes_index
from recsys_spark.config.load import load_config
from recsys_spark.numeric.top_k import search_items
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import ANN_SHARDS
from tests.clustered import clustered, clustered_queries
from tests.index_files import make_shards

N_USERS, N_ITEMS, DIM = 60, 500, 8
Y = clustered(N_ITEMS, DIM, seed=1)
X = clustered_queries(Y, N_USERS, seed=2)
# One user has had nothing, one nearly everything, and they come in no order of that.
SHARES = np.random.default_rng(4).permutation(np.linspace(0, 0.99, N_USERS))
HIDDEN = np.random.default_rng(3).random((N_USERS, N_ITEMS)) < SHARES[:, None]


def _users(spark: SparkSession) -> DataFrame:
    rows = [(idx, vector.tolist()) for idx, vector in enumerate(X) if idx != 5]  # one has no vector
    return spark.createDataFrame(rows[::-1], "user_idx int, vector array<float>").repartition(3)


def _hidden(spark: SparkSession) -> DataFrame:
    pairs = [(int(user), int(item)) for user, item in zip(*np.nonzero(HIDDEN), strict=True)]
    return spark.createDataFrame(pairs, "user_idx int, item_idx int").repartition(2)


def _shards(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    schema = spark_schema(ANN_SHARDS, without=("run_id",))
    return spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)


def _lists(frame: DataFrame) -> dict[int, list[tuple[int, float]]]:
    rows = frame.collect()
    assert len({row["user_idx"] for row in rows}) == len(rows)
    return {row["user_idx"]: [(item["item_idx"], item["score"]) for item in row["items"]] for row in rows}


@pytest.mark.parametrize(("n_shards", "per_block"), [(1, 2000), (3, 25)])
def test_search_shards_gives_the_lists_of_exact_search(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_shards: int, per_block: int
) -> None:
    monkeypatch.setattr(index_search, "_USERS_PER_BLOCK", per_block)
    shards = _shards(spark, make_shards(tmp_path, Y, n_shards, "IVF8,Flat"))
    found = search_shards(_users(spark), _hidden(spark), N_USERS, shards, tmp_path, "two_tower", 20)
    exact = search_users(_users(spark), _hidden(spark), N_USERS, search_items(Y, None), "two_tower", 20)
    assert _lists(found) == _lists(exact)  # the scores too, bit by bit


def test_search_shards_never_gives_what_is_hidden(spark: SparkSession, tmp_path: Path) -> None:
    shards = _shards(spark, make_shards(tmp_path, Y, 2, "IVF8,PQ4x4", nprobe=2))
    lists = _lists(search_shards(_users(spark), _hidden(spark), N_USERS, shards, tmp_path, "two_tower", 20))
    assert all(not HIDDEN[user, item] for user, entries in lists.items() for item, _ in entries)
    assert len(lists) >= N_USERS - 2


def test_search_shards_of_no_index_gives_no_lists(spark: SparkSession, tmp_path: Path) -> None:
    assert search_shards(_users(spark), _hidden(spark), N_USERS, _shards(spark, []), tmp_path, "x", 5).count() == 0


@pytest.mark.parametrize(
    ("n_items", "search", "expected"),
    [
        (10, "exact", False),
        (10**9, "exact", False),
        (10, "ann", True),
        (99_999, "auto", False),
        (100_000, "auto", True),
    ],
)
def test_takes_index_by_setting_and_size(n_items: int, search: str, expected: bool) -> None:
    assert takes_index(n_items, load_config(sets=(f"ann.search={search}",))) is expected


def test_takes_index_of_what_is_too_large_to_be_sent() -> None:
    config = load_config(sets=("ann.exact_below=100000000",))
    largest = index_search.MAX_VECTOR_BYTES // (4 * config.two_tower.dim)
    assert [takes_index(n, config) for n in (largest, largest + 1)] == [False, True]
