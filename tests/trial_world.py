"""Small logs on the driver, as validation has them: users of groups who have what is of their own group."""

from datetime import UTC, datetime

import numpy as np

from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.sequence.kernels.successors import newest_histories
from recsys_spark.spark.sparse_blocks import RowBlock
from recsys_spark.validation.choice_sets import Judged
from recsys_spark.validation.fits import TrialLog
from tests.sparse import csr_of_pairs

CUTOFF = datetime(2025, 3, 1, tzinfo=UTC)
N_USERS, N_ITEMS, N_GROUPS = 120, 40, 4
_DAY_US = 86_400_000_000


def grouped_log(seed: int = 3, n_items: int = N_ITEMS, has_order: bool = False, n_new: int = 0) -> Judged:
    """Users who have half of the items of their group and one other, and go on to two more of it and one other.

    Item n_items - 1 may not be listed.  n_new: so many items before it were had by nobody; then the catalogue tells the
    group of every item, and each user goes on to one of these of their group too.
    """
    rng = np.random.default_rng(seed)
    had = np.zeros((N_USERS, n_items), bool)
    later = np.zeros((N_USERS, n_items), bool)
    for user in range(N_USERS):
        own = np.flatnonzero(np.arange(n_items) % N_GROUPS == user % N_GROUPS)
        drawn = rng.permutation(own)
        had[user, drawn[: len(own) // 2]] = True
        later[user, drawn[len(own) // 2 : len(own) // 2 + 2]] = True
        strange = rng.permutation(np.flatnonzero(np.arange(n_items) % N_GROUPS != user % N_GROUPS))
        had[user, strange[0]], later[user, strange[1]] = True, True
    new = np.arange(n_items - 1 - n_new, n_items - 1)
    had[:, new] = False
    for user in range(N_USERS if n_new else 0):
        own_new = new[new % N_GROUPS == user % N_GROUPS]
        later[user, new], later[user, rng.choice(own_new)] = False, True
    texts = csr_of_pairs(np.arange(n_items) % N_GROUPS, np.arange(n_items), np.ones(n_items), N_GROUPS, n_items)
    users, items = np.nonzero(had)
    ages = rng.integers(1, 40, len(users))
    times = int(CUTOFF.timestamp()) * 1_000_000 - ages * _DAY_US
    rows = RowBlock(
        0,
        np.concatenate([[0], np.cumsum(had.sum(axis=1))]).astype(np.int64),
        items.astype(np.int32),
        {"weight": np.ones(len(items), np.float32), "time": times, "hidden": np.ones(len(items), bool)},
    )
    histories = newest_histories(users, items, times, N_USERS, 100) if has_order else None
    listed = np.ones(n_items, bool)
    listed[-1] = False
    of_items = (texts, texts) if n_new else (None, None)
    log = TrialLog(rows, histories, *of_items, listed, np.arange(N_USERS), CUTOFF, seed)
    counts = np.where(listed, had.sum(axis=0), 0)
    order = np.lexsort((np.arange(n_items), -counts))
    order = order[counts[order] > 0]
    popular = Ranked(np.array([0, len(order)]), order.astype(np.int32), counts[order].astype(np.float32))
    of_users, of_items = np.nonzero(later & listed)
    targets: Csr = csr_of_pairs(of_users, of_items, np.ones(len(of_users)), N_USERS, n_items)
    return Judged(log, targets, {"popular/global": popular}, 5)
