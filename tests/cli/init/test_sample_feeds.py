"""Each feed gets the highest folder that is its alone."""

from datetime import date
from pathlib import Path

import pytest

from recsys_spark.cli.init.sample import FeedFiles, Folder, Kind, name_files, sort_by_feed
from recsys_spark.errors import ArgumentError

LOGS = Path("logs")
EVENT = {"user_id": "u", "item_id": "i", "timestamp": 1_700_000_000}
ITEMS = tuple({"item_id": f"i{n}", "title": "t"} for n in range(5))
USERS = tuple({"user_id": f"u{n}", "country": "FR"} for n in range(5))


def events(*files: str) -> Kind:
    return Kind(files, False, (EVENT,) * 5, ())


def catalogue(*files: str) -> Kind:
    return Kind(files, False, ITEMS, ())


def folders(*kinds: Kind) -> dict[str, str]:
    feeds, _ = sort_by_feed(LOGS, Folder(kinds, (), 0, ()))
    return {feed: files.folder for feed, files in feeds.items()}


def test_sort_by_feed_takes_the_probed_folder_when_all_files_are_events() -> None:
    assert folders(events("2025/03/01/a.jsonl")) == {"events": "."}
    assert folders(events("a.jsonl", "b/c.jsonl")) == {"events": "."}


def test_sort_by_feed_parts_feeds_at_the_highest_folder() -> None:
    assert folders(events("ev/2025-03-01/a.jsonl"), catalogue("cat/items/2025-03-01/a.jsonl")) == {
        "events": "ev",
        "items": "cat",
    }
    assert folders(
        events("x/ev/a.jsonl"), catalogue("x/items/a.jsonl"), Kind(("x/users/a.jsonl",), False, USERS, ())
    ) == {
        "events": "x/ev",
        "items": "x/items",
        "users": "x/users",
    }


@pytest.mark.parametrize(
    ("own", "other"), [("a.jsonl", "b.jsonl"), ("d/a.jsonl", "d/b.jsonl"), ("a.jsonl", "d/b.jsonl")]
)
def test_sort_by_feed_refuses_feeds_that_no_folder_parts(own: str, other: str) -> None:
    with pytest.raises(
        ArgumentError, match=r"expected the files of each feed in a folder of their own, got .* in one;"
    ):
        folders(events(own), catalogue(other))


def test_sort_by_feed_says_what_is_of_no_feed() -> None:
    odd = Kind(("odd.csv",), True, ({"foo": "1"},), ())
    feeds, notes = sort_by_feed(LOGS, Folder((events("a.jsonl"), odd), (("x.txt", "why"), ("y.txt", "why")), 2, ("w",)))
    assert set(feeds) == {"events"}
    assert notes == [
        "w",
        "odd.csv: neither a log nor a catalogue (columns foo)",
        "2 file(s) such as x.txt would be quarantined: why",
        "2 more kinds of files were not looked into",
    ]


def test_sort_by_feed_refuses_a_folder_without_any_feed() -> None:
    with pytest.raises(ArgumentError, match=r"^init logs: expected logs as .*, got no file; "):
        sort_by_feed(LOGS, Folder((), (), 0, ()))


def test_feed_files_know_the_days_in_their_names() -> None:
    files = FeedFiles(".", (events("2025-03-01.jsonl", "x/20250302.jsonl", "2025/03/03/a.jsonl", "2025-02-30.jsonl"),))
    assert files.days == {date(2025, 3, 1), date(2025, 3, 2), date(2025, 3, 3)}


def test_name_files_is_short() -> None:
    assert name_files(("a",)) == "a"
    assert name_files(("a", "b")) == "2 files such as a"
