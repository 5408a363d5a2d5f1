"""The graph filter over the cluster is that of a dense singular value decomposition, however its products travel."""

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.low_pass.filter import fit_low_pass
from recsys_spark.warehouse.scratch import scratch_of
from tests.local_frame import local_frame

N_GROUPS = 4


def _groups() -> np.ndarray:
    """Users who have what is of their own group, and hardly anything else; nobody has item 9, user 5 has nothing."""
    rng = np.random.default_rng(12)
    same = np.arange(50)[:, None] % N_GROUPS == np.arange(30) % N_GROUPS
    matrix = np.where(rng.random(same.shape) < np.where(same, 0.8, 0.03), rng.uniform(0.5, 2.0, same.shape), 0.0)
    matrix[5], matrix[:, 9] = 0, 0
    return matrix


def _expected(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Scores of the kernel's formula, of each user but for a factor: their histories' filtered rows."""
    of_users, of_items = matrix.sum(axis=1, keepdims=True), matrix.sum(axis=0, keepdims=True)
    below = np.sqrt(of_users * of_items)
    A = np.divide(matrix, below, out=np.zeros(matrix.shape), where=below > 0)
    _, _, right = np.linalg.svd(A, full_matrices=False)
    V = right[:N_GROUPS].T
    return A @ V @ V.T * of_items**exponent


@pytest.mark.parametrize(("exchange", "exponent"), [("local", 0.5), ("broadcast", 0.5), ("shuffle", 0.25)])
def test_fit_low_pass_gives_the_scores_of_a_dense_svd(
    spark: SparkSession, tmp_path: Path, exchange: str, exponent: float
) -> None:
    matrix = _groups()
    rows = [(int(u), int(i), float(matrix[u, i])) for u, i in zip(*np.nonzero(matrix), strict=True)]
    pairs = local_frame(spark, rows, "user_idx int, item_idx int, weight double").repartition(2)
    als = load_config(sets=(f"als.exchange={exchange}", f"als.factors={N_GROUPS}")).als
    found = fit_low_pass(pairs, 50, 30, exponent, 9, als, 3, scratch_of(tmp_path, "run", "retrieve/low_pass"))
    users = np.zeros((50, N_GROUPS))
    for row in found.users.collect():
        users[row["user_idx"]] = row["vector"]
    np.testing.assert_allclose(users @ found.items.T, _expected(matrix, exponent), atol=2e-4)
    assert found.singular[0] == pytest.approx(1.0, abs=1e-4)
    assert (np.diff(found.singular) <= 0).all()
