"""Samples of a folder of logs: some lines of some files, read with the decoders of ingest, and the files by feed.

Owns: which files are read and how far, and which of them are event logs, item snapshots and user snapshots, each feed
in a folder of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from recsys_spark.cli.init.column_profile import profile_columns
from recsys_spark.cli.init.guess import guess_feed
from recsys_spark.cli.init.spellings import Feed
from recsys_spark.errors import ArgumentError
from recsys_spark.ingest.decode import FileFault, Layout, Limits, layout_of, open_landed, read_pieces, read_row_batches
from recsys_spark.ingest.held_lines import Raw
from recsys_spark.ingest.landing import list_landing
from recsys_spark.ingest.records import CsvReader, Record, RowFault, parquet_records, read_jsonl, split_lines

ROWS_PER_FILE = 2000
# Files of one kind look alike: the first, the middle and the last show the spellings, and formats that changed.
FILES_PER_KIND = 3
_MAX_KINDS = 40
_LIMITS = Limits(1 << 62, 1 << 62, 1 << 40, max_line_bytes=1 << 20)
_PIECES_PER_FILE = 8  # of decode.PIECE_BYTES each
_CSV_MARKS = (",", "\t", ";", "|")


FEEDS: tuple[Feed, ...] = ("events", "items", "users")
_DAY = re.compile(r"(?<![0-9])((?:19|20)[0-9]{2})[-_/]?([01][0-9])[-_/]?([0-3][0-9])(?![0-9])")


@dataclass(frozen=True)
class Kind:
    """Files of one folder that are named alike but for digits, and the rows of those that were looked into.

    as_text: the format has only text (CSV).  faults: why lines could not be read, one text a line.
    """

    files: tuple[str, ...]
    as_text: bool
    rows: tuple[dict[str, Any], ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """What lies in a folder of logs.  unread: (path, reason) of files that ingest would quarantine."""

    kinds: tuple[Kind, ...]
    unread: tuple[tuple[str, str], ...]
    n_not_tried: int
    warnings: tuple[str, ...]


def read_samples(logs: Path) -> Folder:
    """Samples of every kind of file below `logs`; links are not followed, unfinished files are passed over."""
    listing = list_landing(logs)
    groups: dict[tuple[str, str], list[str]] = {}
    unread: list[tuple[str, str]] = []
    for one in listing.files:
        try:
            groups.setdefault((_stem(one.path), layout_of(one.path, "auto").format), []).append(one.path)
        except FileFault as fault:
            unread.append((one.path, fault.detail))
    tried = list(groups.items())[:_MAX_KINDS]
    kinds = []
    for (_, layout), paths in tried:
        kind, faults = _read_kind(logs, paths, layout == "csv")
        unread += faults
        if kind:
            kinds.append(kind)
    return Folder(tuple(kinds), tuple(unread), len(groups) - len(tried), listing.warnings)


def _stem(path: str) -> str:
    """The path without the digits and random names that change from day to day and from part to part."""
    folder, _, name = path.rpartition("/")
    # Writers in parallel give every part a random name.
    name = re.sub(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+", "#", name.split(".")[0])
    return re.sub(r"[0-9]+([-_][0-9]+)*", "#", f"{folder}/{name}")


def _read_kind(logs: Path, paths: list[str], as_text: bool) -> tuple[Kind | None, list[tuple[str, str]]]:
    """The kind, None if no file of it could be opened, and the faults of whole files."""
    chosen = sorted({0, len(paths) // 2, len(paths) - 1})[:FILES_PER_KIND]
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    whole: list[tuple[str, str]] = []
    for path in (paths[at] for at in chosen):
        try:
            for _, fields, _ in _read_file(logs, path):
                if isinstance(fields, RowFault):
                    faults.append(fields.detail)
                else:
                    rows.append(fields)
        except FileFault as fault:
            whole.append((path, fault.detail))
    if len(whole) == len(chosen):
        return None, [(path, whole[0][1]) for path in paths]
    return Kind(tuple(paths), as_text, tuple(rows), tuple(faults)), whole


def _read_file(logs: Path, path: str) -> list[Record]:
    layout = layout_of(path, "auto")
    with open_landed(logs, path) as file:
        if layout.format == "parquet":
            records = parquet_records(read_row_batches(file, None, _LIMITS))
        else:
            records = _read_lines(file, layout)
        return list(islice(records, ROWS_PER_FILE))


def _read_lines(file: BinaryIO, layout: Layout) -> Iterator[Record]:
    pieces = list(islice(read_pieces(file, layout, _LIMITS), _PIECES_PER_FILE + 1))
    lines = list(islice(split_lines(pieces[:_PIECES_PER_FILE], _LIMITS.max_line_bytes), ROWS_PER_FILE + 1))
    if len(pieces) > _PIECES_PER_FILE and len(lines) <= ROWS_PER_FILE:
        lines.pop()  # cut where reading ended
    if layout.format == "jsonl":
        return read_jsonl(lines)
    header = lines[0][1] if lines else b""
    text = (header.head if isinstance(header, Raw) else header).decode(errors="replace").strip()
    best = max(_CSV_MARKS, key=text.count)
    reader = CsvReader(lines, text.split(best)[0].strip('"'))
    if any(re.fullmatch(r"-?[0-9]+([.,][0-9]+)?", cell.strip()) for cell in reader.header):
        raise FileFault("missing_column", f"expected a first line with the names of the columns, got {text[:60]!r}")
    return reader.records()


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

    Raises ArgumentError if there is no feed, or if two feeds are in one folder, where ingest could not tell them apart.
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
    """Notes on files that ingest would quarantine; if they are many, it would refuse the batch."""
    counts = Counter(reason for _, reason in folder.unread)
    first = {reason: path for path, reason in reversed(folder.unread)}
    notes = [f"{n} file(s) such as {first[reason]} would be quarantined: {reason}" for reason, n in counts.items()]
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
