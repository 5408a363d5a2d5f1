"""Figures of lists against a brute-force twin that looks at one user after the other."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import KernelError
from recsys_spark.evaluation.kernels.figures import (
    ALL,
    NEW_ITEMS,
    NEW_USERS,
    RATE,
    Block,
    Figure,
    add_up,
    rows_of,
    tallies_of,
)
from recsys_spark.numeric.bootstrap import draw, user_keys
from recsys_spark.numeric.ragged import Ragged, ragged

N_ITEMS = 6
LENGTHS = (1, 3)


@st.composite
def worlds(draws: st.DrawFn) -> tuple[Block, dict[str, Ragged]]:
    n_users = draws(st.integers(1, 5))
    items = st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=4)
    targets = ragged([draws(items.filter(len)) for _ in range(n_users)])
    flags = [
        np.array(draws(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
        for n in (len(targets.values), n_users, n_users, len(targets.values))
    ]
    item_users = np.array([5, 4, 3, 2, 1, 0])
    block = Block(
        targets=targets,
        is_known=flags[0],
        is_new=flags[1],
        user_groups={"users/light": flags[2]},
        item_groups={"items/head": flags[3] & flags[0]},
        popular=ragged([[0, 1, 2]] * n_users),
        item_users=item_users,
        n_users=5,
        vectors=np.eye(N_ITEMS, dtype=np.float32)[[0, 0, 1, 1, 2, 2]],
    )
    return block, {"a": ragged([draws(items) for _ in range(n_users)]), "empty": ragged([[]] * n_users)}


def rows(lists: Ragged) -> list[list[int]]:
    return [lists.values[lists.indptr[at] : lists.indptr[at + 1]].tolist() for at in range(lists.n_rows)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def oracle(
    block: Block,
    ranked: Ragged,
    k: int,
    value: Callable[[list[int], set[int]], float],
    users: np.ndarray,
    at: np.ndarray,
) -> float:
    """Mean of `value` of a list's first k and a user's targets at `at`, over those of `users` who have any."""
    chosen = rows(block.targets.where(at))
    return mean([
        value(one[:k], set(wanted))
        for one, wanted, member in zip(rows(ranked), chosen, users, strict=True)
        if member and wanted
    ])  # fmt: skip


def recall(top: list[int], wanted: set[int]) -> float:
    return len(set(top) & wanted) / len(wanted)


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_recall_of_every_group_matches_the_oracle(world: tuple[Block, dict[str, Ragged]]) -> None:
    block, lists = world
    n_users, known = block.targets.n_rows, ~block.is_new
    found = tallies_of(block, lists, LENGTHS, draw(user_keys([str(user) for user in range(n_users)]), 1, 3))
    groups = {
        ALL: (known, block.is_known),
        NEW_USERS: (block.is_new, block.is_known),
        "users/light": (known & block.user_groups["users/light"], block.is_known),
        NEW_ITEMS: (known, ~block.is_known),
        "items/head": (known, block.item_groups["items/head"]),
    }
    for name, ranked in lists.items():
        for k in LENGTHS:
            for group, (users, at) in groups.items():
                got = found[Figure(name, group, "recall", k)].means[0]
                assert got == pytest.approx(oracle(block, ranked, k, recall, users, at), nan_ok=True), (name, group, k)


@settings(max_examples=50, deadline=None)
@given(world=worlds())
def test_other_figures_of_all_users_match_the_oracle(world: tuple[Block, dict[str, Ragged]]) -> None:
    block, lists = world
    known = ~block.is_new
    found = tallies_of(block, lists, LENGTHS, draw(user_keys([str(user) for user in range(len(known))]), 1, 3))

    def reciprocal(top: list[int], wanted: set[int]) -> float:
        return next((1 / rank for rank, item in enumerate(top, start=1) if item in wanted), 0.0)

    def ndcg(top: list[int], wanted: set[int]) -> float:
        gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(top, start=1) if item in wanted)
        return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))

    def auc(top: list[int], wanted: set[int]) -> float:
        place = {item: -at for at, item in enumerate(top)}
        pairs = [
            (place.get(one, -N_ITEMS), place.get(other, -N_ITEMS))
            for one in wanted
            for other in set(range(N_ITEMS)) - wanted
        ]
        return mean([float(one > other) + 0.5 * (one == other) for one, other in pairs])

    for k in LENGTHS:
        values = {
            "auc": auc,
            "mrr": reciprocal,
            "ndcg": ndcg,
            "hit": lambda top, wanted: float(bool(set(top) & wanted)),
            "precision": lambda top, wanted: len(set(top) & wanted) / k,  # noqa: B023
        }
        for metric, value in values.items():
            got = found[Figure("a", ALL, metric, k)].means[0]
            assert got == pytest.approx(oracle(block, lists["a"], k, value, known, block.is_known), nan_ok=True), metric
        counts = known & (block.targets.where(block.is_known).lengths > 0)
        bits = [mean([math.log2(5 / max(1, block.item_users[item])) for item in one[:k]]) for one in rows(lists["a"])]
        novelty = [one for one, member in zip(bits, counts, strict=True) if member and not math.isnan(one)]
        unlike = [
            mean([float(first // 2 != second // 2) for at, first in enumerate(one[:k]) for second in one[:k][:at]])
            for one, member in zip(rows(lists["a"]), counts, strict=True)
            if member
        ]
        diversity = mean([value for value in unlike if not math.isnan(value)])
        assert found[Figure("a", ALL, "diversity", k)].means[0] == pytest.approx(diversity, nan_ok=True, abs=1e-6)
        assert found[Figure("a", ALL, "novelty", k)].means[0] == pytest.approx(mean(novelty), nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(world=worlds())
def test_rates_of_places_match_the_oracle(world: tuple[Block, dict[str, Ragged]]) -> None:
    block, lists = world
    found = tallies_of(
        replace(block, rated_places=2),
        lists,
        (2, 3),
        draw(user_keys([str(user) for user in range(len(block.is_new))]), 1, 3),
    )
    wanted = rows(block.targets.where(block.is_known))
    for place in (1, 2):
        hits = [
            float(one[place - 1] in mine)
            for one, mine, is_new in zip(rows(lists["a"]), wanted, block.is_new, strict=True)
            if mine and not is_new and len(one) >= place
        ]
        tally = found[Figure("a", ALL, RATE, place)]
        assert (tally.n[0], tally.total[0]) == (len(hits), sum(hits))
        assert found[Figure("empty", ALL, RATE, place)].n[0] == 0
    assert Figure("a", ALL, RATE, 3) not in found, "as many places as are asked for"


@settings(max_examples=30, deadline=None)
@given(world=worlds(), cut=st.integers(0, 5))
def test_blocks_add_up_to_the_whole(world: tuple[Block, dict[str, Ragged]], cut: int) -> None:
    block, lists = world
    n_users = block.targets.n_rows
    draws = draw(user_keys([str(user) for user in range(n_users)]), 1, 3)
    whole = tallies_of(block, lists, LENGTHS, draws)
    parts = []
    for users in (np.arange(n_users)[:cut], np.arange(n_users)[cut:]):
        values = np.isin(block.targets.rows, users)
        part = Block(
            targets=rows_of(block.targets, users),
            is_known=block.is_known[values],
            is_new=block.is_new[users],
            user_groups={name: members[users] for name, members in block.user_groups.items()},
            item_groups={name: chosen[values] for name, chosen in block.item_groups.items()},
            popular=rows_of(block.popular, users),
            item_users=block.item_users,
            n_users=block.n_users,
            vectors=block.vectors,
        )
        parts.append(
            tallies_of(part, {name: rows_of(one, users) for name, one in lists.items()}, LENGTHS, draws[users])
        )
    together = add_up(parts)
    assert together.keys() == whole.keys()
    for figure, one in whole.items():
        np.testing.assert_allclose(together[figure].n, one.n, atol=1e-12)
        np.testing.assert_allclose(together[figure].total, one.total, atol=1e-9)


def test_draws_of_other_users_are_refused() -> None:
    flags = np.zeros(1, bool)
    block = Block(ragged([[1]]), ~flags, flags, {}, {}, ragged([[]]), np.ones(2, np.int64), 1)
    with pytest.raises(KernelError, match="one row per judged user, got 2 for 1"):
        tallies_of(block, {}, LENGTHS, draw(user_keys(["a", "b"]), 1, 3))
