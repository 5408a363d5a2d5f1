"""What lists say of what any of them proposes, against a plain loop over users and lists."""

import random
from dataclasses import replace
from math import log2

import numpy as np
import pytest

from recsys_spark.adapters.blend_arrow import blend_block
from recsys_spark.adapters.blend_scopes import Shared, said_of, walk_scopes, worker_of
from tests.blend_batches import make_shared, make_users, ranked

SOURCES = ("als", "near", "top")


def random_block(seed: int, n_users: int = 12):
    """Lists of every scope; nobody may see item 9, and als has lists for two users of three."""
    rng = random.Random(seed)
    draw = lambda n: rng.sample(range(9), n)  # noqa: E731
    shared = [("top", None, draw(8)), ("near", "FR", draw(5)), ("near", "IS", draw(3))]
    users = [
        (f"u{user}", ("FR", "IS", None)[user % 3], sorted(draw(2)), draw(6) if user % 3 else None)
        for user in range(n_users)
    ]
    return shared, users


def oracle(shared, users, k: int) -> list[dict[int, np.ndarray]]:
    """By user and pooled item what als, near and top say, float (3, 2)."""
    found = []
    for _, segment, excluded, own in users:
        lists = {name: items for name, of_segment, items in shared if of_segment in (None, segment)}
        mine = [item for item in own or [] if item not in excluded][:k]
        pool = {*mine, *(i for items in lists.values() for i in [one for one in items if one not in excluded][:k])}
        said = {item: np.zeros((3, 2)) for item in pool}
        for item in pool:
            if item in mine:
                rank = mine.index(item)
                # `ranked` gives scores 10, 9, 8, ... to the places of the list as the source made it.
                scores = [10.0 - own.index(one) for one in mine]
                said[item][0] = 1 / log2(rank + 2), scores[rank] / scores[0]
            for name, items in lists.items():
                if item in items:
                    place = items.index(item)
                    said[item][SOURCES.index(name)] = 1 / log2(place + 2), (10.0 - place) / 10.0
        found.append(said)
    return found


def batches(shared, users, k: int) -> tuple[Shared, object]:
    rows = [(name, segment, ranked(*items)) for name, segment, items in shared]
    block = make_users(
        *[
            (user, segment, excluded, None if own is None else [("als", ranked(*own))])
            for user, segment, excluded, own in users
        ]
    )
    return make_shared(rows, SOURCES, k=k), block


@pytest.mark.parametrize("seed", range(5))
def test_said_of_matches_a_plain_loop(seed: int) -> None:
    shared, users = random_block(seed)
    sent, block = batches(shared, users, 4)
    worker = worker_of(sent)
    pool, said = said_of(walk_scopes(block, worker, 4), worker)
    expected = oracle(shared, users, 4)
    assert [{*pool.items[pool.users == at].tolist()} for at in range(len(users))] == [set(one) for one in expected]
    wanted = [expected[user][item] for user, item in zip(pool.users.tolist(), pool.items.tolist(), strict=True)]
    np.testing.assert_allclose(said, wanted, rtol=1e-6)


def test_blend_block_orders_by_learnt_weights() -> None:
    shared, users = random_block(7)
    sent, block = batches(shared, users, 4)
    weights = np.array([[2.0, 0.0], [0.0, 0.5], [1.0, 1.0]])
    worker = worker_of(replace(sent, settings=replace(sent.settings, learned=weights)))
    rows = blend_block(block, worker).to_pylist()
    for row, said in zip(rows, oracle(shared, users, 4), strict=True):
        scores = {item: float((numbers * weights).sum()) for item, numbers in said.items()}
        best = sorted(scores, key=lambda item: (-round(scores[item], 9), item))[:4]
        assert [one["item_id"] for one in row["items"]] == [f"item {item}" for item in best]
        assert [one["score"] for one in row["items"]] == pytest.approx([scores[item] for item in best], rel=1e-5)


def test_said_of_leaves_out_what_only_a_list_of_weight_zero_proposes() -> None:
    sent = make_shared([("near", "FR", ranked(1)), ("top", None, ranked(2))], ("near", "top"), weights=(0.0, 1.0))
    worker = worker_of(sent)
    pool, said = said_of(walk_scopes(make_users(("u1", "FR", [], None)), worker, 3), worker)
    assert pool.items.tolist() == [2]
    assert said[0, 0].tolist() == [0.0, 0.0]
