"""The protocol on eight lines that can be counted by hand, and its reference figures on the shop's whole log."""

from datetime import UTC, date, datetime, timedelta
from math import log2

import pyarrow as pa
import pytest

from recsys_spark.cli.demo.holdout import Holdout, hold_out, judge_lists, judge_order, popular_items, unseen_items
from recsys_spark.cli.demo.logs import read_purchases
from recsys_spark.errors import KernelError

DAY = date(2011, 6, 1)
MIDNIGHT = datetime(2011, 6, 1, tzinfo=UTC)


def bought(*lines: tuple[str, str, timedelta]) -> pa.Table:
    """Purchases as (user, item, time from midnight of DAY)."""
    return pa.table(
        {
            "user_id": [user_id for user_id, _, _ in lines],
            "item_id": [item_id for _, item_id, _ in lines],
            "event_time": pa.array([MIDNIGHT + offset for _, _, offset in lines], pa.timestamp("ms", "UTC")),
        }
    )


def days(n: float) -> timedelta:
    return timedelta(days=n)


@pytest.fixture(scope="module")
def purchases() -> pa.Table:
    return read_purchases()


def test_hold_out_takes_items_that_are_new_to_the_customer() -> None:
    held = hold_out(
        bought(("u", "old", days(-5)), ("v", "new", days(-9)), ("u", "old", days(1)), ("u", "new", days(1))), DAY
    )
    assert held == Holdout(DAY, ["u"], [frozenset({"new"})], [frozenset({"old"})])


def test_hold_out_leaves_out_customers_without_an_earlier_purchase() -> None:
    held = hold_out(bought(("u", "a", days(-5)), ("v", "b", days(-5)), ("u", "b", days(1)), ("w", "b", days(1))), DAY)
    assert held.users == ["u"]


def test_hold_out_leaves_out_items_that_nobody_bought_before() -> None:
    held = hold_out(
        bought(("u", "a", days(-5)), ("v", "b", days(-5)), ("u", "b", days(1)), ("u", "launched", days(1))), DAY
    )
    assert held.targets == [frozenset({"b"})]


def test_hold_out_window_includes_its_start_and_excludes_its_end() -> None:
    lines = [("u", "a", days(-5)), ("v", "b", days(-5)), ("v", "c", days(-5)), ("v", "d", days(-5))]
    window = [("u", "b", days(0)), ("u", "c", days(28) - timedelta(milliseconds=1)), ("u", "d", days(28))]
    assert hold_out(bought(*lines, *window), DAY).targets == [frozenset({"b", "c"})]


def test_hold_out_refuses_a_date_with_nobody_to_judge() -> None:
    with pytest.raises(KernelError, match="expected customers from before the date"):
        hold_out(bought(("u", "a", days(-5)), ("u", "a", days(1))), DAY)


def test_popular_items_counts_customers_once_and_breaks_ties_by_id_bytes() -> None:
    lines = bought(
        ("u", "b", days(-1)),
        ("u", "b", days(-2)),
        ("u", "é", days(-1)),
        ("u", "za", days(-1)),
        ("v", "a", days(-1)),
        ("w", "a", days(-1)),
        ("x", "b", days(0)),
    )
    assert popular_items(lines, DAY, None) == ["a", "b", "za", "é"]


def test_popular_items_window_ends_at_the_date_and_includes_its_start() -> None:
    lines = bought(("u", "a", days(-28)), ("u", "b", days(-28) - timedelta(milliseconds=1)), ("u", "c", days(0)))
    assert popular_items(lines, DAY, 28) == ["a"]


def test_unseen_items_are_taken_before_the_list_is_cut() -> None:
    assert unseen_items(["a", "b", "c", "d", "e"], frozenset({"a", "c"}), 2) == ["b", "d"]


def test_judge_lists_takes_the_mean_over_customers_and_excludes_what_they_had() -> None:
    held = Holdout(
        DAY, ["u", "v"], [frozenset({"a", "b"}), frozenset({"c"})], [frozenset({"old"}), frozenset({"older"})]
    )
    figures = judge_lists({"u": ["old", "x", "a"]}, held, 2)
    # u: the old item goes first, so a stands second of two; v has no list.
    assert figures.recall == pytest.approx((1 / 2 + 0) / 2, abs=1e-12)
    assert figures.ndcg == pytest.approx(((1 / log2(3)) / (1 + 1 / log2(3)) + 0) / 2, abs=1e-12)


def test_judge_order_equals_the_same_list_for_everybody() -> None:
    held = Holdout(DAY, ["u", "v"], [frozenset({"a"}), frozenset({"c"})], [frozenset({"c"}), frozenset({"a"})])
    order = ["a", "c", "d"]
    assert judge_order(order, held, 1) == judge_lists({"u": order, "v": order}, held, 1)
    assert judge_order(order, held, 1).recall == 1.0


# The reference counts of the protocol, given to three digits.
@pytest.mark.parametrize(("day", "n_users", "recall"), [(date(2011, 6, 1), 756, 0.104), (date(2011, 9, 9), 950, 0.047)])
def test_protocol_agrees_with_the_reference_on_the_whole_log(
    purchases: pa.Table, day: date, n_users: int, recall: float
) -> None:
    held = hold_out(purchases, day)
    assert len(held.users) == n_users
    assert round(judge_order(popular_items(purchases, day, 28), held, 20).recall, 3) == recall


def test_protocol_agrees_with_the_reference_for_all_time_popularity(purchases: pa.Table) -> None:
    held = hold_out(purchases, DAY)
    assert round(judge_order(popular_items(purchases, DAY, None), held, 20).recall, 3) == 0.044
