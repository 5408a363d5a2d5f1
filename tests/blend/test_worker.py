"""Blends of scores over lists of every scope, against a plain loop over users and lists."""

import random
from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.blend.block import blend_block
from recsys_spark.blend.kernels.score_fusion import Fusion
from recsys_spark.blend.worker import state_of
from tests.blend_batches import ALL_SHOWN, make_shared, make_users, ranked

SOURCES = ("als", "near", "top")
WEIGHTS = np.array([2.0, 0.5, 0.25])
N_SHOWN = len(ALL_SHOWN.item_idx)


def random_block(seed: int, n_users: int = 12):
    """Lists of every scope; als has lists for two users of three."""
    rng = random.Random(seed)
    draw = lambda n: rng.sample(range(1, 9), n)  # noqa: E731
    shared = [("top", None, draw(8)), ("near", "FR", draw(5)), ("near", "IS", draw(3))]
    users = [
        (f"u{user}", ("FR", "IS", None)[user % 3], sorted(draw(2)), draw(6) if user % 3 else None)
        for user in range(n_users)
    ]
    return shared, users


def standard(items: list[int], item: int) -> float:
    """How far an item stands out in a list of `ranked`: its scores are 10, 9, 8 and so on, and 0 of what it lacks."""
    scores = np.array([10.0 - at for at in range(len(items))] + [0.0] * (N_SHOWN - len(items)))
    return float((10.0 - items.index(item) - scores.mean()) / scores.std()) if item in items else 0.0


def oracle(shared, users, k: int) -> list[dict[int, float]]:
    """By user and pooled item the sum of what als, near and top say by their weights."""
    found = []
    for _, segment, excluded, own in users:
        lists = {name: items for name, of_segment, items in shared if of_segment in (None, segment)}
        mine = [item for item in own or [] if item not in excluded]
        pool = {*mine[:k], *(i for items in lists.values() for i in [one for one in items if one not in excluded][:k])}
        totals = {}
        for item in pool:
            # als knows no moments of its scores: they are in parts of its best one, 10.
            said = [(10.0 - own.index(item)) / 10.0 if item in mine else 0.0]
            said += [standard(lists.get(name, []), item) for name in ("near", "top")]
            totals[item] = float(WEIGHTS @ said) + 1e-6 * (said[1] + said[2])
        found.append(totals)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_blend_block_of_scores_matches_a_plain_loop(seed: int) -> None:
    shared, users = random_block(seed)
    rows = [(name, segment, ranked(*items)) for name, segment, items in shared]
    block = make_users(
        *[
            (user, segment, excluded, None if own is None else [("als", ranked(*own))])
            for user, segment, excluded, own in users
        ]
    )
    sent = make_shared(rows, SOURCES, k=4)
    fused = replace(sent.settings, fusion=Fusion(WEIGHTS, "background"))
    found = blend_block(block, state_of(replace(sent, settings=fused))).to_pylist()
    for row, totals in zip(found, oracle(shared, users, 4), strict=True):
        best = sorted(totals, key=lambda item: (-round(totals[item], 9), item))[:4]
        assert [one["item_id"] for one in row["items"]] == [f"item {item}" for item in best]
        least, greatest = min(totals.values()), max(totals.values())
        expected = [(totals[item] - least) / (greatest - least) for item in best]
        assert [one["score"] for one in row["items"]] == pytest.approx(expected, abs=1e-5)


def test_what_nobody_has_had_weighs_by_a_weight_of_its_own() -> None:
    block = make_users(("u1", None, [], [("als", ranked(1, 2, 3))]))
    sent = make_shared([], ("als",), k=3)
    had = np.array([True] * 3)  # item 3 is beyond them: nobody has had it
    for of_new, first in ((np.array([5.0]), 3), (np.array([0.0]), 1), (None, 1)):
        fusion = Fusion(np.array([1.0]), "background", of_new)
        settings = replace(sent.settings, fusion=fusion)
        worker = state_of(replace(sent, settings=settings, had=had))
        (row,) = blend_block(block, worker).to_pylist()
        assert row["items"][0]["item_id"] == f"item {first}"
