"""The worker's side of blend, without a JVM: Arrow batches in, Arrow batches in the form of the table out."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.adapters import blend_arrow
from recsys_spark.adapters.blend_arrow import blender
from recsys_spark.adapters.blend_scopes import Shared, Shown
from recsys_spark.errors import KernelError
from recsys_spark.tables.arrow import arrow_type
from recsys_spark.tables.catalog import CANDIDATES
from tests.blend_batches import make_shared, make_users, ranked


@dataclass(frozen=True)
class Sent:
    value: Shared


def blend(shared: Shared, *batches: pa.RecordBatch) -> list[dict]:
    return pa.Table.from_batches(list(blender(Sent(shared))(iter(batches)))).to_pylist()


def items_of(rows: list[dict]) -> list[list[str]]:
    return [[item["item_id"] for item in row["items"]] for row in rows]


SHARED_ROWS = [("top", None, ranked(1, 2, 3, 4)), ("near", "FR", ranked(5, 1)), ("near", "IS", ranked(6))]


def test_blender_gives_ids_ranks_scores_and_reasons() -> None:
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


def test_blender_names_the_reasons_in_the_order_of_the_sources() -> None:
    shared = make_shared([("near", "FR", ranked(1)), ("all", None, ranked(1))], ("all", "als", "near"))
    (row,) = blend(shared, make_users(("u1", "FR", [], [("als", ranked(1))])))
    assert [one["source"] for one in row["items"][0]["sources"]] == ["all", "als", "near"]


def test_blender_writes_the_declared_type() -> None:
    (batch,) = blender(Sent(make_shared(SHARED_ROWS, ("near", "top"))))(iter([make_users(("u1", None, [], None))]))
    assert batch.schema.field("items").type == arrow_type(CANDIDATES)
    batch.validate(full=True)


def test_blender_serves_each_segment_its_list() -> None:
    shared = make_shared(SHARED_ROWS, ("near", "top"), weights=(2.0, 1.0), k=2)
    users = make_users(("u1", "FR", [], None), ("u2", "IS", [], None), ("u3", "DE", [], None), ("u4", None, [], None))
    assert items_of(blend(shared, users)) == [
        ["item 1", "item 5"],  # 2/62 + 1/61 is more than 2/61
        ["item 6", "item 1"],
        ["item 1", "item 2"],
        ["item 1", "item 2"],
    ]


def test_blender_leaves_out_what_may_not_be_shown_and_refills() -> None:
    shown = Shown(np.array([2, 4, 7], np.int32), pa.array(["two", "four", "seven"]))
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"), shown=shown)
    users = make_users(("u1", "FR", [], [("als", ranked(9, 7, 1))]), ("u2", None, [2], None))
    rows = blend(shared, users)
    assert items_of(rows) == [["two", "seven", "four"], ["four"]]
    assert rows[0]["items"][1]["sources"] == [{"source": "als", "rank": 1, "score": 9.0}]


def test_blender_gives_an_empty_list_to_who_has_seen_everything() -> None:
    shared = make_shared(SHARED_ROWS, ("near", "top"))
    assert items_of(blend(shared, make_users(("u1", "IS", [1, 2, 3, 4, 6], None), ("u2", None, [], None)))) == [
        [],
        ["item 1", "item 2", "item 3"],
    ]


def test_blender_gives_empty_lists_when_there_is_no_list_at_all() -> None:
    for sources in ((), ("als",)):
        rows = blend(make_shared([], sources), make_users(("u1", "FR", [3], None), ("u2", None, [], [])))
        assert items_of(rows) == [[], []]
        assert [row["n_by_source"] for row in rows] == [[0] * len(sources)] * 2


def test_blender_gives_empty_lists_when_nothing_may_be_shown() -> None:
    nothing = Shown(np.zeros(0, np.int32), pa.array([], pa.string()))
    shared = make_shared(SHARED_ROWS, ("als", "near", "top"), shown=nothing)
    assert items_of(blend(shared, make_users(("u1", "FR", [], [("als", ranked(1))])))) == [[]]


def test_blender_leaves_a_list_of_weight_zero_out() -> None:
    rows = blend(make_shared(SHARED_ROWS, ("near", "top"), weights=(1.0, 0.0)), make_users(("u1", "FR", [], None)))
    assert items_of(rows) == [["item 5", "item 1"]]
    assert [len(item["sources"]) for item in rows[0]["items"]] == [1, 1]


@pytest.mark.parametrize("n_users", [1, 2, 5])
def test_blender_gives_the_same_lists_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, n_users: int) -> None:
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
    monkeypatch.setattr(blend_arrow, "_BLOCK_BYTES", n_users * 8 * 3 * 3 * 3)
    assert blend(shared, make_users(*rows[:4]), make_users(*rows[4:]).slice(0, 5)) == whole
    assert blend(shared, make_users(*rows).slice(3)) == whole[3:]


def test_blender_refuses_two_lists_of_one_source_for_one_user() -> None:
    users = make_users(("u1", None, [], [("als", ranked(1)), ("als", ranked(2))]))
    with pytest.raises(KernelError, match="expected one list per source and user, segment or everybody, got two"):
        blend(make_shared([], ("als",)), users)


@pytest.mark.parametrize("segment", [None, "FR"])
def test_shared_lists_refuses_two_lists_of_one_source_for_one_segment(segment: str | None) -> None:
    with pytest.raises(KernelError, match="expected one list per source and user, segment or everybody, got two"):
        make_shared([("top", segment, ranked(1)), ("top", segment, ranked(2))], ("top",))
