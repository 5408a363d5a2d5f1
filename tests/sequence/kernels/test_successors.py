"""Successors against a plain loop over pairs of places; exact sums in any order of the users."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.sequence.kernels import successors as kernel
from recsys_spark.sequence.kernels.successors import (
    Histories,
    TransitionSettings,
    added,
    histories,
    place_weights,
    successors,
    transitions,
)
from tests.item_cf_oracle import List, lists_of

N_ITEMS = 6
FOLLOWING = TransitionSettings(window=3, half_life=1.0, alpha=0.7, beta=0.3, shrinkage=2.0, num_successors=10)

# Of a user: (time, item), times may meet; of many users.
LOGS = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, N_ITEMS - 1)), max_size=9), max_size=5)
Log = list[list[tuple[int, int]]]


def histories_of(log: Log) -> Histories:
    flat = [event for user in log for event in user]
    indptr = np.concatenate([[0], np.cumsum([len(user) for user in log])]).astype(np.int64)
    times, items = (np.array([event[at] for event in flat], np.int64) for at in (0, 1))
    return histories(indptr, items.astype(np.int32), times)


def expected_sums(log: Log, following: TransitionSettings) -> dict[tuple[int, int], Fraction]:
    """c_ij of the module, where it is above 0."""
    sums: dict[tuple[int, int], Fraction] = {}
    for user in log:
        baskets = [sorted({item for time, item in user if time == at}) for at in sorted({time for time, _ in user})]
        for p, sources in enumerate(baskets):
            for q in range(p + 1, min(p + following.window, len(baskets) - 1) + 1):
                worth = Fraction(1, 2) ** (q - p - 1)
                for i in sources:
                    for j in baskets[q]:
                        if i != j:
                            sums[i, j] = sums.get((i, j), Fraction(0)) + worth
    return sums


def expected_lists(log: Log, following: TransitionSettings, n_users: np.ndarray) -> list[List]:
    lists: list[List] = [[] for _ in range(N_ITEMS)]
    for (i, j), total in expected_sums(log, following).items():
        below = (n_users[i] + following.shrinkage) ** following.alpha * max(n_users[j], 1) ** following.beta
        lists[i].append((j, float(total) / below))
    return [sorted(one, key=lambda entry: (-np.float32(entry[1]), entry[0])) for one in lists]


def users_of(log: Log) -> np.ndarray:
    return np.array([sum(any(item == one for _, item in user) for user in log) for one in range(N_ITEMS)], np.int64)


@given(log=LOGS)
@settings(max_examples=60, deadline=None)
def test_successors_match_a_plain_loop(log: Log) -> None:
    found = transitions(histories_of(log), FOLLOWING, N_ITEMS)
    sums = {(int(i), int(j)): Fraction(int(c), 2**20) for i, j, c in zip(*found, strict=True)}
    assert sums == expected_sums(log, FOLLOWING)
    assert list(sums) == sorted(sums)
    n_users = users_of(log)
    lists = lists_of(successors(found, range(N_ITEMS), n_users, FOLLOWING))
    expected = expected_lists(log, FOLLOWING, n_users)
    assert [[item for item, _ in one] for one in lists] == [[item for item, _ in one] for one in expected]
    scores = [[score for one in some for _, score in one] for some in (lists, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-6)


def test_sums_are_the_same_however_many_pairs_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    log = [
        [(int(at), int(item)) for at, item in zip(rng.integers(0, 9, 8), rng.integers(0, N_ITEMS, 8), strict=True)]
        for _ in range(9)
    ]
    whole = transitions(histories_of([*log, []]), FOLLOWING, N_ITEMS)
    monkeypatch.setattr(kernel, "_PAIRS_AT_ONCE", 20)
    for part, one in zip(transitions(histories_of([*log, []]), FOLLOWING, N_ITEMS), whole, strict=True):
        np.testing.assert_array_equal(part, one)


@given(log=LOGS, cuts=st.lists(st.integers(0, 5), max_size=3))
@settings(max_examples=50, deadline=None)
def test_sums_are_the_same_however_users_are_cut(log: Log, cuts: list[int]) -> None:
    whole = transitions(histories_of(log), FOLLOWING, N_ITEMS)
    edges = [0, *sorted(cuts), max(5, len(log))]
    parts = [transitions(histories_of(log[a:b]), FOLLOWING, N_ITEMS) for a, b in pairwise(edges)]
    for part, one in zip(added(parts[::-1], N_ITEMS), whole, strict=True):
        np.testing.assert_array_equal(part, one)


def test_a_block_of_sources_and_a_short_list_are_cut_from_the_whole() -> None:
    rng = np.random.default_rng(3)
    log = [[(at, int(item)) for at, item in enumerate(rng.integers(0, N_ITEMS, 12))] for _ in range(30)]
    found, n_users = transitions(histories_of(log), FOLLOWING, N_ITEMS), users_of(log)
    whole = lists_of(successors(found, range(N_ITEMS), n_users, FOLLOWING))
    assert min(map(len, whole)) == N_ITEMS - 1
    listed = np.arange(N_ITEMS) != 4
    short = FOLLOWING._replace(num_successors=2)
    assert lists_of(successors(found, range(2, 5), n_users, short, listed)) == [
        [entry for entry in one if entry[0] != 4][:2] for one in whole[2:5]
    ]


def test_items_of_a_basket_do_not_follow_one_another_and_share_a_place() -> None:
    one = histories_of([[(5, 3), (2, 1), (5, 0), (9, 2), (5, 3)], [], [(1, 1)]])  # 3 at time 5 is one event
    assert one.items.tolist() == [1, 0, 3, 2, 1]
    assert one.places.tolist() == [0, 1, 1, 2, 0]
    found = transitions(one, FOLLOWING, N_ITEMS)
    assert list(zip(found.sources.tolist(), found.targets.tolist(), strict=True)) == [
        (0, 2), (1, 0), (1, 2), (1, 3), (3, 2)
    ]  # fmt: skip


def test_place_weights_halve_from_place_to_place_whatever_the_order_of_entries() -> None:
    indptr, times = np.array([0, 4, 4, 5]), np.array([5, 2, 5, 9, 1])
    np.testing.assert_array_equal(place_weights(indptr, times, 1.0), np.float32([0.5, 0.25, 0.5, 1, 1]))
    np.testing.assert_allclose(place_weights(indptr, times, 2.0), np.float32([0.5, 0.25, 0.5, 1, 1]) ** 0.5, rtol=1e-6)
    assert len(place_weights(np.zeros(3, np.int64), np.zeros(0, np.int64), 1.0)) == 0


@pytest.mark.parametrize("log", [[], [[]], [[(0, 1)]]])
def test_nothing_follows_where_nothing_is_ordered(log: Log) -> None:
    found = transitions(histories_of(log), FOLLOWING, N_ITEMS)
    assert [len(one) for one in found] == [0, 0, 0]
    assert lists_of(successors(found, range(N_ITEMS), users_of(log), FOLLOWING)) == [[]] * N_ITEMS


def test_only_the_direction_tells_what_comes_next() -> None:
    # Everybody has everything, so that co-occurrence tells nothing apart; item i + 1 comes after item i.
    log = [[((item - user) % N_ITEMS, item) for item in range(N_ITEMS)] for user in range(12)]
    lists = lists_of(
        successors(transitions(histories_of(log), FOLLOWING, N_ITEMS), range(N_ITEMS), users_of(log), FOLLOWING)
    )
    assert [one[0][0] for one in lists] == [(item + 1) % N_ITEMS for item in range(N_ITEMS)]
