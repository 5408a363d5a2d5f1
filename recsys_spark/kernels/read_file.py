"""A landed file as Arrow batches of parsed and refused rows, emitted only after the whole file was proven readable.

Owns: the two passes over a file and its accounting.  Called by the adapter inside a Spark task, and by tests without
one.  Memory is bounded by one batch, whatever the file.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from recsys_spark.errors import StoreFault
from recsys_spark.kernels.decode import (
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
from recsys_spark.kernels.held_lines import RAW_BYTES, Raw, n_lines_of, raw_of
from recsys_spark.kernels.records import (
    CsvReader,
    Fields,
    Record,
    RowFault,
    read_jsonl,
    read_rows,
    row_text,
    split_lines,
)
from recsys_spark.kernels.tally import NOT_MALFORMED, FileSummary, Tally
from recsys_spark.warehouse.location import Location

PARSED, REFUSED, SUMMARY = 0, 1, 2

_BATCH_ROWS = 20_000
# Rows are also handed on after this much text, so that long lines do not add up.
_BATCH_BYTES = 16 << 20

Parse = Callable[[Fields, int], tuple[Any, ...]]  # of a record and the number of its line


@dataclass(frozen=True)
class Reading:
    """How the files of a batch are read.

    schema: Arrow fields of what `make_parse(file, as_text)` returns for a record.  required: columns that the file must
    have; expected: columns that a longer file must have (a JSON line may leave out a null).  known: columns that the
    mapping names; None: every column is read.  first: column by which a CSV delimiter is recognised.  tells_rows: a
    line of prose is no row by chance, because a row must have a time, or a type.
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
    """Fields of an emitted batch: file, line and status, the parsed columns, then why a row was refused."""
    place = [("file_index", pa.int32()), ("line", pa.int64()), ("status", pa.int8())]
    refusal = [(name, pa.string()) for name in ("reason", "detail", "raw", "raw_sha256")]
    parsed = [one.with_nullable(True).remove_metadata() for one in schema]
    return pa.schema([*(pa.field(*one) for one in place), *parsed, *(pa.field(*one) for one in refusal)])


def read_file(planned: PlannedFile, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Batches of `landed_schema`; the last holds the file's FileSummary as JSON in `detail`.

    A file that changes while it is parsed is found by its hash afterwards: the summary then says `mutated`, and the
    rows that were emitted before are void.  So they are if the file fails in a way that no rule foresees: `unreadable`.
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
        # A full disk, a lost mount or store or too little memory says nothing of the file: the task is tried again.
        raise
    except Exception as err:
        summary = FileSummary(planned.index, "quarantined", "unreadable", _named(err))
    yield _batch(reading, planned.index, SUMMARY, [(0,)], [(None, summary.to_json(), None, None)])


def _parse_file(
    file: BinaryIO, planned: PlannedFile, layout: Layout, reading: Reading
) -> Generator[pa.RecordBatch, None, FileSummary]:
    tally = Tally(reading.known, reading.required, reading.expected)
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
    """The values of a record; raises RowFault, `unreadable` for what no rule of the parser foresees."""
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
    """Type and text of an error as short ASCII: it may quote bytes that no ledger holds."""
    return f"expected a value that can be read, got {type(err).__name__}: {str(err)[:200]!a}"


def _records(file: BinaryIO, layout: Layout, reading: Reading, tally: Tally, parse: Parse) -> Iterator[Record]:
    """Records of the file in any format; raises FileFault if a file with a header lacks a required column."""
    if layout.format == "parquet":
        names = parquet_columns(file)
        tally.take_header(names)
        wanted = None if reading.known is None else [name for name in names if name in reading.known]
        return read_rows(read_row_batches(file, wanted, reading.limits))
    lines = split_lines(read_pieces(file, layout, reading.limits), reading.limits.max_line_bytes)
    if layout.format == "jsonl":
        return read_jsonl(lines)
    reader = CsvReader(lines, reading.first, lambda fields: reading.tells_rows and _is_row(parse, fields))
    if reader.header:
        tally.take_header(reader.header)
    return reader.records()


def _is_row(parse: Parse, fields: Fields) -> bool:
    """Whether the fields are those of a row, be it one that is late or left out."""
    try:
        _parse_record(parse, fields, 0)
    except RowFault as fault:
        return fault.reason in NOT_MALFORMED
    return True


def _flush(
    reading: Reading, index: int, parsed: list[tuple[Any, ...]], refused: list[tuple[Any, ...]], tally: Tally
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
    # A byte that is not UTF-8 becomes a sign of three bytes: cut again, at a whole letter.
    text = whole.head.decode(errors="replace").encode()[:RAW_BYTES].decode(errors="ignore")
    return text, whole.sha256
