"""Temporal hold-out of the demo: lists are judged on what customers newly bought in the 28 days from the date on.

Owns: who is judged, on which items, and the popularity lists to compare with.

Protocol of date D.  Purchases are lines with a customer: a line without one counts nowhere, "bought by anyone" means
by any customer.  The window is [D, D + 28 days).  Judged are customers with a purchase before D; their targets are the
items that they bought in the window, had never bought before D, and that some customer had bought before D.  Items that
a customer had bought before D are taken out of the list before it is cut to k.  Recall is hits / targets of one
customer; recall and ndcg are means over the judged customers, each weighing the same.  Returns and repeats change
nothing.  (Pooling hits and targets over all customers would let wholesalers decide: .091 in place of .104 for 28-day
popularity on 2011-06-01.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.errors import KernelError
from recsys_spark.ingest.values import midnight
from recsys_spark.numeric.metrics import ndcg_at_k, recall_at_k
from recsys_spark.numeric.ragged import Ragged, ragged

WINDOW_DAYS = 28


@dataclass(frozen=True)
class Holdout:
    """The judged customers of a date, in the byte order of their ids, with what they newly bought.

    targets, seen: item ids per judged customer, in the order of `users`; no target is among the seen.
    """

    day: date
    users: list[str]
    targets: list[frozenset[str]]
    seen: list[frozenset[str]]


@dataclass(frozen=True)
class Figures:
    """Means over the judged customers, 0 to 1."""

    recall: float
    ndcg: float


def hold_out(purchases: pa.Table, day: date) -> Holdout:
    """The customers and targets of `day`.

    purchases: columns user_id, item_id (string, no nulls) and event_time (timestamp, UTC), in any order; repeats count
    once.
    Raises KernelError if nobody can be judged.
    """
    before = _bought_between(purchases, None, day)
    window = _bought_between(purchases, day, day + timedelta(days=WINDOW_DAYS))
    seen_by: dict[str, set[str]] = {}
    for user_id, item_id in before:
        seen_by.setdefault(user_id, set()).add(item_id)
    known_items = {item_id for _, item_id in before}
    targets_of: dict[str, set[str]] = {}
    for user_id, item_id in window:
        if item_id in known_items and item_id not in seen_by.get(user_id, known_items):
            targets_of.setdefault(user_id, set()).add(item_id)
    if not targets_of:
        raise KernelError(
            f"holdout day={day}: expected customers from before the date who buy something new within {WINDOW_DAYS}"
            " days of it, got none; take a date with purchases on both sides"
        )
    users = sorted(targets_of, key=str.encode)
    return Holdout(
        day,
        users,
        [frozenset(targets_of[user_id]) for user_id in users],
        [frozenset(seen_by[user_id]) for user_id in users],
    )


def popular_items(purchases: pa.Table, day: date, window_days: int | None) -> list[str]:
    """Items by distinct customers before `day`, most first, ties by the byte order of the id.

    purchases: as in `hold_out`.  window_days: length of the window that ends at `day`; None: all time.
    """
    start = None if window_days is None else day - timedelta(days=window_days)
    n_customers: dict[str, int] = {}
    for _, item_id in _bought_between(purchases, start, day):
        n_customers[item_id] = n_customers.get(item_id, 0) + 1
    return sorted(n_customers, key=lambda item_id: (-n_customers[item_id], item_id.encode()))


def judge_lists(lists: Mapping[str, Sequence[str]], holdout: Holdout, k: int) -> Figures:
    """Recall and ndcg at k of one list per judged customer.

    lists: item ids by user id, best first; a customer without a list is judged by an empty one.
    """
    rows = [
        unseen_items(lists.get(user_id, ()), seen, k) for user_id, seen in zip(holdout.users, holdout.seen, strict=True)
    ]
    return _figures(rows, holdout, k)


def judge_order(order: Sequence[str], holdout: Holdout, k: int) -> Figures:
    """Recall and ndcg at k if every judged customer is shown the same order of items, without those they had bought."""
    return _figures([unseen_items(order, seen, k) for seen in holdout.seen], holdout, k)


def unseen_items(order: Sequence[str], seen: frozenset[str], k: int) -> list[str]:
    """The first k items of `order` that are not in `seen`."""
    top: list[str] = []
    for item_id in order:
        if len(top) == k:
            break
        if item_id not in seen:
            top.append(item_id)
    return top


def _figures(rows: list[list[str]], holdout: Holdout, k: int) -> Figures:
    """Means over the judged customers of the metrics of `rows`."""
    item_ids = {item_id for targets in holdout.targets for item_id in targets}
    item_idx = {item_id: idx for idx, item_id in enumerate(sorted(item_ids, key=str.encode))}
    lists: Ragged = ragged([[item_idx.get(item_id, -1) for item_id in row] for row in rows])
    targets = ragged([[item_idx[item_id] for item_id in row] for row in holdout.targets])
    return Figures(
        recall=float(np.mean(recall_at_k(lists, targets, k))), ndcg=float(np.mean(ndcg_at_k(lists, targets, k)))
    )


def _bought_between(purchases: pa.Table, start: date | None, end: date) -> list[tuple[str, str]]:
    """Distinct (user_id, item_id) with start <= event_time < end; start None: from the beginning."""
    time = purchases["event_time"]
    wanted = pc.less(time, _midnight(end, time.type))
    if start is not None:
        wanted = pc.and_(wanted, pc.greater_equal(time, _midnight(start, time.type)))
    pairs = purchases.select(["user_id", "item_id"]).filter(wanted).group_by(["user_id", "item_id"]).aggregate([])
    return list(zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), strict=True))


def _midnight(day: date, time_type: pa.DataType) -> pa.Scalar:
    """00:00 UTC of `day` in the unit of the column."""
    return pa.scalar(midnight(day), type=time_type)
