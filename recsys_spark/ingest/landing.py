"""Listing of a landing folder, or of a prefix of an object store, and detection of new files by content.

Owns: the listing and the rule by which a file is known.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_IFREG, S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from pyarrow.fs import FileSelector

from recsys_spark.ingest.decode import FileFault, PlannedFile, hash_file, open_landed, open_object
from recsys_spark.warehouse.location import Location, ObjectPath, answering, arrow_files

# Names that writers give to unfinished files, or that Hadoop and editors leave beside files.
_SKIPPED_STARTS = (".", "_")
_SKIPPED_ENDS = (".tmp", ".crc", ".part")
_HASHED_AT_ONCE = 16  # threads at most, on the driver, also for a large cluster


@dataclass(frozen=True)
class Listed:
    """A file of a landing folder; path is relative to it."""

    path: str
    n_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """Files in the order of their paths, and warnings of what was passed over."""

    files: tuple[Listed, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Sorted:
    """New files in the order of their paths, new copies of content that is known or occurs twice, and warnings."""

    new: tuple[PlannedFile, ...]
    copies: tuple[PlannedFile, ...]
    warnings: tuple[str, ...]


def list_landing(folder: Location) -> Listing:
    """The finished regular files below `folder`; links are not followed, they and other kinds of files are reported."""
    files: list[Listed] = []
    warnings: list[str] = []
    for path, kind, size, mtime_ns in _walk_store(folder) if isinstance(folder, ObjectPath) else _walk(folder, ""):
        if not path.isprintable() or not all(path.split("/")):
            # A name that is not UTF-8, or that would garble a table, cannot be recorded; a//b cannot be opened.
            warnings.append(
                f"{folder}/{path!a}: expected a printable name with no empty part; rename the file, it was passed over"
            )
        elif S_ISREG(kind):
            files.append(Listed(path, size, mtime_ns))
        else:
            what = "a symbolic link" if S_ISLNK(kind) else "something else"
            warnings.append(f"{folder}/{path}: expected a regular file, got {what}; it was passed over")
    return Listing(tuple(sorted(files, key=lambda one: one.path)), tuple(warnings))


def _walk(folder: Path, below: str) -> Iterator[tuple[str, int, int, int]]:
    """(relative path, mode, bytes, mtime_ns) of everything that is not a folder."""
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if _is_skipped(entry.name):
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # moved away while it was listed
                continue
            if S_ISDIR(found.st_mode):
                yield from _walk(folder, path)
            else:
                yield path, found.st_mode, found.st_size, found.st_mtime_ns


def _walk_store(folder: ObjectPath) -> Iterator[tuple[str, int, int, int]]:
    """As `_walk`, for an object store, where every file is finished and regular."""
    files, prefix = arrow_files(folder)
    with answering(folder):
        listed = files.get_file_info(FileSelector(prefix, allow_not_found=True, recursive=True))
    for one in listed:
        path = one.path[len(prefix) + 1 :]
        if one.is_file and not any(_is_skipped(part) for part in path.split("/")):
            yield path, S_IFREG, one.size, one.mtime_ns


def _is_skipped(name: str) -> bool:
    """Whether a file or folder of that name is passed over."""
    return name.startswith(_SKIPPED_STARTS) or name.endswith(_SKIPPED_ENDS)


def sort_listed(
    folder: Location,
    listed: Iterable[Listed],
    ledger: list[dict[str, Any]],
    mapping_hash: str,
    n_threads: int,
    reread: frozenset[str] = frozenset(),
) -> Sorted:
    """Which of the listed files are new, by content.

    ledger: rows of `ingest_files` of this feed.  Content is settled once it was ingested, or was quarantined under the
    same mapping and suffix: a renamed file may be read as another format.  reread: hashes of mappings under which
    ingested content with refused lines is not settled (see `take_in.reread_mappings`).  A file whose path, size and
    time of change are recorded with settled content is not hashed again: landed logs are not rewritten in place.  One
    that was rewritten with the same size, within the same tick of the storage's clock (a nanosecond, in S3 a second),
    is missed, never doubled.  In an object store a copy with another time is recorded again, because to hash it anew
    would fetch it.
    """
    known = _Known(ledger, mapping_hash, reread)
    unsure = [
        one
        for one in listed
        if not known.settles(one.path, known.hashes.get((one.path, one.n_bytes, one.mtime_ns), ""))
    ]
    with ThreadPoolExecutor(min(n_threads, _HASHED_AT_ONCE)) as pool:
        hashes = list(pool.map(lambda one: _hash(folder, one), unsure))
    new: dict[str, PlannedFile] = {}
    copies: list[PlannedFile] = []
    warnings: list[str] = []
    for one, sha256 in zip(unsure, hashes, strict=True):
        if not sha256:
            warnings.append(
                f"{folder}/{one.path}: expected a file that can be read; correct its rights, it was passed over"
            )
            continue
        planned = PlannedFile(len(new), one.path, sha256, one.n_bytes, one.mtime_ns)
        if not known.settles(one.path, sha256) and sha256 not in new:
            new[sha256] = planned
        elif isinstance(folder, ObjectPath) or (one.path, sha256) not in known.recorded:
            copies.append(planned)
    return Sorted(tuple(new.values()), tuple(copies), tuple(warnings))


class _Known:
    """What the ledger knows: settled content, recorded (path, content), and the hash by path, size and time."""

    def __init__(self, ledger: list[dict[str, Any]], mapping_hash: str, reread: frozenset[str]) -> None:
        self.recorded: set[tuple[str, str]] = set()
        self.hashes: dict[tuple[str, int, int], str] = {}
        self._ingested: set[str] = set()
        self._set_aside: set[tuple[str, str]] = set()
        for row in ledger:
            path, sha256 = row["path"], row["sha256"]
            self.recorded.add((path, sha256))
            self.hashes[(path, row["bytes"], row["mtime_ns"])] = sha256
            if row["state"] == "ingested":
                if not (row["n_quarantined"] and row["mapping_hash"] in reread):
                    self._ingested.add(sha256)
            # A file that changed while it was read tells nothing of the content that it was planned with.
            elif row["state"] == "quarantined" and row["mapping_hash"] == mapping_hash and row["reason"] != "mutated":
                self._set_aside.add((sha256, _suffix(path)))

    def settles(self, path: str, sha256: str) -> bool:
        """Whether the content was ingested for good, or would be quarantined again under this name."""
        return sha256 in self._ingested or (sha256, _suffix(path)) in self._set_aside


def _suffix(path: str) -> str:
    """The last two parts of the name after dots, which decide the format."""
    return ".".join(path.rsplit("/", 1)[-1].lower().split(".")[1:][-2:])


def _hash(folder: Location, one: Listed) -> str:
    """SHA-256 of the file, "" if it is gone or may not be read; a file that grows now is detected when it is parsed."""
    try:
        with (
            open_object(folder / one.path) if isinstance(folder, ObjectPath) else open_landed(folder, one.path) as file
        ):
            return hash_file(file)
    except (FileFault, PermissionError):
        return ""
