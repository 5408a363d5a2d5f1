"""Users are scored by all models in one pass, and are not shown what is hidden from them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.top_k import search_items
from recsys_spark.retrieval import user_lists
from recsys_spark.retrieval.scorers import NewestPlaced, NewestWeighted, UserNeighbors, neighbor_model, vector_model
from recsys_spark.retrieval.user_lists import Personal, propose
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


Lists = dict[int, list[tuple[int, int, float]]]


def _proposed(
    spark: SparkSession, make_config, rows: list[tuple], method: str = "rrf", **sources: Personal
) -> dict[str, Lists]:
    candidates = make_config(f"candidates.method={method}").candidates
    lists: dict[str, Lists] = {name: {} for name in sources}
    for row in propose(sources, _interactions(spark, rows), 3, 5, candidates, CUTOFF).collect():
        lists[row["source"]][row["user_idx"]] = [tuple(item) for item in row["items"]]
        assert row["n_own"] <= len(row["items"]) if method == "scores" else row["n_own"] == len(row["items"])
    return lists


def _scored(
    spark: SparkSession, make_config, rows: list[tuple], n_newest: int = 9, half_life: float = 0.0, k: int = 5
) -> Lists:
    model = neighbor_model(NEAR, NewestWeighted(5, n_newest, half_life, CUTOFF))
    return _proposed(spark, make_config, rows, item_cf=Personal(model, k))["item_cf"]


def test_propose_sums_weight_times_similarity(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 2.0, 1, 1, None), (0, 1, 1.0, 1, 1, None), (2, 1, 1.0, 1, 1, None)]
    assert _scored(spark, make_config, rows) == {
        0: [(3, 1, 2 * 0.25 + 1 * 1.0), (2, 2, 2 * 0.5), (4, 3, 0.125)],
        2: [(3, 1, 1.0), (4, 2, 0.125)],
    }


def test_propose_leaves_out_what_is_seen_or_disliked(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 1.0, 1, 1, None), (0, 2, 0.0, 1, 1, None), (1, 0, 1.0, 1, 1, None), (1, 3, 0.0, 1, 0, FOREVER)]
    assert _scored(spark, make_config, rows) == {0: [(3, 1, 0.25)], 1: [(2, 1, 0.5)]}


def test_propose_takes_the_newest_items_that_have_a_weight(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 1.0, 3, 1, None), (0, 1, 1.0, 9, 1, None), (0, 4, 0.0, 1, 1, None)]
    assert _scored(spark, make_config, rows, n_newest=1) == {0: [(2, 1, 0.5), (3, 2, 0.25)]}


def test_propose_decays_the_history(spark: SparkSession, make_config) -> None:
    rows = [(0, 1, 8.0, 20, 1, None)]
    (first, _) = _scored(spark, make_config, rows, half_life=10.0)[0]
    assert first == (3, 1, pytest.approx(8 * 0.5**2, rel=1e-6))  # float32


def test_propose_cuts_and_normalizes(spark: SparkSession, make_config) -> None:
    rows = [(0, 0, 2.0, 1, 1, None), (0, 1, 1.0, 1, 1, None)]
    mean_of_3 = (2 * 0.25 + 1 * 1.0) / (0.25 + 1.0)
    model = neighbor_model(NEAR, NewestWeighted(5, 9, 0.0, CUTOFF), normalize=True)
    found = _proposed(spark, make_config, rows, item_cf=Personal(model, 2))["item_cf"][0]
    assert found == [(2, 1, 2.0), (3, 2, pytest.approx(mean_of_3, rel=1e-6))]


@pytest.mark.parametrize("users_per_block", [2000, 1])
def test_propose_asks_every_model_of_every_user(
    spark: SparkSession, make_config, monkeypatch: pytest.MonkeyPatch, users_per_block: int
) -> None:
    """User 1 has a vector and nothing else, user 2 no vector; in one block, or each in one of their own."""
    monkeypatch.setattr(user_lists, "_USERS_PER_BLOCK", users_per_block)
    monkeypatch.setattr(user_lists, "_BLOCKS_PER_CORE", 8)
    rows = [(0, 0, 2.0, 2, 1, None), (0, 1, 1.0, 1, 1, None), (2, 1, 8.0, 1, 1, None)]
    vectors = local_frame(spark, [(1, [0.0, 1.0]), (0, [1.0, 0.0])], "user_idx int, vector array<float>")
    items = search_items(np.array([[5, 0], [4, 0], [3, 1], [2, 2], [0, 9]], np.float32), np.array([0, 2, 3]))
    found = _proposed(
        spark,
        make_config,
        rows,
        "scores",
        als=Personal(vector_model(items), 2, vectors),
        successors=Personal(neighbor_model(NEAR, NewestPlaced(5, 2, 1.0)), 1),
        user_cf=Personal(neighbor_model(NEAR, UserNeighbors(Ranked(*ONE_NEAR_USER))), 5),
    )
    # Lists of two, of one and of five go on with what the others proposed, where their source has a score for it.
    assert found == {
        "als": {0: [(2, 1, 3.0), (3, 2, 2.0)], 1: [(3, 1, 2.0), (2, 2, 1.0)]},
        "successors": {0: [(3, 1, 0.5 * 0.25 + 1.0), (2, 2, 0.25)], 2: [(3, 1, 1.0)]},
        "user_cf": {2: [(2, 1, 0.25), (3, 2, 0.125)]},
    }


# User 2 alone has one: the key 0, half as near as could be.
ONE_NEAR_USER = np.array([0, 0, 0, 1]), np.array([0], np.int32), np.array([0.5], np.float32)
