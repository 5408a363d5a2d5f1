"""Ranked lists, and the heap that keeps the best."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.numeric.ranked import Ranked, best_of_rows, joined, merged, offer, ranked_of_rows, sort_best_first
from tests.item_cf_oracle import lists_of

# Few scores, so that many are equal.
OFFERS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1.0, 2.0, 3.0])), unique_by=lambda one: one[0])


def best(offers: list[tuple[int, float]], room: int) -> list[tuple[int, float]]:
    indices, scores, size = np.empty(room, np.int32), np.empty(room, np.float32), 0
    for index, score in offers:
        size = offer(indices, scores, size, index, np.float32(score))
    sort_best_first(indices, scores, size)
    return list(zip(indices[:size].tolist(), scores[:size].tolist(), strict=True))


@given(OFFERS, st.integers(1, 12))
@settings(deadline=None)  # the first example compiles
def test_offer_keeps_the_best_by_score_then_smaller_index(offers: list[tuple[int, float]], room: int) -> None:
    assert best(offers, room) == sorted(offers, key=lambda one: (-one[1], one[0]))[:room]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_offer_breaks_ties_by_smaller_index_in_every_order(order: tuple[int, ...]) -> None:
    assert best([(index, 1.0) for index in order], 2) == [(0, 1.0), (1, 1.0)]


def test_sort_best_first_of_nothing_is_nothing() -> None:
    assert best([], 3) == []


def test_ranked_of_rows_takes_the_left_of_each_row() -> None:
    indices = np.array([[4, 9], [9, 9], [5, 6]], np.int32)
    scores = np.array([[2.0, np.nan], [np.nan, np.nan], [3.0, 1.0]], np.float32)
    lists = ranked_of_rows(np.array([1, 0, 2]), indices, scores)
    assert lists_of(lists) == [[(4, 2.0)], [], [(5, 3.0), (6, 1.0)]]


def test_joined_puts_lists_one_after_the_other() -> None:
    parts = [Ranked(np.array([0, 2, 2]), np.array([3, 1], np.int32), np.array([2.0, 1.0], np.float32)),
             Ranked(np.array([0, 1]), np.array([7], np.int32), np.array([5.0], np.float32))]  # fmt: skip
    assert lists_of(joined(parts)) == [[(3, 2.0), (1, 1.0)], [], [(7, 5.0)]]


@given(st.lists(OFFERS, min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 12))
@settings(deadline=None)
def test_merged_keeps_the_best_over_all_parts(rows: list[list[tuple[int, float]]], n_parts: int, k: int) -> None:
    """Every row's entries are dealt out to the parts by their index."""
    dealt = [[sorted((one for one in row if one[0] % n_parts == part), key=lambda one: (-one[1], one[0]))
              for row in rows] for part in range(n_parts)]  # fmt: skip
    found = lists_of(merged([_ranked(part) for part in dealt], k))
    assert found == [sorted(row, key=lambda one: (-one[1], one[0]))[:k] for row in rows]


def _ranked(rows: list[list[tuple[int, float]]]) -> Ranked:
    flat = [one for row in rows for one in row]
    return Ranked(
        np.cumsum([0, *map(len, rows)], dtype=np.int64),
        np.array([index for index, _ in flat], np.int32),
        np.array([score for _, score in flat], np.float32),
    )


@given(st.lists(OFFERS, max_size=4), st.integers(1, 5))
@settings(deadline=None)  # the first example compiles
def test_best_of_rows_keeps_the_best_above_nothing_of_every_row(rows: list[list[tuple[int, float]]], k: int) -> None:
    shifted = [[(index, score - 1.0) for index, score in row] for row in rows]  # the lowest say nothing
    flat = [entry for row in shifted for entry in row]
    indptr = np.cumsum([0, *map(len, rows)])
    indices, scores = (np.array([entry[at] for entry in flat]) for at in (0, 1))
    found = best_of_rows(indptr, indices.astype(np.int32), scores.astype(np.float32), k)
    kept = [[entry for entry in row if entry[1] > 0] for row in shifted]
    assert lists_of(found) == [sorted(row, key=lambda one: (-one[1], one[0]))[:k] for row in kept]
