"""Related items come as stored, or in the order of one user."""

import pyarrow as pa
import pytest

from recsys_spark.serving.answers import Related, for_user, nearest
from recsys_spark.warehouse.arrow import arrow_type
from recsys_spark.warehouse.tables import NEIGHBORS


def _rows(*lists: list[tuple[str, float]]) -> pa.Table:
    listed = [[{"item_id": one, "item_idx": 0, "score": score} for one, score in row] for row in lists]
    return pa.table({"neighbors": pa.array(listed, arrow_type(NEIGHBORS))})


ROW = _rows([("a", 0.5), ("b", 0.25), ("c", 0.25), ("d", 0.125)])


def test_nearest_ranks_from_one_and_cuts() -> None:
    assert nearest(ROW, 2) == (Related("a", 1, 0.5), Related("b", 2, 0.25))
    assert len(nearest(ROW, 9)) == 4


def test_for_user_raises_what_is_near_to_the_recent_items() -> None:
    near = [_rows([("c", 0.5), ("z", 1.0)], [("c", 0.25), ("d", 0.25)])]
    # Sums: c 0.75, the most in the list, and d 0.25.
    assert for_user(ROW, ["x", "y"], near, 9) == (
        Related("a", 1, 0.5),
        Related("c", 2, 0.25 * 2),
        Related("b", 3, 0.25),
        Related("d", 4, pytest.approx(0.125 * (1 + 0.25 / 0.75))),
    )


def test_for_user_leaves_out_what_the_user_had() -> None:
    assert [one.item_id for one in for_user(ROW, ["a", "c"], [], 9)] == ["b", "d"]


def test_for_user_without_anything_near_keeps_the_order() -> None:
    assert for_user(ROW, [], [], 3) == nearest(ROW, 3)
    assert for_user(_rows([]), ["a"], [ROW], 3) == ()
