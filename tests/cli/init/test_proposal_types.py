"""Types are taken from the lines: what they are called, how often they come, what their values count."""

from typing import Any

from recsys_spark.cli.init.column_profile import profile_columns
from recsys_spark.cli.init.guess import Found
from recsys_spark.cli.init.proposal import EventLines, propose_default_type, propose_types


def lines(rows: list[dict[str, Any]], *found: str) -> EventLines:
    return EventLines({ours: Found(ours, "") for ours in found}, profile_columns(rows, False), rows)


def row(event_type: str | None, value: float | None = None, item_id: str | None = "i") -> dict[str, Any]:
    return {"event_type": event_type, "item_id": item_id, "value": value}


def test_propose_types_puts_the_most_frequent_first() -> None:
    types, notes, skipped = propose_types(lines([row("buy"), row("view"), row("view")], "event_type", "item_id"))
    assert [one.name for one in types] == ["view", "buy"]
    assert (notes, skipped) == ([], [])


def test_propose_types_joins_spellings_of_one_name() -> None:
    types, _, _ = propose_types(
        lines([row("Add To Cart"), row("addToCart"), row("addToCart")], "event_type", "item_id")
    )
    assert [(one.name, one.raw) for one in types] == [("add_to_cart", ["addToCart", "Add To Cart"])]


def test_propose_types_leaves_out_a_type_whose_lines_name_no_item() -> None:
    rows = [row("view"), row("search", item_id=None), row("search", item_id=""), row("search")]
    types, notes, skipped = propose_types(lines(rows, "event_type", "item_id"))
    assert ([one.name for one in types], skipped) == (["view"], ["search"])
    assert "search" in notes[-1]


def test_propose_types_uses_values_that_differ() -> None:
    rows = [row("purchase", 1.0), row("purchase", 3.0), row("view", 1.0), row("cart", 1.0), row("cart", 1.0)]
    types, _, _ = propose_types(lines(rows, "event_type", "item_id", "value"))
    transforms = {one.name: one.guess.value_transform for one in types}
    # A cart's value is always 1: it says nothing.
    assert transforms == {"purchase": "log", "view": "none", "cart": "none"}


def test_propose_types_scales_ratings_to_the_highest_of_the_sample() -> None:
    types, _, _ = propose_types(lines([row("rate", 2.0), row("rate", 8.0)], "event_type", "item_id", "value"))
    assert (types[0].guess.weight, types[0].largest_value) == (1 / 8, 8.0)


def test_propose_types_says_that_lines_have_no_type() -> None:
    _, notes, _ = propose_types(lines([row("view"), row(None)], "event_type", "item_id"))
    assert notes == ["1 of 2 lines have no event type: they are refused, or set default_type"]


def test_propose_default_type_is_told_by_the_path() -> None:
    types, notes = propose_default_type(lines([row(None)], "item_id"), "logs/clicks/2025-03-01.csv")
    assert (types[0].name, types[0].guess.weight) == ("click", 1.0)
    assert notes == ["the log has no column with the type of the event: every line is taken as a click"]


def test_propose_default_type_is_told_by_the_value_when_the_path_says_nothing() -> None:
    def name(column: str) -> str:
        rows: list[dict[str, Any]] = [{"item_id": "i", column: 1.0}, {"item_id": "i", column: 2.0}]
        found = {"item_id": Found("item_id", ""), "value": Found(column, "")}
        return propose_default_type(EventLines(found, profile_columns(rows, False), rows), "data/a.csv")[0][0].name

    assert (name("qty"), name("dwell_time"), name("stars"), name("value")) == (
        "purchase",
        "play",
        "rating",
        "interaction",
    )
