"""Users are scored by their newest weighted items, and are not shown what is hidden from them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.adapters.csr import RowBlock
from recsys_spark.adapters.neighbor_scores import newest_weighted, rows_of_block, score_users, user_blocks
from recsys_spark.kernels.ranked import Ranked
from tests.local_frame import local_frame

CUTOFF = datetime(2025, 3, 1, tzinfo=UTC)
FOREVER = datetime(2200, 1, 1, tzinfo=UTC)
# Items 0 and 1 are near to 2, 3 and 4 with these similarities.
NEAR = Ranked(
    np.array([0, 2, 4, 4, 4, 4]), np.array([2, 3, 3, 4], np.int32), np.array([0.5, 0.25, 1.0, 0.125], np.float32)
)


def _interactions(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    """rows: user, item, weight, days ago, n_events, excluded_until."""
    timed = [(u, i, w, CUTOFF - timedelta(days=days), n, until) for u, i, w, days, n, until in rows]
    schema = "user_idx int, item_idx int, weight float, last_time timestamp, n_events int, excluded_until timestamp"
    return local_frame(spark, timed, schema)


def _lists(frame: DataFrame) -> dict[int, list[tuple[int, int, float]]]:
    return {row.user_idx: [tuple(item) for item in row["items"]] for row in frame.collect()}


def _scored(spark: SparkSession, make_config, rows: list[tuple], n_newest: int = 9, half_life: float = 0.0, **options):
    blocks = user_blocks(_interactions(spark, rows), 3, make_config().candidates, CUTOFF)
    history = newest_weighted(5, n_newest, half_life, CUTOFF)
    return _lists(score_users(blocks, history, NEAR, 5, "item_cf", options.pop("k", 5), **options))


def test_score_users_sums_weight_times_similarity(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 2.0, 1, 1, None), (0, 1, 1.0, 1, 1, None), (2, 1, 1.0, 1, 1, None)]
    assert _scored(spark, make_config, rows) == {
        0: [(3, 1, 2 * 0.25 + 1 * 1.0), (2, 2, 2 * 0.5), (4, 3, 0.125)],
        2: [(3, 1, 1.0), (4, 2, 0.125)],
    }


def test_score_users_leaves_out_what_is_seen_or_disliked(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 1.0, 1, 1, None), (0, 2, 0.0, 1, 1, None), (1, 0, 1.0, 1, 1, None), (1, 3, 0.0, 1, 0, FOREVER)]
    assert _scored(spark, make_config, rows) == {0: [(3, 1, 0.25)], 1: [(2, 1, 0.5)]}


def test_score_users_takes_the_newest_items_that_have_a_weight(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 1.0, 3, 1, None), (0, 1, 1.0, 9, 1, None), (0, 4, 0.0, 1, 1, None)]
    assert _scored(spark, make_config, rows, n_newest=1) == {0: [(2, 1, 0.5), (3, 2, 0.25)]}


def test_score_users_decays_the_history(spark: SparkSession, make_config) -> None:
    rows = [(0, 1, 8.0, 20, 1, None)]
    (first, _) = _scored(spark, make_config, rows, half_life=10.0)[0]
    assert first == (3, 1, pytest.approx(8 * 0.5**2, rel=1e-6))  # float32


def test_score_users_cuts_and_normalizes(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 2.0, 1, 1, None), (0, 1, 1.0, 1, 1, None)]
    mean_of_3 = (2 * 0.25 + 1 * 1.0) / (0.25 + 1.0)
    found = _scored(spark, make_config, rows, k=2, normalize=True)[0]
    assert found == [(2, 1, 2.0), (3, 2, pytest.approx(mean_of_3, rel=1e-6))]


def test_rows_of_block_are_those_of_its_own_users(spark: SparkSession) -> None:
    block = RowBlock(1, np.array([0, 1, 1]), np.array([3], np.int32), {})
    lists = Ranked(np.array([0, 1, 3, 4]), np.array([9, 8, 7, 6], np.int32), np.ones(4, np.float32))
    history = rows_of_block(lists, spark)(block)
    assert (history.indptr.tolist(), history.indices.tolist()) == ([0, 2, 3], [8, 7, 6])
