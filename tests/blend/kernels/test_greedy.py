"""The search for the best candidate, against one that looks at all of them; all sums are exact."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.greedy import TILE, CategoryMixes, ListSettings, Pools, choose

MANY = 1 << 60
N_DIRECTIONS = 6


@dataclass
class Case:
    """One pool: directions (-1: no vector) of the candidates, relevance in units of 1 / 64, codes."""

    directions: list[int]
    units: list[int]
    categories: list[int]
    brands: list[int]
    rule: ListSettings
    k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.integers(0, 3 * TILE))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    units = rng.integers(1, draw(st.sampled_from([3, 65])), n)
    if n:
        units[rng.integers(n)] = 64  # the best
    if draw(st.booleans()):
        units = -np.sort(-units)
    return Case(
        directions=rng.integers(-1, N_DIRECTIONS, n).tolist(),
        units=units.tolist(),
        categories=rng.integers(-1, 4, n).tolist(),
        brands=rng.integers(-1, 30, n).tolist(),
        rule=ListSettings(
            draw(st.sampled_from([0.0, 0.25, 0.5, 0.875])),
            0.0,
            draw(st.sampled_from([1, 2, 7, MANY])),
            draw(st.sampled_from([1, 2, MANY])),
        ),
        k=draw(st.integers(1, 2 * TILE)),
    )


def chosen(cases_: list[Case], k: int) -> list[list[int]]:
    """Places in its own pool of every case's list; all have the first one's rule."""
    sizes = [len(case.units) for case in cases_]
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    pools = Pools(
        indptr,
        np.array([at for case in cases_ for at in case.directions], np.int32) + 1,
        np.array([unit * 2.0 for case in cases_ for unit in case.units]),
        np.array([code for case in cases_ for code in case.categories], np.int32),
        np.array([code for case in cases_ for code in case.brands], np.int32),
    )
    vectors = np.vstack([np.zeros(N_DIRECTIONS), 4 * np.eye(N_DIRECTIONS)]).astype(np.float32)
    mixes = CategoryMixes(np.zeros(len(sizes) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    lengths, positions = choose(pools, vectors, mixes, cases_[0].rule, k)
    return [(positions[user, :length] - indptr[user]).tolist() for user, length in enumerate(lengths)]


def expected(case: Case) -> list[int]:
    taken: list[int] = []
    w = case.rule.mmr_weight
    while len(taken) < case.k:
        values = {}
        for at, unit in enumerate(case.units):
            category, brand = case.categories[at], case.brands[at]
            alike = any(case.directions[at] == case.directions[other] >= 0 for other in taken)
            full = (
                category >= 0 and [case.categories[other] for other in taken].count(category) >= case.rule.category_cap
            )
            full |= brand >= 0 and [case.brands[other] for other in taken].count(brand) >= case.rule.brand_cap
            if at not in taken and not full:
                values[at] = (1 - w) * unit / 64 - w * alike
        if not values:
            break
        taken.append(max(values, key=lambda at: (values[at], -at)))
    return taken


@given(cases())
@settings(max_examples=150, deadline=None)
def test_choose_finds_what_a_search_of_all_finds(case: Case) -> None:
    assert chosen([case], case.k) == [expected(case)]


@given(st.lists(cases(), min_size=2, max_size=4))
@settings(max_examples=50, deadline=None)
def test_choose_leaves_nothing_behind_for_the_next_user(several: list[Case]) -> None:
    rule, k = several[0].rule, several[0].k
    alone = [chosen([Case(c.directions, c.units, c.categories, c.brands, rule, k)], k)[0] for c in several]
    assert chosen(several, k) == alone


def test_choose_takes_the_first_of_equals_from_the_first_tile() -> None:
    # Half a tile of copies of the first item, then a tile of equals in another direction: the first of those is next.
    n = 2 * TILE
    case = Case(
        [0] * (TILE // 2) + [1] * (n - TILE // 2), [64] * n, [-1] * n, [-1] * n, ListSettings(0.5, 0.0, MANY, MANY), 4
    )
    assert chosen([case], 4) == [[0, TILE // 2, 1, 2]]
