from math import log

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.greedy import ALPHA, CategoryMixes, ListMix, add_item, empty_list, fill_slots


def listed(shares: dict[int, float]) -> ListMix:
    """An empty list beside a history with these shares by category; the row of another user stands before it."""
    mixes = CategoryMixes(
        np.array([0, 1, 1 + len(shares)]),
        np.array([0, *shares], np.int32),
        np.array([1, *shares.values()], np.float32),
    )
    return empty_list(mixes, 1)


def divergence(shares: dict[int, float], categories: list[int]) -> float:
    """KL(p || q~), term by term."""
    known = [category for category in categories if category >= 0]
    p = {category: share / sum(shares.values()) for category, share in shares.items() if share > 0}
    q = {category: known.count(category) / len(known) if known else 0.0 for category in p}
    return sum(p[g] * log(p[g] / ((1 - ALPHA) * q[g] + ALPHA * p[g])) for g in p)


@given(st.dictionaries(st.integers(0, 6), st.sampled_from([0.0, 0.125, 0.25, 0.5, 3.0])), st.lists(st.integers(-1, 8)))
@settings(max_examples=300, deadline=None)
def test_divergences_are_those_of_the_list_with_one_more_item(shares: dict[int, float], categories: list[int]) -> None:
    mix = listed(shares)
    candidates = np.arange(-1, 9, dtype=np.int32)
    slots = np.zeros(len(candidates), np.int64)
    fill_slots(mix, candidates, slots)
    for size in range(len(categories) + 1):
        wanted = [divergence(shares, [*categories[:size], candidate]) for candidate in candidates.tolist()]
        np.testing.assert_allclose(mix.divergences[slots], wanted, rtol=0, atol=1e-13)  # a dozen terms up to 5
        if size < len(categories):
            add_item(mix, slots[categories[size] + 1])


def test_divergence_of_a_single_category() -> None:
    mix = listed({4: 3.0, 2: 1.0})
    assert mix.categories.tolist() == [2, 4]
    wanted = [
        0.25 * log(0.25 / (0.99 + 0.01 * 0.25)) + 0.75 * log(1 / 0.01),
        0.25 * log(1 / 0.01) + 0.75 * log(0.75 / (0.99 + 0.01 * 0.75)),
        log(1 / 0.01),  # in a category that the history does not have
        log(1 / 0.01),  # without one
    ]
    np.testing.assert_allclose(mix.divergences, wanted, rtol=1e-14)


def test_divergences_stay_zero_without_a_history() -> None:
    for shares in ({}, {3: 0.0}):
        mix = listed(shares)
        add_item(mix, 0)
        assert mix.divergences.tolist() == [0.0, 0.0]
