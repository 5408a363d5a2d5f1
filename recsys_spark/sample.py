"""A look into a folder of logs: some lines of some files, read with the decoders of ingest.

Owns: which files are looked into and how far.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from recsys_spark.ingest.decode import FileFault, Layout, Limits, layout_of, open_landed, read_pieces, read_row_batches
from recsys_spark.ingest.held_lines import Raw
from recsys_spark.ingest.landing import list_landing
from recsys_spark.ingest.records import CsvReader, Record, RowFault, read_jsonl, read_rows, split_lines

ROWS_PER_FILE = 2000
# Logs of one kind look alike: the first, the middle and the last tell the spellings, and formats that changed.
FILES_PER_KIND = 3
_MAX_KINDS = 40
_LIMITS = Limits(1 << 62, 1 << 62, 1 << 40, max_line_bytes=1 << 20)
_PIECES_PER_FILE = 8  # of decode.PIECE_BYTES each
_CSV_MARKS = (",", "\t", ";", "|")


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
    """What lies in a folder of logs.  unread: (path, reason) of files that ingest would set aside whole."""

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
    """The path without what changes from day to day and from part to part."""
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
            records = read_rows(read_row_batches(file, None, _LIMITS))
        else:
            records = _read_lines(file, layout)
        return list(islice(records, ROWS_PER_FILE))


def _read_lines(file: BinaryIO, layout: Layout) -> Iterator[Record]:
    pieces = list(islice(read_pieces(file, layout, _LIMITS), _PIECES_PER_FILE + 1))
    lines = list(islice(split_lines(pieces[:_PIECES_PER_FILE], _LIMITS.max_line_bytes), ROWS_PER_FILE + 1))
    if len(pieces) > _PIECES_PER_FILE and len(lines) <= ROWS_PER_FILE:
        lines.pop()  # cut where the look ended
    if layout.format == "jsonl":
        return read_jsonl(lines)
    header = lines[0][1] if lines else b""
    text = (header.head if isinstance(header, Raw) else header).decode(errors="replace").strip()
    best = max(_CSV_MARKS, key=text.count)
    reader = CsvReader(lines, text.split(best)[0].strip('"'))
    if any(re.fullmatch(r"-?[0-9]+([.,][0-9]+)?", cell.strip()) for cell in reader.header):
        raise FileFault("missing_column", f"expected a first line with the names of the columns, got {text[:60]!r}")
    return reader.records()
