"""Recall through Spark is what a search of the shards gives, held against all products."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.ann import recall as ann_recall
from recsys_spark.ann.index_build import Part
from recsys_spark.ann.kernels.faiss_index import search
from recsys_spark.ann.kernels.index_choice import choose_index, ladder
from recsys_spark.ann.recall import Recall, measure_recall, recall_table, sampled_users, serving_nprobe
from recsys_spark.ann.shard_files import open_shard
from tests.clustered import clustered, clustered_queries
from tests.index_files import make_shards

N_ITEMS, N_USERS, DIM = 600, 50, 8
Y = clustered(N_ITEMS, DIM, seed=1)
X = clustered_queries(Y, N_USERS, seed=2)
RERANK = 2


@pytest.fixture
def built(tmp_path: Path) -> tuple[list[dict[str, Any]], list[Part]]:
    choice = choose_index(N_ITEMS, DIM, 1 << 30, "IVF8,PQ4x4")
    return make_shards(tmp_path, Y, 1, choice.factory), [Part(None, N_ITEMS, 0, 1, choice)]


def _oracle(root: Path, row: dict[str, Any], nprobe: int, k: int) -> float:
    """Recall at k of the candidates that the index gives, the best of them by all their products."""
    products = X.astype(np.float64) @ Y.T.astype(np.float64)
    hits = 0
    _, ids = search(open_shard(root, row).index, X, min(RERANK * k, N_ITEMS), nprobe)
    for user in range(N_USERS):
        found = [one for one in ids[user].tolist() if one >= 0]
        best = sorted(found, key=lambda one: (-products[user, one], one))[:k]
        exact = sorted(range(N_ITEMS), key=lambda one: (-products[user, one], one))[:k]
        hits += len(set(best) & set(exact))
    return hits / (N_USERS * k)


def test_measure_recall_is_that_of_a_search(
    spark: SparkSession, tmp_path: Path, built: tuple[list[dict[str, Any]], list[Part]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann_recall, "_CHUNK", 20)  # the last chunk has 10 users
    monkeypatch.setattr(ann_recall, "_EXACT_BYTES", 250 * 4 * DIM)  # the vectors pass by in three pieces
    rows, parts = built
    measured = measure_recall(spark, rows, parts, X, RERANK, tmp_path)
    assert [(one.nprobe, one.k) for one in measured] == [(n, k) for n in ladder(8) for k in (10, 100, 500)]
    for one in measured:
        assert one.recall == pytest.approx(_oracle(tmp_path, rows[0], one.nprobe, one.k), abs=1e-12)
    # A recall of 1 at once would show nothing.
    assert measured[0].recall < 0.9 < [one.recall for one in measured if one.k == 100][-1]


def test_measure_recall_of_shards_that_are_searched_whole_is_one(spark: SparkSession, tmp_path: Path) -> None:
    parts = [Part(None, N_ITEMS, 0, 3, choose_index(N_ITEMS, DIM, 1 << 30, "IVF8,Flat"))]
    rows = make_shards(tmp_path, Y, 3, "IVF8,Flat")
    measured = measure_recall(spark, rows, parts, X, RERANK, tmp_path)
    assert {one.k: one.recall for one in measured if one.nprobe == 8} == {10: 1.0, 100: 1.0, 500: 1.0}


def test_sampled_users_are_the_same_from_any_partitions(spark: SparkSession) -> None:
    rows = [(f"user-{idx}", vector.tolist()) for idx, vector in enumerate(X)]
    users = spark.createDataFrame(rows, "user_id string, vector array<float>")
    found = sampled_users(users.repartition(3), 20, seed=1)
    np.testing.assert_array_equal(found, sampled_users(users.repartition(2), 20, seed=1))
    assert found.shape == (20, DIM)
    assert (found != sampled_users(users, 20, seed=2)).any()
    assert sampled_users(users, 100, seed=1).shape == (N_USERS, DIM)
    assert len(sampled_users(users.limit(0), 100, seed=1)) == 0


MEASURED = [Recall(0, 1, 100, 0.5), Recall(0, 2, 100, 0.8), Recall(0, 4, 100, 0.9), Recall(1, 1, 100, 1.0)]


@pytest.mark.parametrize(("part", "least", "nprobe"), [(0, 0.8, 2), (0, 0.81, 4), (0, 0.91, None), (1, 0.91, 1)])
def test_serving_nprobe_is_the_smallest_that_finds_enough(part: int, least: float, nprobe: int | None) -> None:
    assert serving_nprobe([Recall(0, 1, 10, 1.0), *MEASURED], part, least) == nprobe


def test_recall_table_has_a_line_per_nprobe() -> None:
    assert recall_table([Recall(0, 2, 10, 1.0), *MEASURED], 0) == (
        "nprobe 1: recall@100 0.5000\nnprobe 2: recall@10 1.0000, recall@100 0.8000\nnprobe 4: recall@100 0.9000"
    )
