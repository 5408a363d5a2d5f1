"""Successors over the cluster are those of one process, however users and items are cut."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.numeric.sparse import newest_entries
from recsys_spark.sequence.kernels.successors import TransitionSettings, histories, successors, transitions
from recsys_spark.sequence.successors import Limits, fit_successors
from tests.item_cf_oracle import lists_of
from tests.local_frame import local_frame

N_USERS, N_ITEMS, MAX_ROW = 40, 25, 12
FOLLOWING = TransitionSettings(window=4, half_life=2.0, alpha=0.5, beta=0.25, shrinkage=1.0, num_successors=6)
START = datetime(2025, 1, 1, tzinfo=UTC)
LISTED = np.arange(N_ITEMS) % 7 != 0


def _log() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and hours of 700 events; some users have hundreds, and some events one time."""
    rng = np.random.default_rng(8)
    users = (N_USERS * rng.random(700) ** 3).astype(np.int32)
    return users, (N_ITEMS * rng.random(700) ** 2).astype(np.int32), rng.integers(0, 150, 700)


def _expected() -> dict[int, list[tuple[int, float]]]:
    users, items, hours = _log()
    order = np.lexsort((items, users))
    users, items, hours = users[order], items[order], hours[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=N_USERS))])
    n_users = np.array([len(np.unique(users[items == item])) for item in range(N_ITEMS)])
    kept = newest_entries(indptr, items, hours, MAX_ROW)
    lengths = np.bincount(users[kept], minlength=N_USERS)
    found = histories(np.concatenate([[0], np.cumsum(lengths)]), items[kept], hours[kept])
    lists = lists_of(successors(transitions(found, FOLLOWING, N_ITEMS), range(N_ITEMS), n_users, FOLLOWING, LISTED))
    return {item: entries for item, entries in enumerate(lists) if entries}


@pytest.mark.parametrize("block_bytes", [1 << 28, 90_000])
def test_fit_successors_gives_the_lists_of_one_process(spark: SparkSession, block_bytes: int) -> None:
    rows = [
        {"user_idx": user, "item_idx": item, "event_time": START + timedelta(hours=hour)}
        for user, item, hour in zip(*(column.tolist() for column in _log()), strict=True)
    ]
    engaged = local_frame(spark, rows, "user_idx int, item_idx int, event_time timestamp").repartition(3)
    found = fit_successors(engaged, N_USERS, LISTED, FOLLOWING, Limits(MAX_ROW, block_bytes)).collect()
    lists = {row["idx"]: list(zip(row["indices"], row["scores"], strict=True)) for row in found}
    assert lists == _expected()
