"""Rows of users and of lists become blocks of users again, however tasks and batches cut them."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.blend import collect as module
from recsys_spark.blend.collect import LIST_FIELDS, user_blocks, user_rows
from recsys_spark.warehouse.spark_check import spark_schema
from recsys_spark.warehouse.tables import TABLES
from tests.local_frame import local_frame

SCHEMA = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("user_id", pa.string()),
        *LIST_FIELDS,
    ]
)


MOMENTS = {"n_own": 1, "mean": 0.5, "deviation": None}


def rows_of(users: dict[int, int | None]) -> list[dict]:
    """The rows of users with so many lists; None: the lists of user_idx have no user."""
    rows: list[dict] = []
    for user, n_lists in users.items():
        if n_lists is not None:
            rows.append({"user_idx": user, "user_id": f"u{user}"})
        for number in range(3 if n_lists is None else n_lists):
            rows.append(
                {
                    "user_idx": user,
                    "source": f"list{number}",
                    "item_idx": [user, number],
                    "score": [2.0, 1.0],
                    **MOMENTS,
                }
            )
    return rows


@given(
    st.dictionaries(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 4)), max_size=12),
    st.lists(st.integers(1, 9), min_size=1),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_user_blocks_gives_every_user_their_lists_however_batches_are_cut(
    users: dict[int, int | None], cuts: list[int], n_users: int
) -> None:
    users = dict(sorted(users.items()))
    table, first, batches = pa.RecordBatch.from_pylist(rows_of(users), SCHEMA), 0, []
    while first < table.num_rows:
        batches.append(table.slice(first, cuts[len(batches) % len(cuts)]))
        first += cuts[(len(batches) - 1) % len(cuts)]
    blocks = list(user_blocks(iter(batches), n_users))
    assert all(0 < block.num_rows <= n_users for block in blocks)
    found = [row for block in blocks for row in block.to_pylist()]
    assert found == [
        {
            "user_idx": user,
            "user_id": f"u{user}",
            "own": [
                {"source": f"list{number}", "item_idx": [user, number], "score": [2.0, 1.0], **MOMENTS}
                for number in range(n_lists)
            ],
        }
        for user, n_lists in users.items()
        if n_lists is not None
    ]


@pytest.mark.parametrize(("first", "step", "n_tasks"), [(0, 1, 1), (0, 1000, 1), (90_000, 1, 2), (5, 9_000, 2)])
def test_user_rows_are_in_order_of_users_in_even_tasks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, first: int, step: int, n_tasks: int
) -> None:
    """Also where all users are the last of many, or far from each other."""
    if n_tasks > 1:
        monkeypatch.setattr(module, "_USERS_PER_TASK", 10)
    known = [(first + user * step, f"u{user}", True) for user in range(20)]
    users = local_frame(spark, known, "user_idx int, user_id string, is_new boolean")
    third_only = [{"item_idx": 3, "rank": 1, "score": 1.0}]
    first_only = [{"item_idx": 1, "rank": 1, "score": 1.0}]
    lists = [(f"list{at}", first + user * step, None, third_only) for user in range(0, 20, 2) for at in range(3)]
    lists += [("top", None, None, first_only), ("als", first + 50 * step, None, first_only)]
    listed = local_frame(
        spark, [(*row, None, None, None) for row in lists], spark_schema(TABLES["source_candidates"], ("run_id",))
    )
    frame = user_rows(users.repartition(3), listed.repartition(5))
    parts = frame.rdd.glom().collect()
    assert [sum(row["user_id"] is not None for row in part) for part in parts] == [20 // n_tasks] * n_tasks
    rows = [(row["user_idx"], row["user_id"], row["source"], row["item_idx"]) for part in parts for row in part]
    assert rows == [
        row
        for user in range(20)
        for row in [
            (first + user * step, f"u{user}", None, None),
            *((first + user * step, None, f"list{at}", [3]) for at in range(3) if user % 2 == 0),
        ]
    ] + [(first + 50 * step, None, "als", [1])]
