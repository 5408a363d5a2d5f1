"""Exploration on the worker's side, without a JVM: what is hidden from whom, and lists as the table has them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from recsys_spark.blend.block import blend_block
from recsys_spark.blend.kernels.exploration import Samples
from recsys_spark.blend.worker import EXPLORE, BlendBroadcast, Exploration, VisibleItems, state_of
from recsys_spark.ingest.rules import Rule
from tests.blend.test_block import SHARED_ROWS, blend, items_of
from tests.blend_batches import make_shared, make_users
from tests.rule_oracle import IDS, World, admissible, compiled, worlds

SOURCES = ("als", "near", "top")


def exploring(items: list[int], share: float, k: int = 4, n_samples: int = 8) -> BlendBroadcast:
    """Lists of SHARED_ROWS with a share for the items, whose samples are turned by one place each."""
    n = len(items)
    order = np.array([np.roll(np.arange(n), at) for at in range(n_samples)], np.int32)
    shared = make_shared(SHARED_ROWS, SOURCES, k=k)
    exploration = Exploration(Samples(np.array(items, np.int32), order), seed=3)
    return replace(shared, settings=replace(shared.settings, explore_share=share), exploration=exploration)


def test_blend_block_explores_at_every_second_place_and_says_with_what_propensity() -> None:
    (row,) = blend(exploring([8, 9], share=0.5), make_users(("u1", None, [], None)))
    first, second, third, fourth = row["items"]
    assert [first["item_id"], third["item_id"]] == ["item 1", "item 2"]
    assert {second["item_id"], fourth["item_id"]} == {"item 8", "item 9"}
    assert second["sources"] == [{"source": EXPLORE, "rank": 1, "score": 1.0}]  # both are shown whatever the sample
    assert fourth["sources"] == [{"source": EXPLORE, "rank": 2, "score": 1.0}]
    scores = [item["score"] for item in row["items"]]
    assert scores == sorted(scores, reverse=True)
    assert [item["rank"] for item in row["items"]] == [1, 2, 3, 4]
    assert row["n_by_source"] == [0, 0, 2], "exploration is no source"


def test_a_propensity_is_the_share_of_users_who_are_shown_the_item() -> None:
    shared = exploring([5, 6, 7, 8, 9], share=0.25, n_samples=5)
    users = make_users(*((f"u{number}", None, [], None) for number in range(4000)))
    rows = blend(shared, users)
    explored = [item["item_id"] for row in rows for item in row["items"] if item["sources"][0]["source"] == EXPLORE]
    assert len(explored) == 4000
    assert {one["score"] for row in rows for one in row["items"][3]["sources"]} == {float(np.float32(0.2))}
    assert all(explored.count(f"item {item}") / 4000 == pytest.approx(0.2, abs=0.03) for item in range(5, 10))


def test_what_a_user_had_or_is_listed_anyway_is_not_explored() -> None:
    shared = exploring([1, 8, 9], share=0.5)
    rows = blend(shared, make_users(("u1", None, [8], None), ("u2", None, [1, 8, 9], None)))
    assert items_of(rows) == [["item 1", "item 9", "item 2", "item 3"], ["item 2", "item 3", "item 4"]]


def test_a_pin_takes_the_place_of_a_proposed_item_and_not_of_an_explored_one() -> None:
    pin = Rule(rule_id="front", kind="pin", item_id=IDS[0], position=1)
    shared = replace(exploring([8, 9], share=0.5), rules=compiled((pin,)))
    (row,) = blend(shared, make_users(("u1", None, [], None)))
    sources = [[one["source"] for one in item["sources"]] for item in row["items"]]
    assert sources[0] == ["rule/front"]
    assert sorted(items_of([row])[0][1:]) == ["item 1", "item 8", "item 9"]


def test_a_pinned_item_is_not_explored() -> None:
    pin = Rule(rule_id="front", kind="pin", item_id=IDS[8], position=1)
    (row,) = blend(replace(exploring([8, 9], share=0.5), rules=compiled((pin,))), make_users(("u1", None, [], None)))
    explored = [item["item_id"] for item in row["items"] if item["sources"][0]["source"] == EXPLORE]
    assert explored == ["item 9"]
    assert [one["source"] for one in row["items"][0]["sources"]] == ["rule/front"]


def test_nothing_is_explored_at_share_0_and_the_bits_are_those_of_no_exploration() -> None:
    users = make_users(("u1", "FR", [2], None))
    plain = make_shared(SHARED_ROWS, SOURCES, k=4)
    batches = [blend_block(users, state_of(one)) for one in (exploring([8, 9], share=0.0), plain)]
    assert batches[0] == batches[1]


def test_who_has_no_list_is_shown_what_is_explored() -> None:
    shared = replace(exploring([8, 9], share=0.5), lists=make_shared([], SOURCES).lists, sources=(), segments=())
    (row,) = blend(shared, make_users(("u1", None, [], None)))
    assert sorted(items_of([row])[0]) == ["item 8", "item 9"]


@settings(max_examples=200)
@given(worlds())
def test_rules_hold_for_what_is_explored(world: World) -> None:
    every = Samples(np.array(sorted(world.shown), np.int32), np.arange(len(world.shown), dtype=np.int32)[None])
    rows = [("top", None, [{"item_idx": item, "rank": 1, "score": 1.0} for item in world.top])]
    shown = VisibleItems(every.items, pa.array([IDS[item] for item in every.items], pa.string()))
    shared = make_shared(rows, ("top",), k=world.k, shown=shown)
    shared = replace(shared, rules=compiled(world.rules), settings=replace(shared.settings, explore_share=0.5))
    shared = replace(shared, exploration=Exploration(every, seed=1))
    users = make_users(
        *((f"u{number}", user.segment, sorted(user.excluded), None) for number, user in enumerate(world.users))
    )
    for row, user in zip(blend(shared, users), world.users, strict=True):
        listed = [IDS.index(item["item_id"]) for item in row["items"]]
        assert set(listed) <= admissible(world, user)
        assert len(set(listed)) == len(listed) <= world.k
        scores = [item["score"] for item in row["items"]]
        assert scores == sorted(scores, reverse=True)
