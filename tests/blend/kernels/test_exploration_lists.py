import numpy as np
import pytest

from recsys_spark.blend.kernels.exploration import Explored, with_explored
from tests.blend.kernels.test_fusion_lists import fused, reasons

EXPLORED = Explored(
    np.array([[9, 8], [8, -1], [-1, -1]], np.int32), np.array([[0.5, 0.25], [1.0, 0], [0, 0]], np.float32)
)


def test_with_explored_puts_items_at_their_ranks_with_their_propensities() -> None:
    lists = with_explored(fused(), EXPLORED, np.array([2, 4]), 4, 3)
    assert lists.indptr.tolist() == [0, 4, 5, 6]
    assert lists.items.tolist() == [4, 9, 2, 8, 8, 7]
    assert lists.ranks.tolist() == [1, 2, 3, 4, 1, 1]
    assert lists.scores.tolist() == [3, 0, 2, 0, 0, 5]
    assert reasons(lists) == [
        [(0, 1, 9), (1, 4, 6)],
        [(3, 1, 0.5)],
        [(1, 2, 8)],
        [(3, 2, 0.25)],
        [(3, 1, 1.0)],
        [(0, 1, 9)],
    ]


@pytest.mark.parametrize(("k", "expected"), [(1, [9, 8, 7]), (2, [4, 9, 8, 7]), (3, [4, 9, 2, 8, 7])])
def test_with_explored_drops_what_falls_out_at_the_end(k: int, expected: list[int]) -> None:
    one = Explored(EXPLORED.items[:, :1], EXPLORED.propensities[:, :1])
    ranks = np.array([min(k, 2)])
    lists = with_explored(fused(), one, ranks, k, 3)
    assert lists.items.tolist() == expected


def test_with_explored_of_nobody_is_the_lists_as_they_were() -> None:
    none = Explored(np.full((3, 2), -1, np.int32), np.zeros((3, 2), np.float32))
    lists = with_explored(fused(), none, np.array([1, 2]), 4, 3)
    assert (lists.items.tolist(), reasons(lists)) == (fused().items.tolist(), reasons(fused()))
