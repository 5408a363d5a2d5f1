"""Settings follow from the sample, and name what they rest on."""

from datetime import date
from typing import Any

import pytest

from recsys_spark.cli.init.column_profile import profile_columns
from recsys_spark.cli.init.proposal import Evidence, Proposal, propose_catalogue, propose_events
from recsys_spark.errors import ArgumentError

TODAY = date(2026, 1, 1)
BASE = {
    "user_id": ["u1", "u2", "u3"],
    "item_id": ["i1", "i2"],
    "event_type": ["view"],
    "event_time": ["2025-01-02T03:04:05Z"],
}


def evidence(columns: dict[str, list[Any]], n_rows: int = 24) -> Evidence:
    rows = [{name: values[at % len(values)] for name, values in columns.items()} for at in range(n_rows)]
    return Evidence("init logs", "logs/a.jsonl", profile_columns(rows, False), rows, frozenset(), TODAY)


def settings(proposal: Proposal, section: str) -> dict[str, Any]:
    return {one.key: one.value for one in proposal.sections.get(section, [])}


def test_propose_events_writes_nothing_that_is_the_default() -> None:
    proposal = propose_events(evidence(BASE))
    assert settings(proposal, "events") == {}
    assert settings(proposal, "events.columns") == {}
    assert proposal.notes == []


def test_propose_events_writes_time_format_and_asks_for_the_zone() -> None:
    proposal = propose_events(evidence(BASE | {"event_time": ["02/01/2025 10:00", "25/01/2025 11:00"]}))
    assert settings(proposal, "events") == {"time_format": "%d/%m/%Y %H:%M", "timezone": "UTC"}
    assert any("set timezone" in note for note in proposal.notes)


def test_propose_events_shuts_out_a_column_of_our_name_that_means_something_else() -> None:
    proposal = propose_events(evidence(BASE | {"event_id": ["same"], "position": [0, 1, 2]}))
    assert settings(proposal, "events.columns") == {"event_id": "", "position": ""}
    assert sum("left out" in note for note in proposal.notes) == 2


def test_propose_events_counts_lines_without_a_user_or_a_time() -> None:
    columns: dict[str, list[Any]] = BASE | {"user_id": ["u1", "u2", None], "event_time": ["2025-01-02T03:04:05Z", None]}
    notes = propose_events(evidence(columns)).notes
    assert "8 of 24 lines have no user_id: they are kept as anonymous, for popularity alone" in notes
    assert "12 of 24 lines have no event_time: they are refused" in notes


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ([1, 2, -3], {"on_bad_value": "cap"}),
        ([1, 2, 3], {}),
        ([1] * 99 + [-1], {}),  # as many as ingest lets pass
        ([1] * 98 + [-1] * 2, {"on_bad_value": "cap"}),
    ],
    ids=["a third", "none", "one of 100", "two of 100"],
)
def test_propose_events_caps_values_only_when_many_are_below_zero(values: list[int], setting: dict[str, str]) -> None:
    assert settings(propose_events(evidence(BASE | {"value": values}, 300)), "events") == setting


def test_propose_events_gives_no_weight_to_what_users_reject() -> None:
    proposal = propose_events(evidence(BASE | {"event_type": ["view", "dislike"]}))
    assert settings(proposal, "events.types.dislike") == {"role": "dislike"}


def test_propose_events_raises_when_nothing_can_be_the_user_and_the_item() -> None:
    columns = {"event_time": ["2025-01-02T03:04:05Z"], "event_type": ["view"], "nested": [{"user": 1}]}
    with pytest.raises(ArgumentError) as caught:
        propose_events(evidence(columns))
    text = str(caught.value)
    assert text.startswith(
        "init logs: expected a column that can be the user and the item, got event_time, event_type, "
    )
    assert "nested (nested: user)" in text
    assert 'user_id = "<column>", item_id = "<column>"' in text


def test_propose_catalogue_maps_an_item_catalogue() -> None:
    columns: dict[str, list[Any]] = {
        "sku": [f"s{n}" for n in range(24)],
        "name": ["A", "B"],
        "added_at": [1_700_000_000_000],
        "vec": [[0.1] * 8],
        "size": [[1, 2, 3]],
    }
    proposal = propose_catalogue("items", evidence(columns))
    assert settings(proposal, "items") == {"time_format": "epoch_ms", "vectors": ["vec"]}
    assert settings(proposal, "items.columns") == {"item_id": "sku", "title": "name", "created_at": "added_at"}


def test_propose_catalogue_leaves_out_a_time_that_is_written_differently() -> None:
    columns: dict[str, list[Any]] = {
        "item_id": [f"s{n}" for n in range(24)],
        "created_at": ["2024-01-02T00:00:01Z"],
        "valid_from": [1_700_000_000],
    }
    proposal = propose_catalogue("items", evidence(columns))
    assert any("valid_from is left out: it is written as epoch_s, unlike created_at" in one for one in proposal.notes)
    assert settings(proposal, "items.columns") == {"valid_from": ""}


@pytest.mark.parametrize(("values", "found"), [(["FR", "DE"], True), ([f"x{n}" for n in range(24)], False)])
def test_propose_catalogue_takes_a_segment_when_users_share_it(values: list[str], found: bool) -> None:
    columns = {"user_id": [f"u{n}" for n in range(24)], "country": values}
    assert settings(propose_catalogue("users", evidence(columns)), "segments") == (
        {"attribute": "country"} if found else {}
    )


def test_propose_catalogue_raises_when_nothing_can_be_the_id() -> None:
    with pytest.raises(ArgumentError, match=r"expected a column that can be the item, got colour; "):
        propose_catalogue("items", evidence({"colour": ["red"]}))
