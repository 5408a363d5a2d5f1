"""Reader of a landed file: Arrow batches of parsed and refused rows, emitted only if the whole file is readable.

Owns: the two passes over a file and its accounting.  Memory is bounded by one batch, whatever the file.

Every line of a text file that is not blank, except the header of a CSV file, is counted where it stands, so that no
record can swallow lines uncounted: a record of n lines is one line that is parsed or quarantined, and n - 1 that
continue it.

    lines_in = n_parsed + n_quarantined + n_continued
    n_parsed = n_new + n_anonymous + n_duplicate        (once they are compared with what is stored)

A blank line inside a quoted cell continues its record.  In Parquet a row is a line.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from recsys_spark.errors import StoreFault
from recsys_spark.ingest.decode import (
    FileFault,
    Layout,
    Limits,
    PlannedFile,
    check_size,
    check_unchanged,
    layout_of,
    open_planned,
    parquet_columns,
    prove_readable,
    read_pieces,
    read_row_batches,
)
from recsys_spark.ingest.held_lines import RAW_BYTES, Raw, n_lines_of, raw_of
from recsys_spark.ingest.records import (
    CsvReader,
    Fields,
    Record,
    RowFault,
    parquet_records,
    read_jsonl,
    row_text,
    split_lines,
)
from recsys_spark.warehouse.location import Location

NOT_MALFORMED = frozenset({"too_late", "future", "skipped_type"})
# A short file without any user may be the log of a quiet hour; a longer one has a wrong mapping.
MIN_LINES_TO_MISS = 100
_MAX_SHAPES = 1000
_MAX_UNKNOWN = 100


PARSED, REFUSED, SUMMARY = 0, 1, 2
_BATCH_ROWS = 20_000
# A batch is also emitted after this much text, so that long lines do not add up.
_BATCH_BYTES = 16 << 20
Parse = Callable[[Fields, int], tuple[Any, ...]]  # of a record and the number of its line


@dataclass(frozen=True)
class FileSummary:
    """The outcome of one file.  state: `read`, or `quarantined` whole with a reason; then none of its rows counts.

    days: parsed rows by their day, in days since 1970.  first_malformed: (line, reason).  n_continued: lines after the
    first one of their record.
    """

    index: int
    state: str
    reason: str | None = None
    detail: str | None = None
    lines_in: int = 0
    n_parsed: int = 0
    n_quarantined: int = 0
    n_malformed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_malformed: tuple[int, str] | None = None
    unknown_columns: dict[str, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    n_continued: int = 0

    @property
    def n_records(self) -> int:
        """Records, each of any number of lines: the whole of which the gates take shares."""
        return self.lines_in - self.n_continued

    def to_json(self) -> str:
        """The summary as text, for the driver."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "FileSummary":
        """The summary that `to_json` wrote."""
        fields = json.loads(text)
        first = fields["first_malformed"]
        # JSON knows no tuples, and its keys are text.
        days = {int(day): n_rows for day, n_rows in fields["days"].items()}
        fields |= {"first_malformed": tuple(first) if first else None, "days": days}
        return FileSummary(**fields)


class FileCounter:
    """Counts of the file that is being read."""

    def __init__(self, known: frozenset[str] | None, required: frozenset[str], expected: frozenset[str]) -> None:
        """known, required and expected: as in `Reading`."""
        self.known = known
        self.required = required
        self.missing = set(required | expected)
        self.lines_in = self.n_continued = self.n_objects = self.n_parsed = self.n_malformed = 0
        self.reasons: Counter[str] = Counter()
        self.first_malformed: tuple[int, str] | None = None
        self.unknown: Counter[str] = Counter()
        self.header_unknown: list[str] = []
        self.days: Counter[int] = Counter()
        self._shapes: dict[tuple[str, ...], list[str]] = {}

    def take_header(self, names: list[str]) -> None:
        """Checks the columns of a file that declares them; raises FileFault `missing_column`."""
        absent = sorted(self.missing - set(names))
        if absent:
            raise _missing_column(absent, names)
        self.missing = set()
        if self.known is not None:
            self.header_unknown = [name for name in names if name not in self.known]
        self.known = None

    def count(self, fields: Fields | RowFault, n_lines: int = 1) -> None:
        """Counts a record of `n_lines`, and those of its columns that the mapping does not name."""
        self.lines_in += n_lines
        self.n_continued += n_lines - 1
        if isinstance(fields, RowFault):
            return
        self.n_objects += 1
        if self.missing:
            self.missing.difference_update(fields)
        if self.known is None:
            return
        shape = tuple(fields)
        unknown = self._shapes.get(shape)
        if unknown is None:
            unknown = [name for name in shape if name not in self.known]
            if len(self._shapes) < _MAX_SHAPES:
                self._shapes[shape] = unknown
        for name in unknown:
            self.unknown[name if name in self.unknown or len(self.unknown) < _MAX_UNKNOWN else "(others)"] += 1

    def refuse(self, line: int, fault: RowFault) -> None:
        """Counts a refused record by the line on which it starts."""
        self.reasons[fault.reason] += 1
        if fault.reason not in NOT_MALFORMED:
            self.n_malformed += 1
            self.first_malformed = self.first_malformed or (line, fault.reason)

    def summary(self, index: int) -> FileSummary:
        """The accounting of the file; raises FileFault `missing_column` if no line had a column that it must have."""
        absent = self.missing if self.n_objects >= MIN_LINES_TO_MISS else self.missing & self.required
        if absent and self.n_objects:
            raise _missing_column(sorted(absent), [name for shape in self._shapes for name in shape])
        unknown = {_plain(name): n for name, n in self.unknown.items()}
        unknown |= {_plain(name): self.lines_in - self.n_continued for name in self.header_unknown[:_MAX_UNKNOWN]}
        return FileSummary(
            index,
            "read",
            lines_in=self.lines_in,
            n_parsed=self.n_parsed,
            n_quarantined=sum(self.reasons.values()),
            n_malformed=self.n_malformed,
            reasons=dict(self.reasons),
            first_malformed=self.first_malformed,
            unknown_columns=unknown,
            days=dict(self.days),
            n_continued=self.n_continued,
        )


def _missing_column(absent: list[str], found: list[str]) -> FileFault:
    shown = ", ".join(_plain(name) for name in dict.fromkeys(found[:20])) or "none"
    return FileFault("missing_column", f"expected the columns {', '.join(absent)}, got {shown}")


def _plain(name: str) -> str:
    """A column's name as a ledger can hold it: short and valid Unicode."""
    return name[:100].encode(errors="replace").decode()


@dataclass(frozen=True)
class Reading:
    """How the files of a batch are read.

    schema: Arrow fields of what `make_parse(file, as_text)` returns for a record.  required: columns that the file must
    have; expected: columns that a longer file must have (a JSON line may leave out a null).  known: columns that the
    mapping names; None: every column is read.  first: column by which a CSV delimiter is recognised.  tells_rows: a
    line of prose cannot pass as a row, because a row must have a time, or a type.
    """

    folder: Location
    wanted_format: str
    limits: Limits
    schema: pa.Schema
    make_parse: Callable[[PlannedFile, bool], Parse]
    required: frozenset[str]
    expected: frozenset[str]
    known: frozenset[str] | None
    first: str
    tells_rows: bool


def landed_schema(schema: pa.Schema) -> pa.Schema:
    """Fields of an emitted batch: file, line and status, the parsed columns, then the reason of a refused row."""
    place = [("file_index", pa.int32()), ("line", pa.int64()), ("status", pa.int8())]
    refusal = [(name, pa.string()) for name in ("reason", "detail", "raw", "raw_sha256")]
    parsed = [one.with_nullable(True).remove_metadata() for one in schema]
    return pa.schema([*(pa.field(*one) for one in place), *parsed, *(pa.field(*one) for one in refusal)])


def read_file(planned: PlannedFile, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Batches of `landed_schema`; the last holds the file's FileSummary as JSON in `detail`.

    A file that changes while it is parsed is detected by its hash afterwards: the summary then has `mutated`, and the
    rows that were emitted before are void.  So are they after a fault that no rule foresees: `unreadable`.
    """
    try:
        layout = layout_of(planned.path, reading.wanted_format)
        check_size(planned, reading.limits)
        with open_planned(reading.folder, planned) as file:
            prove_readable(file, planned, layout, reading.limits)
            summary = yield from _parse_file(file, planned, layout, reading)
            check_unchanged(file, planned)
    except FileFault as fault:
        summary = FileSummary(planned.index, "quarantined", fault.reason, fault.detail)
    except (OSError, MemoryError, StoreFault):
        # A full disk, a lost mount or store, or too little memory is not a fault of the file: the task is tried again.
        raise
    except Exception as err:
        summary = FileSummary(planned.index, "quarantined", "unreadable", _named(err))
    yield _batch(reading, planned.index, SUMMARY, [(0,)], [(None, summary.to_json(), None, None)])


def _parse_file(
    file: BinaryIO, planned: PlannedFile, layout: Layout, reading: Reading
) -> Generator[pa.RecordBatch, None, FileSummary]:
    tally = FileCounter(reading.known, reading.required, reading.expected)
    parse = reading.make_parse(planned, layout.format == "csv")
    parsed: list[tuple[Any, ...]] = []
    refused: list[tuple[Any, ...]] = []
    n_bytes = 0
    for line, fields, raw in _records(file, layout, reading, tally, parse):
        tally.count(fields, n_lines_of(raw))
        try:
            parsed.append((line, *_parse_record(parse, fields, line)))
            n_bytes += len(raw) if type(raw) is bytes else 0
        except RowFault as fault:
            tally.refuse(line, fault)
            refused.append((line, fault.reason, fault.detail, *_kept(fields, raw)))
            n_bytes += len(refused[-1][3])
        if len(parsed) + len(refused) >= _BATCH_ROWS or n_bytes > _BATCH_BYTES:
            yield from _flush(reading, planned.index, parsed, refused, tally)
            n_bytes = 0
    yield from _flush(reading, planned.index, parsed, refused, tally)
    return tally.summary(planned.index)


def _parse_record(parse: Parse, fields: Fields | RowFault, line: int) -> tuple[Any, ...]:
    """The values of a record; raises RowFault, with `unreadable` for a fault that no rule of the parser foresees."""
    if isinstance(fields, RowFault):
        raise fields
    try:
        return parse(fields, line)
    except (RowFault, MemoryError):
        raise
    except Exception as err:
        # An open batch is replayed before any other: a line that kills its task would stop every later ingest.
        raise RowFault("unreadable", _named(err)) from err


def _named(err: Exception) -> str:
    """Type and text of an error as short ASCII, because it may quote bytes that no ledger can hold."""
    return f"expected a value that can be read, got {type(err).__name__}: {str(err)[:200]!a}"


def _records(file: BinaryIO, layout: Layout, reading: Reading, tally: FileCounter, parse: Parse) -> Iterator[Record]:
    """Records of the file in any format; raises FileFault if a file with a header lacks a required column."""
    if layout.format == "parquet":
        names = parquet_columns(file)
        tally.take_header(names)
        wanted = None if reading.known is None else [name for name in names if name in reading.known]
        return parquet_records(read_row_batches(file, wanted, reading.limits))
    lines = split_lines(read_pieces(file, layout, reading.limits), reading.limits.max_line_bytes)
    if layout.format == "jsonl":
        return read_jsonl(lines)
    reader = CsvReader(lines, reading.first, lambda fields: reading.tells_rows and _is_row(parse, fields))
    if reader.header:
        tally.take_header(reader.header)
    return reader.records()


def _is_row(parse: Parse, fields: Fields) -> bool:
    """Whether the fields are those of a row, also of one that is too late or skipped."""
    try:
        _parse_record(parse, fields, 0)
    except RowFault as fault:
        return fault.reason in NOT_MALFORMED
    return True


def _flush(
    reading: Reading, index: int, parsed: list[tuple[Any, ...]], refused: list[tuple[Any, ...]], tally: FileCounter
) -> Iterator[pa.RecordBatch]:
    """Emits and empties what was collected."""
    if parsed:
        tally.n_parsed += len(parsed)
        if "ds" in reading.schema.names:
            at = 1 + reading.schema.names.index("ds")
            tally.days.update(row[at] for row in parsed)
        yield _batch(reading, index, PARSED, parsed, None)
    if refused:
        yield _batch(reading, index, REFUSED, [row[:1] for row in refused], [row[1:] for row in refused])
    parsed.clear()
    refused.clear()


def _batch(
    reading: Reading,
    index: int,
    status: int,
    rows: list[tuple[Any, ...]],
    refusals: list[tuple[Any, ...]] | None,
) -> pa.RecordBatch:
    """A batch of `landed_schema` from (line, *values) and (reason, detail, raw, raw_sha256); nulls where not given."""
    n_rows, schema = len(rows), landed_schema(reading.schema)
    lines, *columns = zip(*rows, strict=True)
    types = [one.type for one in reading.schema]
    values = [
        pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)
    ] if columns else [pa.nulls(n_rows, kind) for kind in types]  # fmt: skip
    texts = zip(*refusals, strict=True) if refusals is not None else [[None] * n_rows] * 4
    arrays = [
        pa.array([index] * n_rows, pa.int32()),
        pa.array(lines, pa.int64()),
        pa.array([status] * n_rows, pa.int8()),
        *values,
        *(pa.array(list(text), pa.string()) for text in texts),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _kept(fields: Fields | RowFault, raw: bytes | Raw) -> tuple[str, str]:
    """What quarantine keeps of a line: at most 4 KiB of text, and the hash of all of it."""
    if not raw and isinstance(fields, dict):
        raw = row_text(fields)
    whole = raw if isinstance(raw, Raw) else raw_of(raw)
    # A byte that is not UTF-8 becomes a character of three bytes: cut again, at a whole character.
    text = whole.head.decode(errors="replace").encode()[:RAW_BYTES].decode(errors="ignore")
    return text, whole.sha256
