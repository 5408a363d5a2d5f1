"""What is shown is what the parsers of ingest make of the sample."""

from io import StringIO

from rich.console import Console

from recsys_spark.cli.init.preview import preview_feed, preview_notes, preview_table, shape_line
from recsys_spark.cli.init.sample import Kind
from recsys_spark.cli.init.spellings import Feed
from recsys_spark.config.load import load_config

CONFIG = load_config(sets=("events.columns.user_id=who", "items.columns.title=name"))
EVENTS = [
    {"who": "u1", "item_id": 7, "event_type": "purchase", "event_time": f"2025-03-01T10:{at:02d}:00+01:00", "value": 2}
    for at in range(12)
]


def text_of(feed: Feed, kind: Kind) -> str:
    console = Console(width=200, file=StringIO())
    console.print(preview_table(feed, preview_feed(CONFIG, feed, [kind])))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_preview_feed_shows_rows_under_our_names_in_utc() -> None:
    text = text_of("events", Kind(("a",), False, tuple(EVENTS), ()))
    assert "user_id" in text
    assert "2025-03-01 09:00:00" in text
    assert "event_key" not in text
    assert "session_id" not in text  # empty in every row


def test_preview_feed_spreads_its_rows_over_the_sample_and_over_kinds() -> None:
    other = tuple({**row, "who": "u2"} for row in EVENTS)
    preview = preview_feed(CONFIG, "events", [Kind(("a",), False, tuple(EVENTS), ()), Kind(("b",), False, other, ())])
    users = [row[1] for row in preview.rows]
    assert (users.count("u1"), users.count("u2")) == (3, 3)
    assert preview.n_parsed == 24


def test_shape_line_says_what_the_sample_is_like_and_which_sources_a_run_tries() -> None:
    events = ({**EVENTS[0], "item_id": 8}, {**EVENTS[1], "who": "u2"}, {**EVENTS[2], "who": None}, *EVENTS)
    preview = preview_feed(CONFIG, "events", [Kind(("a",), False, events, ())])
    assert shape_line(CONFIG, preview, True) == (
        "the sample: 15 events, 2 users, 2 items, 3 pairs; events have times; a run tries popular, item_cf, als, "
        "low_pass, successors, content, and chooses their settings and blend by what it holds out"
    )
    named = load_config(sets=("events.clock=none", 'sources.enabled=["popular","content","als"]'))
    assert shape_line(named, preview, False).endswith("; no times; a run uses popular, content, als")


def test_preview_notes_count_what_would_be_refused() -> None:
    bad = ({**EVENTS[0], "event_type": "other"}, {**EVENTS[0], "item_id": ""})
    preview = preview_feed(CONFIG, "events", [Kind(("a",), False, (*EVENTS, *bad), ())])
    notes = preview_notes("events", preview)
    assert len(notes) == 2
    assert any(
        note.startswith("events: 1 of 14 lines of the sample would be refused as unknown_type (") for note in notes
    )
    assert any("bad_item_id" in note for note in notes)


def test_preview_notes_do_not_speak_of_types_that_are_skipped_on_purpose() -> None:
    config = load_config(sets=("events.columns.user_id=who", "events.unknown_types=skip"))
    preview = preview_feed(config, "events", [Kind(("a",), False, ({**EVENTS[0], "event_type": "search"},), ())])
    assert preview_notes("events", preview) == []
    assert preview.n_parsed == 0


def test_preview_feed_shows_a_catalogue_with_its_attributes() -> None:
    rows = ({"item_id": "i1", "name": "[red] Tea\n", "colour": "blue", "tags": "a|b"},)
    text = text_of("items", Kind(("a",), True, rows, ()))
    for part in ("[red] Tea", "colour=blue", "a, b"):
        assert part in text
    assert "valid_from" not in text
