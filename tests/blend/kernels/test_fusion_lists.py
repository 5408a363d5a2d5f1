import numpy as np

from recsys_spark.blend.kernels.fusion import Fused, raised, relist, spread, with_reasons


def fused() -> Fused:
    """u0: items 4 and 2; u1: none; u2: item 7.  Item 4 has two reasons, the others one."""
    return Fused(
        indptr=np.array([0, 2, 2, 3]),
        items=np.array([4, 2, 7], np.int32),
        ranks=np.array([1, 2, 1], np.int32),
        scores=np.array([3, 2, 5], np.float32),
        source_indptr=np.array([0, 2, 3, 4]),
        columns=np.array([0, 1, 1, 0], np.int32),
        source_ranks=np.array([1, 4, 2, 1], np.int32),
        source_scores=np.array([9, 6, 8, 9], np.float32),
    )


def reasons(lists: Fused) -> list[list[tuple[int, int, float]]]:
    rows = list(zip(lists.columns.tolist(), lists.source_ranks.tolist(), lists.source_scores.tolist(), strict=True))
    return [rows[start:end] for start, end in zip(lists.source_indptr[:-1], lists.source_indptr[1:], strict=True)]


def test_relist_takes_entries_with_their_reasons_and_added_ones_without() -> None:
    scores = np.array([3, 2, 5, 1], np.float32)
    lists = relist(fused(), np.array([9]), scores, np.array([1, 3, 0, 2]), np.array([3, 0, 1]))
    assert lists.indptr.tolist() == [0, 3, 3, 4]
    assert lists.items.tolist() == [2, 9, 4, 7]
    assert lists.ranks.tolist() == [1, 2, 3, 1]
    assert lists.scores.tolist() == [2, 1, 3, 5]
    assert reasons(lists) == [[(1, 2, 8)], [], [(0, 1, 9), (1, 4, 6)], [(0, 1, 9)]]


def test_raised_lifts_a_score_to_the_highest_after_it_in_its_list_alone() -> None:
    lists = relist(
        fused(), np.array([9]), np.array([3, 2, 5, 1], np.float32), np.array([1, 3, 0, 2]), np.array([3, 0, 1])
    )
    assert raised(lists).scores.tolist() == [3, 3, 3, 5]
    assert raised(fused()).scores.tolist() == [3, 2, 5]


def test_with_reasons_adds_behind_those_of_the_entry_several_if_asked() -> None:
    entries = np.array([0, 2, 2])
    lists = with_reasons(fused(), entries, np.array([5, 6, 7]), np.array([1, 1, 2]), np.array([0.5, 0.25, 0.125]))
    assert reasons(lists) == [
        [(0, 1, 9), (1, 4, 6), (5, 1, 0.5)],
        [(1, 2, 8)],
        [(0, 1, 9), (6, 1, 0.25), (7, 2, 0.125)],
    ]


def test_spread_lays_groups_end_to_end() -> None:
    places, lengths = spread(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2]))
    assert places.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert lengths.tolist() == [3, 0, 2, 3]
