"""The worker's side of blend, without a JVM: Arrow batches in, Arrow batches in the form of the table out."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from recsys_spark.blend.block import blend_block, block_users
from recsys_spark.blend.kernels.diversity import Diversity, ItemTraits
from recsys_spark.blend.kernels.score_fusion import Fusion
from recsys_spark.blend.worker import BlendBroadcast, VisibleItems, state_of
from recsys_spark.errors import KernelError
from recsys_spark.ingest.rules import Rule
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.tables import CANDIDATES
from tests.blend_batches import ALL_SHOWN, make_shared, make_users, ranked
from tests.rule_oracle import IDS, World, admissible, compiled, expected, worlds


def blend(shared: BlendBroadcast, *batches: pa.RecordBatch) -> list[dict]:
    return [row for batch in batches for row in blend_block(batch, state_of(shared)).to_pylist()]


def items_of(rows: list[dict]) -> list[list[str]]:
    return [[item["item_id"] for item in row["items"]] for row in rows]


SHARED_ROWS = [("top", None, ranked(1, 2, 3, 4)), ("near", "FR", ranked(5, 1)), ("near", "IS", ranked(6))]


def test_blend_block_gives_ids_ranks_scores_and_reasons() -> None:
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"), weights=(2.0, 1.0, 1.0))
    (row,) = blend(shared, make_users(("u1", "FR", [1], [("als", ranked(7, 1))])))
    assert row["user_id"] == "u1"
    assert [(item["item_id"], item["rank"]) for item in row["items"]] == [("item 7", 1), ("item 2", 2), ("item 5", 3)]
    assert [item["score"] for item in row["items"]] == pytest.approx([2 / 61, 1 / 61, 1 / 61], rel=2**-23)
    assert [item["sources"] for item in row["items"]] == [
        [{"source": "als", "rank": 1, "score": 10.0}],
        [{"source": "top", "rank": 1, "score": 9.0}],  # second in the list, first of what u1 may see
        [{"source": "near", "rank": 1, "score": 10.0}],
    ]
    assert row["n_by_source"] == [1, 1, 1]


def test_blend_block_names_the_reasons_in_the_order_of_the_sources() -> None:
    shared = make_shared([("near", "FR", ranked(1)), ("all", None, ranked(1))], ("all", "als", "near"))
    (row,) = blend(shared, make_users(("u1", "FR", [], [("als", ranked(1))])))
    assert [one["source"] for one in row["items"][0]["sources"]] == ["all", "als", "near"]


def test_blend_block_sums_scores_that_stand_beyond_the_ends_of_lists_too() -> None:
    """What `als` has as its fourth, beyond k, stands out more than what `near` has first; `top` counts a little."""
    shared = make_shared(SHARED_ROWS[:1], ("als", "near", "top"))
    fusion = Fusion(np.array([1.0, 1.0, 0.25]), "background")
    shared = replace(shared, settings=replace(shared.settings, fusion=fusion))
    own = [
        {
            "source": "als",
            "item_idx": [7, 8, 9, 5],
            "score": [5.0, 4.0, 4.0, 3.0],
            "n_own": 3,
            "mean": 1.0,
            "deviation": 0.5,
        },
        {"source": "near", "item_idx": [5, 6], "score": [4.0, 2.0], "n_own": None, "mean": 0.0, "deviation": 2.0},
    ]
    users = make_users(("u1", "FR", [], []), ("u2", "FR", [], []))
    users = users.set_column(3, "own", pa.array([own, []], users["own"].type))
    first, second = blend(shared, users)
    # On the one scale: als says 8, 6, 6 and 4 of them, near 2 and 1; of what neither knows top says 0.25 x z.
    assert [item["item_id"] for item in first["items"]] == ["item 7", "item 5", "item 8"]
    scores = [item["score"] for item in first["items"]]
    # Laid out from the least, 0.25 x how far the third of top stands out, to the greatest.
    of_top = np.array([10.0, 9.0, 8.0, 7.0] + [0.0] * (len(ALL_SHOWN.item_idx) - 4))
    least = 0.25 * (8.0 - of_top.mean()) / of_top.std()
    assert scores == pytest.approx([1.0, *[(6 - least) / (8 - least)] * 2], abs=1e-5)
    assert [one["source"] for one in first["items"][1]["sources"]] == ["near"]  # als proposed three
    assert items_of([second]) == [["item 1", "item 2", "item 3"]]


def test_blend_block_writes_the_declared_type() -> None:
    (batch,) = [blend_block(make_users(("u1", None, [], None)), state_of(make_shared(SHARED_ROWS, ("near", "top"))))]
    assert batch.schema.field("items").type == arrow_type(CANDIDATES)
    batch.validate(full=True)


def test_blend_block_serves_each_segment_its_list() -> None:
    shared = make_shared(SHARED_ROWS, ("near", "top"), weights=(2.0, 1.0), k=2)
    users = make_users(("u1", "FR", [], None), ("u2", "IS", [], None), ("u3", "DE", [], None), ("u4", None, [], None))
    assert items_of(blend(shared, users)) == [
        ["item 1", "item 5"],  # 2/62 + 1/61 is more than 2/61
        ["item 6", "item 1"],
        ["item 1", "item 2"],
        ["item 1", "item 2"],
    ]


def test_blend_block_leaves_out_what_may_not_be_shown_and_refills() -> None:
    shown = VisibleItems(np.array([2, 4, 7], np.int32), pa.array(["two", "four", "seven"]))
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"), shown=shown)
    users = make_users(("u1", "FR", [], [("als", ranked(9, 7, 1))]), ("u2", None, [2], None))
    rows = blend(shared, users)
    assert items_of(rows) == [["two", "seven", "four"], ["four"]]
    assert rows[0]["items"][1]["sources"] == [{"source": "als", "rank": 1, "score": 9.0}]


def test_blend_block_gives_an_empty_list_to_who_has_seen_everything() -> None:
    shared = make_shared(SHARED_ROWS, ("near", "top"))
    assert items_of(blend(shared, make_users(("u1", "IS", [1, 2, 3, 4, 6], None), ("u2", None, [], None)))) == [
        [],
        ["item 1", "item 2", "item 3"],
    ]


def test_blend_block_gives_empty_lists_when_there_is_no_list_at_all() -> None:
    for sources in ((), ("als",)):
        rows = blend(make_shared([], sources), make_users(("u1", "FR", [3], None), ("u2", None, [], [])))
        assert items_of(rows) == [[], []]
        assert [row["n_by_source"] for row in rows] == [[0] * len(sources)] * 2


def test_blend_block_gives_empty_lists_when_nothing_may_be_shown() -> None:
    nothing = VisibleItems(np.zeros(0, np.int32), pa.array([], pa.string()))
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"), shown=nothing)
    assert items_of(blend(shared, make_users(("u1", "FR", [], [("als", ranked(1))])))) == [[]]


def test_blend_block_leaves_a_list_of_weight_zero_out() -> None:
    rows = blend(make_shared(SHARED_ROWS, ("near", "top"), weights=(1.0, 0.0)), make_users(("u1", "FR", [], None)))
    assert items_of(rows) == [["item 5", "item 1"]]
    assert [len(item["sources"]) for item in rows[0]["items"]] == [1, 1]


@pytest.mark.parametrize("n_users", [1, 2, 5])
def test_blend_block_gives_the_same_lists_in_blocks_of_any_size(n_users: int) -> None:
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"))
    rng = np.random.default_rng(1)
    rows = [
        (
            f"u{number}",
            ["FR", "IS", None][number % 3],
            sorted(rng.choice(10, 3, replace=False).tolist()),
            None if number % 4 == 0 else [("als", ranked(*rng.permutation(10)[:5].tolist()))],
        )
        for number in range(9)
    ]
    whole = blend(shared, make_users(*rows))
    blocks = [make_users(*rows).slice(first, n_users) for first in range(0, len(rows), n_users)]
    assert blend(shared, *blocks) == whole


def test_blend_block_refuses_two_lists_of_one_source_for_one_user() -> None:
    users = make_users(("u1", None, [], [("als", ranked(1)), ("als", ranked(2))]))
    with pytest.raises(KernelError, match="expected one list per source and user, segment or everybody, got two"):
        blend(make_shared([], ("als",)), users)


@pytest.mark.parametrize("segment", [None, "FR"])
def test_shared_lists_refuses_two_lists_of_one_source_for_one_segment(segment: str | None) -> None:
    with pytest.raises(KernelError, match="expected one list per source and user, segment or everybody, got two"):
        make_shared([("top", segment, ranked(1)), ("top", segment, ranked(2))], ("top",))


def with_rules(shared: BlendBroadcast, *rules: Rule) -> BlendBroadcast:
    return replace(shared, rules=compiled(rules))


def shared_of(world: World) -> BlendBroadcast:
    shown = VisibleItems(np.array(sorted(world.shown), np.int32), pa.array([IDS[item] for item in sorted(world.shown)]))
    near = [("near", segment, ranked(*items)) for segment, items in world.near.items()]
    rows = [*near, ("top", None, ranked(*world.top))]
    return with_rules(make_shared(rows, ("near", "own", "top"), k=world.k, shown=shown), *world.rules)


def users_of(world: World) -> pa.RecordBatch:
    return make_users(*(("u", user.segment, list(user.excluded), [("own", ranked(*user.own))]) for user in world.users))


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_blend_block_with_rules_matches_a_plain_loop(world: World) -> None:
    for user, row in zip(world.users, blend(shared_of(world), users_of(world)), strict=True):
        oracle = expected(world, user)
        assert [item["item_id"] for item in row["items"]] == [IDS[item] for item, _, _ in oracle]
        assert [[tuple(one.values()) for one in item["sources"]] for item in row["items"]] == [
            why for *_, why in oracle
        ]
        scores = [score for _, score, _ in oracle]
        np.testing.assert_allclose([item["score"] for item in row["items"]], scores, rtol=2**-23)
        names = [one["source"] for item in row["items"] for one in item["sources"]]
        assert row["n_by_source"] == [names.count(name) for name in ("near", "own", "top")]


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_blend_block_of_scores_keeps_rules(world: World) -> None:
    shared = shared_of(world)
    fusion = Fusion(np.array([0.7, 0.3, 0.5]), "capped")
    shared = replace(shared, settings=replace(shared.settings, fusion=fusion))
    for user, row in zip(world.users, blend(shared, users_of(world)), strict=True):
        left = admissible(world, user)
        listed = [IDS.index(item["item_id"]) for item in row["items"]]
        assert set(listed) <= left
        proposed = left & {*user.own, *world.top, *world.near.get(user.segment or "", ())}
        assert min(world.k, len(proposed)) <= len(listed) <= world.k
        scores = [item["score"] for item in row["items"]]
        assert scores == sorted(scores, reverse=True)


def test_blend_block_keeps_rules_that_acted_after_the_sources() -> None:
    rules = (
        Rule("b", "boost", item_id="item 2", factor=1.5),
        Rule("c", "pin", item_id="item 8", position=2, segment="FR"),
        Rule("d", "pin", item_id="item 9", position=1, segment="IS"),
    )
    shared = with_rules(make_shared(SHARED_ROWS, ("near", "top")), *rules)
    (batch,) = [blend_block(make_users(("u1", "FR", [], None)), state_of(shared))]
    assert batch.schema.field("items").type == arrow_type(CANDIDATES)
    batch.validate(full=True)
    (row,) = batch.to_pylist()
    assert [(item["item_id"], item["rank"], item["sources"]) for item in row["items"]] == [
        # 1 / 61 + 1 / 62 of item 1 is more than 1.5 / 62 of item 2
        ("item 1", 1, [{"source": "near", "rank": 2, "score": 9.0}, {"source": "top", "rank": 1, "score": 10.0}]),
        ("item 8", 2, [{"source": "rule/c", "rank": 2, "score": 0.0}]),
        ("item 2", 3, [{"source": "top", "rank": 2, "score": 9.0}, {"source": "rule/b", "rank": 1, "score": 1.5}]),
    ]
    assert row["n_by_source"] == [1, 2]


def test_blend_block_pins_items_where_there_is_no_list_at_all() -> None:
    for sources in ((), ("als",)):
        shared = with_rules(make_shared([], sources), Rule("a", "pin", item_id="item 3", position=9))
        rows = blend(shared, make_users(("u1", "FR", [3], None), ("u2", None, [], [])))
        assert items_of(rows) == [[], ["item 3"]]
        assert rows[1]["items"][0]["sources"] == [{"source": "rule/a", "rank": 9, "score": 0.0}]
        assert [row["n_by_source"] for row in rows] == [[0] * len(sources)] * 2


def test_blend_block_fills_the_list_of_a_segment_from_deeper_in_the_lists() -> None:
    top = [("top", None, ranked(*range(10)))]
    shared = with_rules(
        make_shared(top, ("top",)), *(Rule(f"{at}", "block", item_id=IDS[at], segment="FR") for at in range(5))
    )
    assert items_of(blend(shared, make_users(("u1", "FR", [6], None), ("u2", "DE", [0], None)))) == [
        ["item 5", "item 7", "item 8"],
        ["item 1", "item 2", "item 3"],
    ]


def test_blend_block_with_rules_that_do_nothing_gives_the_same_bits() -> None:
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"))
    users = make_users(("u1", "FR", [1], [("als", ranked(7, 1))]), ("u2", None, [], None))
    idle = with_rules(shared, Rule("a", "block", item_id="item 9"), Rule("b", "allow", item_id="item 1", segment="DE"))
    assert blend_block(users, state_of(idle)) == blend_block(users, state_of(shared))


def test_blend_block_pins_what_a_cap_would_leave_out_and_keeps_its_reasons() -> None:
    shared = with_rules(
        make_shared([("top", None, ranked(1, 2, 3))], ("top",)), Rule("a", "pin", item_id="item 2", position=1)
    )
    traits = ItemTraits(categories=np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1], np.int32))
    settings = replace(shared.settings, diversity=Diversity(category_cap=1))
    (row,) = blend(replace(shared, settings=settings, traits=traits), make_users(("u1", None, [], None)))
    assert items_of([row]) == [["item 2", "item 1", "item 3"]]
    assert [one["source"] for one in row["items"][0]["sources"]] == ["top", "rule/a"]
    assert row["items"][0]["score"] >= row["items"][1]["score"] > 0


def test_block_users_fills_a_cores_cache() -> None:
    assert block_users(state_of(make_shared(SHARED_ROWS, ("als", "near", "top"), k=200))) == 72
    assert block_users(state_of(make_shared([], (), k=10**7))) == 1
