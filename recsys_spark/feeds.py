"""Which files of a probed folder are event logs, item snapshots and user snapshots, and the folder of each feed.

Owns: the rule by which a landing folder is chosen.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath

from recsys_spark.errors import ArgumentError
from recsys_spark.kernels.column_profile import profile_columns
from recsys_spark.kernels.guess import guess_feed
from recsys_spark.kernels.spellings import Feed
from recsys_spark.sample import Folder, Kind

FEEDS: tuple[Feed, ...] = ("events", "items", "users")
_DAY = re.compile(r"(?<![0-9])((?:19|20)[0-9]{2})[-_/]?([01][0-9])[-_/]?([0-3][0-9])(?![0-9])")


@dataclass(frozen=True)
class FeedFiles:
    """The files of one feed.  folder: relative to the probed one, "." for itself."""

    folder: str
    kinds: tuple[Kind, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All files, those that were not looked into as well."""
        return tuple(path for kind in self.kinds for path in kind.files)

    @property
    def days(self) -> frozenset[date]:
        """Days in the names of the files."""
        return frozenset(day for path in self.paths for day in _days_of(path))


def sort_by_feed(logs: Path, folder: Folder) -> tuple[dict[Feed, FeedFiles], list[str]]:
    """The files by feed, events first, and what is to be said of the rest.

    Raises ArgumentError if there is no feed, or if two feeds are in one folder, where ingest could not part them.
    """
    kinds: dict[Feed, list[Kind]] = {}
    notes = list(folder.warnings)
    for kind in folder.kinds:
        feed = guess_feed(kind.files[0], profile_columns(kind.rows, kind.as_text))
        if feed:
            kinds.setdefault(feed, []).append(kind)
        else:
            why = kind.faults[0] if kind.faults else f"columns {', '.join(kind.rows[0])}" if kind.rows else "no line"
            notes.append(f"{name_files(kind.files)}: neither a log nor a catalogue ({why})")
    notes += _say_unread(folder)
    if not kinds:
        said = "; ".join(notes)[:600] or "no file"
        raise ArgumentError(
            f"init {logs}: expected logs as .jsonl, .json, .ndjson, .csv or .parquet (plain, .gz, .zst), got {said}; "
            "name the folder of the logs, or convert them"
        )
    owners = {path: feed for feed, own in kinds.items() for kind in own for path in kind.files}
    return {
        feed: FeedFiles(_folder_of(logs, feed, owners), tuple(kinds[feed])) for feed in FEEDS if feed in kinds
    }, notes


def name_files(paths: Sequence[str]) -> str:
    """Files in few words."""
    return paths[0] if len(paths) == 1 else f"{len(paths)} files such as {paths[0]}"


def _say_unread(folder: Folder) -> list[str]:
    """Files that ingest would set aside whole; enough of them, and it would refuse the batch."""
    counts = Counter(reason for _, reason in folder.unread)
    first = {reason: path for path, reason in reversed(folder.unread)}
    notes = [f"{n} file(s) such as {first[reason]} would be set aside: {reason}" for reason, n in counts.items()]
    if folder.n_not_tried:
        notes.append(f"{folder.n_not_tried} more kinds of files were not looked into")
    return notes


def _folder_of(logs: Path, feed: Feed, owners: dict[str, Feed]) -> str:
    """The highest folder that has all files of the feed and none of another: tomorrow's files will be below it too."""
    own = [PurePosixPath(path) for path, owner in owners.items() if owner == feed]
    shared = own[0].parent.parts
    for path in own[1:]:
        same = [a == b for a, b in zip(shared, path.parent.parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    for depth in range(len(shared) + 1):
        folder = PurePosixPath(*shared[:depth])
        strangers = [path for path, owner in owners.items() if owner != feed and folder in PurePosixPath(path).parents]
        if not strangers:
            return str(folder)
    raise ArgumentError(
        f"init {logs}: expected the files of each feed in a folder of their own, got {own[0]} ({feed}) and "
        f"{strangers[0]} ({owners[strangers[0]]}) in one; move them to {logs}/{feed} and "
        f"{logs}/{owners[strangers[0]]}, then run init again"
    )


def _days_of(path: str) -> Iterator[date]:
    for year, month, day in _DAY.findall(path):
        try:
            yield date(int(year), int(month), int(day))
        except ValueError:  # digits that are no day
            continue
