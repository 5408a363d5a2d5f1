"""Record readers for JSONL, CSV and Parquet: each row as a dictionary with its line and raw text, or with its fault.

Owns: the three record formats, and every reason for which a line cannot be read at all.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.ingest.decode import FileFault
from recsys_spark.ingest.held_lines import RAW_BYTES, HeldLines, Line, Raw, raw_of, text_of
from recsys_spark.ingest.quoted_cells import MAX_CELL_LINES, cells_of_line

MAX_COLUMNS = 1000
MAX_DEPTH = 32
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = (",", "\t", ";", "|")


class RowFault(Exception):  # noqa: N818 - a verdict on one line; the others go on
    """Why one line is quarantined."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unreadable:
    """Stands for a native value that Python cannot hold, such as a time in the year 40000; no parser accepts it."""


Fields = dict[str, Any]
Record = tuple[int, Fields | RowFault, bytes | Raw]


def split_lines(pieces: Iterable[bytes], max_line_bytes: int) -> Iterator[Line]:
    """Line number from 1 and the line without its line feed; a longer line comes as `Raw` and is never held whole."""
    number, rest = 0, _Rest(max_line_bytes)
    for piece in pieces:
        lines = piece.split(b"\n")
        rest.add(lines[0])
        if len(lines) == 1:
            continue
        number += 1
        yield number, rest.take(first=number == 1)
        for line in lines[1:-1]:
            number += 1
            yield number, line if len(line) <= max_line_bytes else raw_of(line)
        rest.add(lines[-1])
    if rest.n_bytes:
        yield number + 1, rest.take(first=number == 0)


class _Rest:
    """The line that the last piece did not end: the whole line while it is short, else its start and a running hash."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self.n_bytes = 0
        self.text = b""
        self.digest: Any = None

    def add(self, piece: bytes) -> None:
        self.n_bytes += len(piece)
        if self.digest is None and self.n_bytes > self.max_bytes:
            self.digest = sha256(self.text)
            self.text = (self.text + piece[:RAW_BYTES])[:RAW_BYTES]
        elif self.digest is None:
            self.text += piece
        if self.digest is not None:
            self.digest.update(piece)

    def take(self, first: bool) -> bytes | Raw:
        """The line, without the byte order mark if it is the first of the file."""
        text, digest, n_bytes = self.text, self.digest, self.n_bytes
        self._clear()
        if digest is not None:
            return Raw(text, digest.hexdigest(), n_bytes)
        return text.removeprefix(_BOM) if first else text


def read_jsonl(lines: Iterable[Line]) -> Iterator[Record]:
    """One record per line that is not blank; a line that is not one JSON object comes with a RowFault."""
    decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
    for number, line in lines:
        if isinstance(line, Raw):
            yield number, _too_long(line), line
            continue
        if not line or line.isspace():
            continue
        try:
            fields = decode(line.decode())
        except UnicodeDecodeError as err:
            yield number, RowFault("bad_encoding", f"expected UTF-8, got {err.reason} at byte {err.start}"), line
        except RecursionError:
            yield number, _too_deep(), line
        except ValueError as err:
            yield number, RowFault("bad_json", f"expected one JSON object, got: {str(err)[:200]}"), line
        else:
            yield number, _checked(fields, line), line


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not JSON")


def _checked(fields: Any, line: bytes) -> Fields | RowFault:
    """The object, or why it is not accepted."""
    if type(fields) is not dict:
        return RowFault("bad_json", f"expected one JSON object, got {type(fields).__name__}")
    if len(fields) > MAX_COLUMNS:
        return RowFault("too_many_columns", f"expected at most {MAX_COLUMNS} columns, got {len(fields)}")
    # Depth is measured only if there are enough brackets for it: two counts cost a tenth of a microsecond.
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _depth(fields) > MAX_DEPTH:
        return _too_deep()
    return fields


def _depth(value: Any) -> int:
    """Levels of nesting of a decoded JSON value; an iterative walk, because the value may be deep."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        inner, depth = waiting.pop()
        if isinstance(inner, dict | list):
            deepest = max(deepest, depth)
            waiting.extend((one, depth + 1) for one in (inner.values() if isinstance(inner, dict) else inner))
    return deepest


def _too_deep() -> RowFault:
    return RowFault("too_deep", f"expected at most {MAX_DEPTH} levels of nesting, got more")


def _too_long(raw: Raw) -> RowFault:
    return RowFault("line_too_long", f"expected a shorter line (ingest.max_line_bytes), got {raw.n_bytes} bytes")


class CsvReader:
    """Records of a CSV file with a header; a record's line is the one on which it starts.

    A quoted cell may span several lines, which are held with the current record.  Lines that make no record together,
    or that are too many for the text of a cell, are given back: the first is read by itself, and the second starts a
    new record.
    """

    def __init__(
        self, lines: Iterable[Line], required: str, is_row: Callable[[Fields], bool] = lambda fields: False
    ) -> None:
        """required: a column that the header must have; the delimiter is the one that makes it appear.

        is_row: whether fields are surely a row, not text of a cell.  Raises FileFault `corrupt` if the first line
        cannot be a header.
        """
        self._held = HeldLines(lines)
        self._is_row = is_row
        text = next(self._held.texts(), "")
        rows = {mark: _cells(text, mark) for mark in _DELIMITERS}
        self._delimiter = next((mark for mark in _DELIMITERS if required in (rows[mark] or [])), ",")
        header = rows[self._delimiter]
        if header is None:
            limit = csv.field_size_limit()
            raise FileFault("corrupt", f"expected a CSV header of names up to {limit} characters, got a longer one")
        self.header: list[str] = header
        self._held.n_cells = max(1, len(header))

    def records(self) -> Iterator[Record]:
        """One record per row that is not blank; empty cells are None."""
        rows, held = self._csv_rows(), self._held
        while True:
            held.taken = []
            fields: Fields | RowFault | None = None
            try:
                cells = next(rows)
                if len(held.taken) == 1:
                    if not cells and isinstance(held.taken[0][1], bytes):
                        continue
                    fields = self._fields(cells)
                else:
                    fields = self._fields_of_several(cells)
            except StopIteration:
                return
            except csv.Error:
                rows = self._csv_rows()
            if fields is None:
                held.give_back()
                fields = self._alone(held.taken[0])
            yield held.taken[0][0], fields, held.raw()

    def _csv_rows(self) -> Iterator[list[str]]:
        return csv.reader(self._held.texts(), delimiter=self._delimiter, strict=True)

    def _fields_of_several(self, cells: list[str]) -> Fields | None:
        """The record that several lines make; None if they are to be given back."""
        fields = self._fields(cells)
        if isinstance(fields, RowFault) or any(cell.count("\n") >= MAX_CELL_LINES for cell in cells):
            return None
        return None if self._encloses_rows() else fields

    def _encloses_rows(self) -> bool:
        """Whether the lines taken are rows between two stray quotes a few lines apart.

        Then lines between the first and the last are rows by themselves.  Without such lines, first and last must both
        be rows: text in a last cell makes the first line look like a row, and text in a first cell the last line.
        """
        first, *between, last = (line for line in self._held.taken if not isinstance(line[1], bytes) or line[1].strip())
        return any(map(self._is_row_alone, between)) or (self._is_row_alone(first) and self._is_row_alone(last))

    def _is_row_alone(self, line: Line) -> bool:
        """Whether a line is a row by itself; with tabs the number of cells is enough, because text has hardly any."""
        fields = self._alone(line)
        return not isinstance(fields, RowFault) and (self._delimiter == "\t" or self._is_row(fields))

    def _alone(self, line: Line) -> Fields | RowFault:
        """The record of a line that is read by itself."""
        number, raw = line
        if isinstance(raw, Raw):
            return _too_long(raw)
        try:
            return self._fields(cells_of_line(text_of(raw), self._delimiter), [line])
        except csv.Error as err:
            return RowFault("bad_csv", f"expected a CSV record, got line {number}: {err}")

    def _fields(self, cells: list[str], lines: Sequence[Line] | None = None) -> Fields | RowFault:
        """The fields of `cells`, which come from `lines`, by default those taken."""
        for _, line in self._held.taken if lines is None else lines:
            if isinstance(line, Raw):
                return _too_long(line)
        if len(cells) != len(self.header):
            return RowFault("bad_csv", f"expected {len(self.header)} cells as in the header, got {len(cells)}")
        text = "".join(cells)
        if not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text):
            return RowFault("bad_encoding", "expected UTF-8, got other bytes")
        return {name: cell or None for name, cell in zip(self.header, cells, strict=True)}


def _cells(text: str, mark: str) -> list[str] | None:
    """Cells of a first line; None if the csv module refuses it, as it may with a delimiter that is not the file's."""
    try:
        return next(csv.reader([text], delimiter=mark), [])
    except csv.Error:
        return None


def parquet_records(batches: Iterable[pa.RecordBatch]) -> Iterator[Record]:
    """One record per row of a Parquet file; its raw text is empty: `row_text` makes it when it is needed."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        columns = [_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(names, values, strict=True)), b""


def row_text(fields: Fields) -> bytes:
    """A Parquet row as JSON text, for quarantine."""
    return json.dumps(fields, default=str).encode()


def _values(column: pa.Array) -> list[Any]:
    """Python values of a column; times in microseconds, and `Unreadable` where Python has no such value."""
    try:
        if pa.types.is_timestamp(column.type):
            target = pa.timestamp("us", tz=column.type.tz)
            column = pc.cast(column, options=pc.CastOptions(target, allow_time_truncate=True))
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return Unreadable()
