from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.walks import admit, index_shared, rows_of, walk_own, walk_shared
from recsys_spark.errors import KernelError
from recsys_spark.numeric.ragged import ragged
from tests.ranked_lists import ranked

N_ITEMS = 400

a_list = st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=60)


@given(
    st.lists(st.tuples(st.integers(0, 4), a_list), max_size=8),
    st.lists(st.sets(st.integers(0, N_ITEMS - 1), max_size=200), min_size=5, max_size=5),
    st.integers(1, 50),
)
@settings(max_examples=200, deadline=None)
def test_walk_own_matches_a_plain_loop(lists: list[tuple[int, list[int]]], excluded: list[set[int]], k: int) -> None:
    users = np.array([user for user, _ in lists], np.int64)
    walked = walk_own(ranked([items for _, items in lists]), users, ragged([sorted(one) for one in excluded]), k)
    for (user, items), found, scores in zip(lists, walked.items.tolist(), walked.scores.tolist(), strict=True):
        expected = [(item, at) for at, item in enumerate(items) if item not in excluded[user]][:k]
        assert found == [item for item, _ in expected] + [-1] * (k - len(expected))
        # Scores fall by 1 from place to place: they tell that an item kept its own.
        assert [round(first - last) for first, last in pairwise(scores[: len(expected)])] == [
            last - first for (_, first), (_, last) in pairwise(expected)
        ]


def test_rows_of_gives_who_has_no_list_nothing() -> None:
    walked = walk_own(ranked([[1, 2], [3], [4]]), np.array([0, 2, 2]), ragged([[], [], []]), 2)
    found = rows_of(walked, np.array([0, 2]), np.array([0, 2]), 3)
    assert found.items.tolist() == [[1, 2], [-1, -1], [4, -1]]
    assert found.scores[2, 0] == walked.scores[2, 0]


def test_walk_shared_passes_excluded_items_beyond_the_first_k() -> None:
    # The first 997 of 1000 items are excluded: a list fetched to k + some margin would have come back empty.
    shared = index_shared(ranked([list(range(1000))]))
    walked = walk_shared(shared, np.zeros(1, np.int64), ragged([list(range(997))]), 5)
    assert walked.items.tolist() == [[997, 998, 999, -1, -1]]


def test_walk_shared_gives_nothing_to_a_user_without_a_list() -> None:
    walked = walk_shared(index_shared(ranked([[1, 2]])), np.array([-1, 0]), ragged([[1], [1]]), 2)
    assert walked.items.tolist() == [[-1, -1], [2, -1]]


def test_walks_give_nothing_when_all_lists_are_empty() -> None:
    excluded = ragged([[1], []])
    assert walk_own(ranked([[], []]), np.arange(2), excluded, 2).items.tolist() == [[-1, -1], [-1, -1]]
    shared = index_shared(ranked([[]]))
    walked = walk_shared(shared, np.zeros(2, np.int64), excluded, 2)
    assert walked.items.tolist() == [[-1, -1], [-1, -1]]
    assert walk_shared(index_shared(ranked([])), np.array([-1]), ragged([[3]]), 1).items.tolist() == [[-1]]


def test_admit_drops_what_is_not_available_and_keeps_the_order() -> None:
    # Item 9 is beyond the end of the flags.
    admitted = admit(ranked([[3, 1, 2], [], [2, 9, 0]]), np.array([False, True, False, True]))
    assert admitted.items.tolist() == [3, 1]
    assert admitted.indptr.tolist() == [0, 2, 2, 2]
    assert admitted.scores.tolist() == [100.0, 99.0]


def test_index_shared_refuses_a_list_with_a_repeated_item() -> None:
    with pytest.raises(KernelError, match="expected every list to propose an item once"):
        index_shared(ranked([[1, 2], [3, 3]]))
