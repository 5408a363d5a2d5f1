"""Unions of lists, and what each lacks, against plain sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.union import Listed, appended, first_items, for_all_cells, missing, union_cells
from recsys_spark.blend.kernels.walks import ITEM_BITS
from tests.item_cf_oracle import List, lists_of, ranked_of
from tests.sparse import csr_of_pairs

N_USERS = 4
ONE = st.lists(st.integers(0, 9), unique=True, max_size=6).map(
    lambda items: [(item, 9.0 - at) for at, item in enumerate(items)]
)
SOURCES = st.lists(st.dictionaries(st.integers(0, N_USERS - 1), ONE, max_size=N_USERS), max_size=3)


def listed_of(lists: dict[int, List]) -> Listed:
    users = sorted(lists)
    return np.array(users, np.int64), ranked_of([lists[user] for user in users])


@given(SOURCES, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_unions_and_what_lists_lack_match_plain_sets(sources: list[dict[int, List]], depth: int) -> None:
    cells = union_cells([listed_of(one) for one in sources], depth)
    wanted = {(user, item) for one in sources for user, entries in one.items() for item, _ in entries[:depth]}
    assert [(cell >> ITEM_BITS, cell & ((1 << ITEM_BITS) - 1)) for cell in cells.tolist()] == sorted(wanted)
    for one in sources:
        rows, items = missing(cells, listed_of(one))
        found = {(sorted(one)[row], item) for row, item in zip(rows.tolist(), items.tolist(), strict=True)}
        lacked = {(user, item) for user, item in wanted if user in one and item not in dict(one[user])}
        assert found == lacked
        assert len(rows) == len(found)
        assert (np.diff(rows) >= 0).all()


def test_appended_puts_items_at_the_ends_in_their_order() -> None:
    lists = ranked_of([[(3, 5.0), (1, 4.0)], [], [(2, 1.0)]])
    rows, items = np.array([0, 0, 0, 1, 2]), np.array([9, 8, 7, 5, 6], np.int32)
    found = appended(lists, rows, items, np.float32([0.5, 1.0, 0.5, -1.0, 0.25]))
    assert lists_of(found) == [
        [(3, 5.0), (1, 4.0), (8, 1.0), (7, 0.5), (9, 0.5)], [(5, -1.0)], [(2, 1.0), (6, 0.25)]
    ]  # fmt: skip
    none = np.zeros(0, np.int64)
    assert lists_of(appended(lists, none, none.astype(np.int32), none.astype(np.float32))) == lists_of(lists)


def test_first_items_and_all_users_with_them_match_plain_sets() -> None:
    lists = ranked_of([[(3, 2.0), (1, 1.0), (4, 0.5)], [], [(1, 9.0), (0, 3.0)]])
    items = first_items([lists, ranked_of([[(7, 1.0)]])], 2)
    assert items.tolist() == [0, 1, 3, 7]
    hidden = csr_of_pairs(np.array([0, 0, 2]), np.array([1, 5, 7]), np.ones(3), 3, 9)
    cells = for_all_cells(3, items, hidden).tolist()
    pairs = [(user, item) for user in range(3) for item in (0, 1, 3, 7) if (user, item) not in ((0, 1), (2, 7))]
    assert [(cell >> ITEM_BITS, cell & ((1 << ITEM_BITS) - 1)) for cell in cells] == pairs
    assert first_items([], 5).tolist() == []
