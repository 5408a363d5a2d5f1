from itertools import combinations
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.signals.kernels import propensity as kernel
from recsys_spark.signals.kernels.propensity import (
    PositionCounts,
    PositionPropensity,
    fit_positions,
    harvest,
    non_increasing,
    shown_propensity,
)
from tests.biased_log import BiasedLog, biased_log, count_exposures, count_showings, rank_correlation

NO_LOG = np.nan

cells = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(1, 4)),
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
)


def counted(counts: dict[tuple[int, int], tuple[int, int]]) -> PositionCounts:
    """{(item, position): (shown, engaged)} as arrays."""
    rows = np.array([(*cell, *numbers) for cell, numbers in counts.items()], np.int64).reshape(len(counts), 4)
    return PositionCounts(*rows.T)


def position_propensity(
    counts: PositionCounts, n_positions: int, min_showings: int, floor: float
) -> PositionPropensity:
    return fit_positions(harvest(counts, n_positions), min_showings, floor)


@pytest.fixture(scope="module", params=[0, 1, 2])
def made(request: pytest.FixtureRequest) -> BiasedLog:
    return biased_log(n_users=30_000, n_items=20, n_positions=8, eta=1.0, seed=request.param)


def test_count_showings_counts_by_item_and_position() -> None:
    counts = count_showings(np.array([7, 3, 7, 7]), np.array([1, 2, 1, 2]), np.array([1, 0, 0, 1]))
    assert counts.item_idx.tolist() == [3, 7, 7]
    assert counts.position.tolist() == [2, 1, 2]
    assert counts.n_shown.tolist() == [1, 2, 1]
    assert counts.n_engaged.tolist() == [0, 1, 1]


def test_position_propensity_is_the_weighted_ratio_of_items_shown_at_both_positions() -> None:
    counts = counted({(0, 1): (10, 5), (0, 2): (30, 6), (1, 1): (20, 4), (1, 2): (20, 2), (2, 1): (99, 90)})
    fit = position_propensity(counts, 2, min_showings=80, floor=0.01)
    at_1 = 5 * 30 / 40 + 4 * 20 / 40
    at_2 = 6 * 10 / 40 + 2 * 20 / 40
    np.testing.assert_allclose(fit.propensity, [1, (at_2 + 0.5) / (at_1 + 0.5)], rtol=1e-14)
    assert fit.identified.tolist() == [True, True]
    # Item 2 was shown at one position only.
    assert (fit.n_usable, fit.fitted) == (10 + 30 + 20 + 20, True)


@pytest.mark.parametrize("chunk", [1, 2, 4096])
def test_position_propensity_minimises_the_weighted_squares_of_all_pairs(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_CHUNK_ITEMS", chunk)
    counts = {
        (0, 1): (40, 30),
        (0, 2): (30, 12),
        (0, 3): (50, 11),
        (1, 1): (10, 6),
        (1, 3): (25, 5),
        (2, 2): (60, 20),
        (2, 3): (8, 2),
    }
    fit = position_propensity(counted(counts), 3, 0, 0.001)
    pairs = []
    for k, other in combinations((1, 2, 3), 2):
        mine = other_one = 0.5
        for item in range(3):
            if (item, k) in counts and (item, other) in counts:
                (n_k, c_k), (n_l, c_l) = counts[item, k], counts[item, other]
                mine += c_k * n_l / (n_k + n_l)
                other_one += c_l * n_k / (n_k + n_l)
        pairs.append((k - 1, other - 1, log(mine / other_one), mine * other_one / (mine + other_one)))
    design = np.array([[(at == k) - (at == other) for at in (1, 2)] for k, other, _, _ in pairs], float)
    root = np.sqrt([weight for *_, weight in pairs])
    answer = np.linalg.lstsq(design * root[:, None], [ratio for _, _, ratio, _ in pairs] * root, rcond=None)[0]
    assert answer[1] < answer[0] < 0  # falls of itself: smoothing changes nothing
    np.testing.assert_allclose(fit.propensity, [1, exp(answer[0]), exp(answer[1])], rtol=1e-12)


@given(cells)
def test_harvests_of_parts_of_the_items_add_up(counts: dict[tuple[int, int], tuple[int, int]]) -> None:
    parts = [{cell: numbers for cell, numbers in counts.items() if cell[0] % 2 == at} for at in range(2)]
    whole, added = harvest(counted(counts), 4), harvest(counted(parts[0]), 4) + harvest(counted(parts[1]), 4)
    np.testing.assert_allclose(added.engaged, whole.engaged, rtol=1e-12)
    np.testing.assert_array_equal(added.shared, whole.shared)
    assert added.n_usable == whole.n_usable


@given(cells, st.floats(0.01, 1.0))
def test_position_propensity_never_rises_and_ignores_the_order_of_cells(
    counts: dict[tuple[int, int], tuple[int, int]], floor: float
) -> None:
    fit = position_propensity(counted(counts), 4, 0, floor)
    assert fit.propensity[0] == 1
    assert (np.diff(fit.propensity) <= 0).all()
    assert fit.propensity[-1] >= floor
    turned = position_propensity(counted(dict(reversed(counts.items()))), 4, 0, floor)
    np.testing.assert_allclose(turned.propensity, fit.propensity, rtol=1e-9)
    assert turned.identified.tolist() == fit.identified.tolist()


def test_position_propensity_pools_positions_that_rise_by_the_engagements_of_their_pairs() -> None:
    fit = position_propensity(counted({(0, 1): (40, 40), (0, 2): (40, 10), (0, 3): (40, 20)}), 3, 0, 0.001)
    a, b, c = 40 / 2 + 0.5, 10 / 2 + 0.5, 20 / 2 + 0.5
    # One item with as many showings everywhere: the ratios agree, and the logarithms of b / a and c / a are pooled.
    weight_2, weight_3 = a * b / (a + b) + b * c / (b + c), a * c / (a + c) + b * c / (b + c)
    pooled = exp((weight_2 * log(b / a) + weight_3 * log(c / a)) / (weight_2 + weight_3))
    np.testing.assert_allclose(fit.propensity, [1, pooled, pooled], rtol=1e-12)


def test_position_propensity_repeats_the_value_before_where_nothing_leads_to_position_1() -> None:
    # 1 and 2 share item 0; 3 and 4 share item 1, but nothing joins the two; 5 was never shown.
    counts = counted({(0, 1): (50, 40), (0, 2): (50, 20), (1, 3): (50, 40), (1, 4): (50, 1)})
    fit = position_propensity(counts, 5, 0, 0.01)
    np.testing.assert_allclose(fit.propensity, [1] + [(20 / 2 + 0.5) / (40 / 2 + 0.5)] * 4, rtol=1e-14)
    assert fit.identified.tolist() == [True, True, False, False, False]


def test_position_propensity_identifies_a_position_through_others() -> None:
    counts = counted({(0, 1): (99, 60), (0, 2): (99, 40), (1, 2): (99, 60), (1, 3): (99, 40)})
    fit = position_propensity(counts, 3, 0, 0.01)
    ratio = (40 / 2 + 0.5) / (60 / 2 + 0.5)
    np.testing.assert_allclose(fit.propensity, [1, ratio, ratio**2], rtol=1e-12)
    assert fit.identified.all()


def test_position_propensity_cuts_off_at_the_floor() -> None:
    counts = counted({(0, 1): (1000, 900), (0, 2): (1000, 0)})
    assert position_propensity(counts, 2, 0, 0.05).propensity.tolist() == [1, 0.05]


def test_position_propensity_is_1_and_says_so_when_showings_are_too_few() -> None:
    counts = counted({(0, 1): (50, 40), (0, 2): (49, 2), (1, 1): (500, 3)})
    fit = position_propensity(counts, 3, min_showings=100, floor=0.01)
    assert fit.propensity.tolist() == [1, 1, 1]
    assert fit.identified.tolist() == [True, False, False]
    assert (fit.n_usable, fit.fitted) == (99, False)
    assert not position_propensity(counted({}), 3, min_showings=0, floor=0.01).fitted


def test_position_propensity_refuses_positions_beyond_the_list_and_a_floor_of_zero() -> None:
    with pytest.raises(KernelError, match=r"propensity position: expected 1 to 2, got 1 others \[3\]"):
        position_propensity(counted({(0, 1): (1, 1), (0, 3): (1, 1)}), 2, 0, 0.01)
    with pytest.raises(KernelError, match="propensity position: expected 1 to 2"):
        position_propensity(counted({(0, 0): (1, 1)}), 2, 0, 0.01)
    with pytest.raises(KernelError, match="propensity floor: expected above 0"):
        position_propensity(counted({}), 2, 0, 0.0)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 9)), min_size=1, max_size=8))
def test_non_increasing_matches_the_min_max_formula(points: list[tuple[float, float]]) -> None:
    values, weights = np.array(points).T
    n = len(points)

    def mean(start: int, end: int) -> float:
        return float(values[start : end + 1] @ weights[start : end + 1] / weights[start : end + 1].sum())

    oracle = [min(max(mean(start, end) for end in range(at, n)) for start in range(at + 1)) for at in range(n)]
    np.testing.assert_allclose(non_increasing(values, weights), oracle, atol=1e-12)


def test_shown_propensity_is_the_share_of_exposed_users_where_nothing_is_logged() -> None:
    users, items = np.array([1, 1, 1, 2, 3, 9]), np.array([0, 0, 1, 0, 1, 1])
    counts = count_exposures(users, items, np.full(6, NO_LOG), n_items=3)
    # Item 0 reached users 1 (twice) and 2 of the four; item 2 nobody.
    assert shown_propensity(counts, 0.1).tolist() == [2 / 4, 3 / 4, 0.1]


def test_shown_propensity_is_the_harmonic_mean_of_what_is_logged_for_all_showings() -> None:
    users, items = np.array([1, 2, 3, 1, 2, 1]), np.array([0, 0, 0, 1, 1, 2])
    counts = count_exposures(users, items, np.array([0.5, 0.25, 0.5, 0.5, NO_LOG, 0.2]), n_items=3)
    # Item 1 was also shown without a logged propensity: two of three users.  Item 2 was shown once.
    np.testing.assert_allclose(shown_propensity(counts, 0.01), [3 / (2 + 4 + 2), 2 / 3, 0.2], rtol=1e-15)


def test_shown_propensity_of_logged_chances_is_the_chance_of_an_average_user() -> None:
    rng = np.random.default_rng(0)
    chances = rng.choice([0.9, 0.1], 40_000)
    users = np.flatnonzero(rng.random(40_000) < chances)
    counts = count_exposures(users, np.zeros(len(users), np.int64), chances[users], n_items=1)
    # The plain mean of what is logged would be 0.82.  Four standard deviations of the mean of 20 000 inverses.
    np.testing.assert_allclose(shown_propensity(counts, 0.01), [0.5], atol=0.02)


def test_shown_propensity_refuses_a_floor_of_zero() -> None:
    with pytest.raises(KernelError, match="propensity floor"):
        shown_propensity(count_exposures(np.array([1]), np.array([0]), np.array([0.5]), 1), 0.0)


@pytest.mark.parametrize("eta", [0.5, 1.0, 1.5])
def test_position_propensity_is_near_the_truth_of_a_biased_log(eta: float) -> None:
    made = biased_log(n_users=30_000, n_items=20, n_positions=8, eta=eta, seed=5)
    fit = position_propensity(count_showings(made.item_idx, made.position, made.engaged), 8, 1000, 0.01)
    engaged = np.bincount(made.position, made.engaged)[1:]
    # Three standard deviations of the ratio of two Poisson counts: 5 % to 16 % of the true value.
    allowed = 3 * np.sqrt(1 / engaged + 1 / engaged[0])
    assert allowed.max() < 0.16
    assert (np.abs(fit.propensity / made.examination - 1)[1:] < allowed[1:]).all()
    assert fit.identified.all()


def test_inverse_weights_of_positions_rank_items_nearer_to_their_relevance(made: BiasedLog) -> None:
    fit = position_propensity(count_showings(made.item_idx, made.position, made.engaged), 8, 1000, 0.01)
    weights = 1 / fit.propensity[made.position - 1]
    shown = np.bincount(made.item_idx)
    plain = rank_correlation(np.bincount(made.item_idx, made.engaged) / shown, made.relevance)
    weighted = rank_correlation(np.bincount(made.item_idx, made.engaged * weights) / shown, made.relevance)
    assert plain < 0.95
    assert weighted > 0.98


def test_inverse_weights_of_both_chances_count_engagements_as_if_all_were_shown(made: BiasedLog) -> None:
    fit = position_propensity(count_showings(made.item_idx, made.position, made.engaged), 8, 1000, 0.01)
    exposures = count_exposures(made.user_idx, made.item_idx, np.full(len(made.item_idx), NO_LOG), 20)
    shown = shown_propensity(exposures, 0.001)
    weights = 1 / (fit.propensity[made.position - 1] * shown[made.item_idx])
    plain = rank_correlation(np.bincount(made.item_idx, made.engaged), made.relevance)
    weighted = rank_correlation(np.bincount(made.item_idx, made.engaged * weights), made.relevance)
    assert plain < 0.3
    assert weighted > 0.98
