"""Validation and hard items against loops: what a user had is not found again, what they got later is what counts."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.numeric.top_k import search_items
from recsys_spark.two_tower.kernels.batches import NONE
from recsys_spark.two_tower.kernels.validation import hard_items, validated_metrics, validated_rows
from tests.two_groups import Entry, shard_of

N_ITEMS = 8
_histories = st.lists(
    st.lists(
        st.tuples(st.integers(0, N_ITEMS - 1), st.integers(0, 4), st.sampled_from([0.0, 1.0])),
        max_size=6,
        unique_by=lambda entry: entry[0],
    ),
    max_size=6,
)
SPLIT = 2
Histories = list[list[Entry]]


def _had(history: list[Entry]) -> set[int]:
    return {item for item, time, _ in history if time < SPLIT}


def _wanted(history: list[Entry]) -> set[int]:
    return {item for item, time, weight in history if time >= SPLIT and weight > 0}


def _judged(histories: Histories) -> list[int]:
    return [user for user, history in enumerate(histories) if _had(history) and _wanted(history)]


def _best(query: np.ndarray, vectors: np.ndarray, hidden: set[int]) -> list[int]:
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    return sorted(set(range(N_ITEMS)) - hidden, key=lambda item: (-scores[item], item))


def _vectors(seed: int, n: int) -> np.ndarray:
    """Of small integers, so that scores are exact and ties many; none of zeros."""
    found = np.random.default_rng(seed).integers(-2, 3, (n, 3)).astype(np.float32)
    found[~found.any(axis=1)] = 1.0
    return found


@given(_histories, st.data())
def test_validated_rows_have_a_past_and_something_new(histories: Histories, data: st.DataObject) -> None:
    validated = np.array([data.draw(st.booleans()) for _ in histories], bool)
    found = validated_rows(shard_of(histories), validated, SPLIT)
    assert found.tolist() == [user for user in _judged(histories) if validated[user]]


@settings(deadline=None)
@given(_histories, st.integers(1, 5), st.integers(0, 99))
def test_judge_matches_a_loop(histories: Histories, k: int, seed: int) -> None:
    shard, rows = shard_of(histories), np.array(_judged(histories), np.int64)
    users, vectors = _vectors(seed, len(rows)), _vectors(seed + 100, N_ITEMS)
    recalls, ndcgs = [], []
    for row, query in zip(rows, users, strict=True):
        had, wanted = _had(histories[row]), _wanted(histories[row])
        hits = [item in wanted for item in _best(query, vectors, had)[:k]]
        gained = sum(hit / log2(rank + 1) for rank, hit in enumerate(hits, 1))
        recalls.append(sum(hits) / len(wanted))
        ndcgs.append(gained / sum(1 / log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1)))
    recall, ndcg = validated_metrics(shard, rows, SPLIT, users, search_items(vectors, None), k)
    np.testing.assert_allclose(recall, recalls, rtol=1e-12)
    np.testing.assert_allclose(ndcg, ndcgs, rtol=1e-12)


@settings(deadline=None)
@given(_histories, st.integers(1, N_ITEMS), st.integers(0, 99))
def test_hard_items_are_the_best_that_the_user_never_had(histories: Histories, n_items: int, seed: int) -> None:
    shown = np.full((len(histories), 2), 77, np.int32)
    users, vectors = _vectors(seed, len(histories)), _vectors(seed + 100, N_ITEMS)
    found = hard_items(shard_of(histories, shown=shown), users, search_items(vectors, None), n_items)
    assert (found.shape, found.dtype) == ((len(histories), 2 + n_items), np.int32)
    for row, history in enumerate(histories):
        best = _best(users[row], vectors, {item for item, _, _ in history})[:n_items]
        assert found[row].tolist() == [77, 77, *best, *[NONE] * (n_items - len(best))]


@pytest.mark.parametrize("n_items", [N_ITEMS, N_ITEMS + 5])
def test_hard_items_may_be_more_than_there_are(n_items: int) -> None:
    found = hard_items(shard_of([[(0, 0, 1.0)]]), np.ones((1, 2), "f4"), search_items(np.ones((3, 2)), None), n_items)
    assert found.tolist() == [[1, 2, *[NONE] * (n_items - 2)]]
