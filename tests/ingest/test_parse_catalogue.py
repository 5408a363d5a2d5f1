"""A row of a snapshot becomes a catalogue row; everything unmapped is kept as an attribute."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from recsys_spark.config.load import load_config
from recsys_spark.ingest.parse_catalogue import CatalogueSpec, catalogue_columns, catalogue_parser
from recsys_spark.ingest.records import RowFault
from recsys_spark.ingest.values import to_us

DEFAULT_US = to_us(datetime(2025, 1, 5, tzinfo=UTC))


def _item(fields: dict[str, Any], *sets: str, as_text: bool = False, default_us: int = DEFAULT_US) -> dict[str, Any]:
    spec = CatalogueSpec(load_config(sets=sets).items, "item_id")
    return dict(zip(catalogue_columns("item_id"), catalogue_parser(spec, as_text, default_us)(fields, 1), strict=True))


def test_catalogue_parser_reads_an_item() -> None:
    fields = {
        "item_id": 5, "title": "Tea", "category": "drinks", "price": 3, "created_at": "1950-06-01",
        "tags": ["hot", " herb "], "valid_from": "2025-01-02T00:00:00Z", "embedding": [0.5, 1],
        "stock": {"b": 1, "a": None}, "new": True, "gone": None,
    }  # fmt: skip
    row = _item(fields, 'items.vectors=["embedding"]')
    assert len(row.pop("content_sha256")) == 64
    assert row == {
        "item_id": "5", "title": "Tea", "category": "drinks", "brand": None, "price": 3.0, "length": None,
        "valid_from": to_us(datetime(2025, 1, 2, tzinfo=UTC)), "created_at": to_us(datetime(1950, 6, 1, tzinfo=UTC)),
        "tags": ["hot", "herb"], "vectors": [("embedding", [0.5, 1.0])],
        "attributes": [("new", "true"), ("stock", '{"a": null, "b": 1}')], "dated_by_file": False,
    }  # fmt: skip


def test_catalogue_parser_dates_a_row_by_its_file_when_it_has_no_date() -> None:
    row = _item({"item_id": "a"})
    assert (row["valid_from"], row["dated_by_file"]) == (DEFAULT_US, True)


def test_catalogue_parser_reads_a_user() -> None:
    spec = CatalogueSpec(load_config().users, "user_id")
    parsed = catalogue_parser(spec, False, DEFAULT_US)({"user_id": "u", "country": "France"}, 1)
    row = dict(zip(catalogue_columns("user_id"), parsed, strict=True))
    assert (row["user_id"], row["attributes"]) == ("u", [("country", "France")])
    assert "title" not in row


def test_catalogue_parser_keeps_unmapped_native_columns() -> None:
    row = _item({"item_id": "a", "cost": Decimal("9.90"), "seen": [date(2025, 1, 2)]})
    assert row["attributes"] == [("cost", "9.90"), ("seen", '["2025-01-02"]')]


@pytest.mark.parametrize("text", ["Drama|War", "Drama, War", ["Drama", "War"], ["Drama", "", "War", None]])
def test_catalogue_parser_reads_tags_in_any_writing(text: object) -> None:
    assert _item({"item_id": "a", "tags": text})["tags"] == ["Drama", "War"]


def test_catalogue_parser_reads_text_formats() -> None:
    row = _item({"item_id": "a", "price": "2.50", "v": "[1, 2.5]"}, 'items.vectors=["v"]', as_text=True)
    assert (row["price"], row["vectors"]) == (2.5, [("v", [1.0, 2.5])])


def test_content_hash_covers_everything_but_the_time() -> None:
    plain = {"item_id": "a", "title": "Tea", "x": 1}
    content = _item(plain)["content_sha256"]
    assert _item(plain | {"valid_from": "2025-01-02"}, default_us=0)["content_sha256"] == content
    assert _item({"x": 1, "title": "Tea", "item_id": "a"})["content_sha256"] == content
    for change in ({"title": "tea"}, {"x": 2}, {"price": 1}, {"y": "1"}, {"tags": "a"}):
        assert _item(plain | change)["content_sha256"] != content


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"item_id": " "}, "bad_item_id"),
        ({"price": "3"}, "bad_price"),
        ({"length": float("inf")}, "bad_length"),
        ({"created_at": "soon"}, "bad_created_at"),
        ({"created_at": "1066-10-14"}, "bad_created_at"),
        ({"valid_from": "1969-12-31"}, "bad_valid_from"),
        ({"valid_from": 5}, "bad_valid_from"),
        ({"valid_from": "2200-01-01T00:00:00Z"}, "bad_valid_from"),
        ({"tags": 5}, "bad_tags"),
        ({"v": [1, float("nan")]}, "bad_vector"),
        ({"v": [1e39]}, "bad_vector"),
        ({"v": [True]}, "bad_vector"),
        ({"v": "1 2"}, "bad_vector"),
        ({"v": {"a": 1}}, "bad_vector"),
        ({"v": []}, "bad_vector"),
        ({"title": "\ud800"}, "bad_title"),
        ({"\ud800": 1}, "bad_attributes"),
    ],
)
def test_catalogue_parser_refuses(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowFault) as caught:
        _item({"item_id": "a"} | fields, 'items.vectors=["v"]')
    assert caught.value.reason == reason
