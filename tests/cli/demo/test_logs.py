"""The demo's shop: what it writes is what the invoice lines say, and nothing from after a date is in its snapshot."""

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys_spark.cli.demo.logs import Counts, read_lines, read_purchases, write_catalogue, write_events

FIRST_DAY = date(2009, 12, 1)
END = date(2011, 12, 10)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return read_lines().to_pandas()


def test_read_lines_leaves_out_fees_and_stock_adjustments(lines: pd.DataFrame) -> None:
    assert len(lines) == 1_017_521 + 17_973  # purchases and returns of merchandise, counted in the source
    assert not lines["item_id"].isin(["POST", "DOT", "M", "BANK CHARGES"]).any()


def test_read_purchases_are_lines_with_a_customer() -> None:
    purchases = read_purchases()
    assert len(purchases) == 788_247  # counted in the source
    assert purchases["user_id"].null_count == 0


def test_write_events_writes_one_file_per_day_of_trade(tmp_path: Path) -> None:
    counts = write_events(tmp_path, date(2011, 9, 9), date(2011, 9, 12))
    # 2011-09-10 was a Saturday: the shop was closed.
    names = sorted(path.name for path in (tmp_path / "events").iterdir())
    assert names == ["events-2011-09-09.jsonl.gz", "events-2011-09-11.jsonl.gz"]
    assert counts == Counts(2, sum(len(rows_of(path)) for path in (tmp_path / "events").iterdir()))


def test_write_events_says_what_the_lines_say(tmp_path: Path, lines: pd.DataFrame) -> None:
    write_events(tmp_path, date(2011, 9, 8), date(2011, 9, 9))
    events = pd.DataFrame(rows_of(tmp_path / "events" / "events-2011-09-08.jsonl.gz"))
    day = lines[lines["invoice_time"].dt.normalize() == pd.Timestamp("2011-09-08", tz="UTC")].reset_index(drop=True)
    assert events["item_id"].tolist() == day["item_id"].tolist()
    assert events["event_type"].tolist() == day["line_type"].tolist()
    assert events["session_id"].tolist() == day["invoice"].tolist()
    assert events["value"].tolist() == day["quantity"].abs().tolist()
    assert pd.to_datetime(events["event_time"]).tolist() == day["invoice_time"].tolist()
    assert events["event_time"].str.fullmatch(r"2011-09-08T\d\d:\d\d:00Z").all()
    assert events["user_id"].dropna().tolist() == day["user_id"].dropna().tolist()
    assert {"purchase", "return"} == set(events["event_type"])


def test_write_events_leaves_the_user_out_when_the_line_has_no_customer(tmp_path: Path, lines: pd.DataFrame) -> None:
    write_events(tmp_path, date(2011, 9, 8), date(2011, 9, 9))
    events = rows_of(tmp_path / "events" / "events-2011-09-08.jsonl.gz")
    day = lines[lines["invoice_time"].dt.normalize() == pd.Timestamp("2011-09-08", tz="UTC")]
    assert sum("user_id" not in event for event in events) == day["user_id"].isna().sum() > 0


def test_write_events_gives_the_same_bytes_whatever_else_is_written(tmp_path: Path) -> None:
    write_events(tmp_path / "a", date(2011, 9, 8), date(2011, 9, 9))
    write_events(tmp_path / "b", date(2011, 9, 5), date(2011, 9, 12))
    alone, among_others = (tmp_path / root / "events" / "events-2011-09-08.jsonl.gz" for root in ("a", "b"))
    assert alone.read_bytes() == among_others.read_bytes()
    assert alone.read_bytes()[4:8] == bytes(4)  # no time in the gzip header


def test_write_events_covers_the_whole_log(tmp_path: Path) -> None:
    assert write_events(tmp_path, FIRST_DAY, END) == Counts(604, 1_017_521 + 17_973)


def test_write_events_writes_nothing_for_days_without_lines(tmp_path: Path) -> None:
    assert write_events(tmp_path, END, date(2012, 1, 1)) == Counts(0, 0)


def test_write_catalogue_knows_only_lines_before_the_date(tmp_path: Path, lines: pd.DataFrame) -> None:
    day = pd.Timestamp("2011-09-09", tz="UTC")
    counts = write_catalogue(tmp_path, day.date())
    items = {row["item_id"]: row for row in rows_of(tmp_path / "items" / "2011-09-09" / "items.jsonl.gz")}
    users = {row["user_id"]: row for row in rows_of(tmp_path / "users" / "2011-09-09" / "users.jsonl.gz")}
    past = lines[lines["invoice_time"] < day]
    sold = past[(past["line_type"] == "purchase") & (past["unit_price"] > 0)]
    assert counts == Counts(2, len(items) + len(users))
    assert set(items) == set(sold["item_id"])
    assert set(users) == set(past["user_id"].dropna())
    assert max(row["created_at"] for row in items.values()) < "2011-09-09"


def test_write_catalogue_takes_the_latest_title_the_median_price_and_the_first_sale(
    tmp_path: Path, lines: pd.DataFrame
) -> None:
    day = pd.Timestamp("2011-09-09", tz="UTC")
    write_catalogue(tmp_path, day.date())
    items = {row["item_id"]: row for row in rows_of(tmp_path / "items" / "2011-09-09" / "items.jsonl.gz")}
    users = {row["user_id"]: row for row in rows_of(tmp_path / "users" / "2011-09-09" / "users.jsonl.gz")}
    past = lines[lines["invoice_time"] < day]
    sold = past[(past["line_type"] == "purchase") & (past["unit_price"] > 0)]
    # An item whose title changed over time, so that first and latest differ.
    item_id = sold.groupby("item_id")["description"].nunique().idxmax()
    own = sold[sold["item_id"] == item_id]
    assert own["description"].iloc[0] != own["description"].dropna().iloc[-1]
    assert items[item_id]["title"] == own["description"].dropna().iloc[-1]
    assert items[item_id]["price"] == own["unit_price"].median()
    assert items[item_id]["created_at"] == own["invoice_time"].iloc[0].strftime("%Y-%m-%dT%H:%M:%SZ")
    # A customer who moved.
    moved = past.groupby("user_id")["country"].nunique().idxmax()
    assert users[moved]["country"] == past[past["user_id"] == moved]["country"].iloc[-1]


def test_write_catalogue_moves_with_the_date(tmp_path: Path) -> None:
    early, late = write_catalogue(tmp_path, date(2010, 6, 1)), write_catalogue(tmp_path, date(2011, 9, 9))
    assert early.n_lines < late.n_lines
