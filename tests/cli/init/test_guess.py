"""Feeds and columns are told from names and values, in many spellings."""

from typing import Any

import pytest

from recsys_spark.cli.init.column_profile import Profile, profile_columns
from recsys_spark.cli.init.guess import guess_columns, guess_feed

N = 60


def table(**columns: list[Any]) -> dict[str, Profile]:
    """Profiles of a table whose columns are repeated to N rows."""
    rows = [{name: values[row % len(values)] for name, values in columns.items()} for row in range(N)]
    return profile_columns(rows, as_text=True)


def mapping(columns: dict[str, Profile], feed: Any = "events") -> dict[str, str]:
    return {ours: found.name for ours, found in guess_columns(feed, columns).items()}


USERS = [f"u{n}" for n in range(17)]
ITEMS = [f"i{n}" for n in range(23)]
SECONDS = [1_700_000_000 + 60 * n for n in range(N)]
IDS = [str(n) for n in range(N)]


@pytest.mark.parametrize(
    "name", ["userId", "user_id", "customer_id", "visitorid", "msno", "reviewerID", "Customer ID", "CustomerNo", "uid"]
)
def test_guess_columns_knows_spellings_of_the_user(name: str) -> None:
    columns = table(**{name: USERS, "item_id": ITEMS, "timestamp": SECONDS})
    assert mapping(columns)["user_id"] == name


@pytest.mark.parametrize(
    "name", ["itemId", "item_id", "product_id", "sku", "asin", "movieId", "song_id", "StockCode", "business_id", "isbn"]
)
def test_guess_columns_knows_spellings_of_the_item(name: str) -> None:
    columns = table(**{"user_id": USERS, name: ITEMS, "timestamp": SECONDS})
    assert mapping(columns)["item_id"] == name


@pytest.mark.parametrize(
    "name", ["timestamp", "ts", "event_time", "unixReviewTime", "InvoiceDate", "created_at", "server_ts", "ordered.at"]
)
def test_guess_columns_knows_spellings_of_the_time(name: str) -> None:
    columns = table(**{"user_id": USERS, "item_id": ITEMS, name: SECONDS})
    assert mapping(columns)["event_time"] == name


@pytest.mark.parametrize("name", ["event", "eventType", "action", "behavior", "behavior_type", "type", "ACTION_TYPE"])
def test_guess_columns_knows_spellings_of_the_type(name: str) -> None:
    columns = table(**{"user_id": USERS, "item_id": ITEMS, "ts": SECONDS, name: ["view", "buy"]})
    assert mapping(columns)["event_type"] == name


@pytest.mark.parametrize(
    ("name", "values"), [("rating", [1.0, 4.5]), ("qty", [1, 2]), ("Quantity", ["1", "6"]), ("watch_time", [3, 400])]
)
def test_guess_columns_knows_spellings_of_the_value(name: str, values: list[Any]) -> None:
    columns = table(**{"user_id": USERS, "item_id": ITEMS, "ts": SECONDS, name: values})
    assert mapping(columns)["value"] == name


def test_guess_columns_gives_one_meaning_to_one_column() -> None:
    columns = table(userId=USERS, itemId=ITEMS, ts=SECONDS, event=["view"], price=[1.5], category_id=["c1", "c2"])
    found = mapping(columns)
    assert found == {"user_id": "userId", "item_id": "itemId", "event_time": "ts", "event_type": "event"}


def test_guess_columns_takes_an_event_id_only_when_it_is_unique() -> None:
    base = {"user_id": USERS, "item_id": ITEMS, "ts": SECONDS}
    assert mapping(table(**base, event_id=IDS))["event_id"] == "event_id"
    assert "event_id" not in mapping(table(**base, event_id=["1", "2"]))


def test_guess_columns_does_not_take_a_column_for_the_time_when_its_values_are_no_times() -> None:
    columns = table(user_id=USERS, item_id=ITEMS, time=["12:30", "13:10"], date=["2024-01-01", "2024-01-02"])
    assert mapping(columns)["event_time"] == "date"


def test_guess_columns_takes_a_time_by_its_values_and_is_not_sure() -> None:
    found = guess_columns("events", table(user_id=USERS, item_id=ITEMS, when_it_was=SECONDS))
    assert found["event_time"].name == "when_it_was"
    assert not found["event_time"].sure


def test_guess_columns_takes_the_only_id_left_and_is_not_sure() -> None:
    found = guess_columns("events", table(user_id=USERS, ts=SECONDS, thing=ITEMS, colour=["a", "b"]))
    assert found["item_id"].name == "thing"
    assert not found["item_id"].sure


def test_guess_columns_takes_no_id_when_several_are_left() -> None:
    assert "item_id" not in mapping(table(user_id=USERS, ts=SECONDS, thing=ITEMS, other=USERS))


def test_guess_columns_is_not_sure_when_two_names_speak_of_the_same() -> None:
    found = guess_columns("events", table(user_id=USERS, main_product_code=ITEMS, other_product_code=ITEMS, ts=SECONDS))
    assert not found["item_id"].sure


def test_guess_columns_takes_a_type_by_its_values() -> None:
    found = guess_columns("events", table(user_id=USERS, item_id=ITEMS, ts=SECONDS, what=["view", "cart", "purchase"]))
    assert found["event_type"].name == "what"
    assert not found["event_type"].sure


def test_guess_columns_never_takes_lists_or_truths_for_ids() -> None:
    columns = table(user_id=[True, False], customer_id=USERS, item_id=[["a"]], sku=ITEMS, ts=SECONDS)
    assert mapping(columns)["user_id"] == "customer_id"
    assert mapping(columns)["item_id"] == "sku"


def test_guess_columns_reads_an_item_catalogue() -> None:
    columns = table(
        id=IDS,
        name=["A", "B"],
        genres=[["x"], ["y"]],
        manufacturer=["m"],
        list_price=[1.5],
        releaseDate=["2020-01-02"],
        updated_at=["2024-01-02"],
    )
    assert mapping(columns, "items") == {
        "item_id": "id",
        "title": "name",
        "brand": "manufacturer",
        "price": "list_price",
        "created_at": "releaseDate",
        "tags": "genres",
        "valid_from": "updated_at",
    }


@pytest.mark.parametrize(
    ("path", "columns", "feed"),
    [
        ("a.csv", {"user_id": USERS, "item_id": ITEMS, "ts": SECONDS}, "events"),
        ("items/a.csv", {"item_id": IDS, "title": ["x"]}, "items"),
        ("x.csv", {"item_id": IDS, "title": ["x"]}, "items"),
        ("catalog/2024-01-01/a.json", {"id": IDS, "title": ["x"]}, "items"),
        ("customers.csv", {"customer_id": IDS, "country": ["x"]}, "users"),
        ("x.csv", {"customer_id": IDS, "country": ["x"]}, "users"),
        # A catalogue may name who made the item, and when.
        ("products/a.csv", {"product_id": IDS, "user_id": USERS, "created_at": SECONDS}, "items"),
        # What calls itself after items but has many rows for each is a log.
        ("items/a.csv", {"product_id": ITEMS, "user_id": USERS, "timestamp": SECONDS}, "events"),
        ("purchases/items.csv", {"user_id": USERS, "item_id": ITEMS, "ts": SECONDS}, "events"),
        ("a.csv", {"user_id": USERS, "item_id": ITEMS}, "events"),
        ("a.csv", {"foo": ITEMS, "bar": [1.5, 2.5]}, None),
    ],
)
def test_guess_feed_tells_logs_from_catalogues(path: str, columns: dict[str, list[Any]], feed: str | None) -> None:
    assert guess_feed(path, table(**columns)) == feed
