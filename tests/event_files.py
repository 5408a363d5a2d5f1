"""Log files written for a test, and read by the kernel alone as a Spark task would read them."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Events
from recsys_spark.ingest.decode import Limits, PlannedFile
from recsys_spark.ingest.parse_event import EVENT_COLUMNS, EventSpec, event_parser
from recsys_spark.ingest.read_file import PARSED, REFUSED, SUMMARY, FileSummary, Reading, read_file
from recsys_spark.ingest.values import to_us
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.tables import EVENTS

RECEIVED_AT = datetime(2025, 2, 1, 6, tzinfo=UTC)
LIMITS = Limits(max_file_bytes=1 << 30, max_decompressed_bytes=1 << 31, max_expansion=200, max_line_bytes=1 << 20)
TYPES = 'events.types={buy={raw=["buy","bought"]},return={weight=-1.0}}'


def event(number: int, **fields: Any) -> dict[str, Any]:
    """An event of its own; `fields` replace its fields, and those given as ... are left out."""
    plain = {
        "user_id": f"u{number % 7}",
        "item_id": f"i{number}",
        "event_type": "buy",
        "event_time": f"2025-01-{1 + number % 28:02d}T{number % 24:02d}:00:00Z",
        "value": 1 + number % 3,
    }
    return {name: value for name, value in (plain | fields).items() if value is not ...}


def jsonl(events: Iterable[Any]) -> bytes:
    """JSON lines; an element that is bytes is a line as it stands."""
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in events)


def zstd(data: bytes) -> bytes:
    """A zstd frame, as the command line tool writes it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def write_file(path: Path, data: bytes) -> Path:
    """Writes `data`, compressed as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstd(data)
    path.write_bytes(data)
    return path


@cache
def events_section(*sets: str) -> Events:
    """The section [events] with `sets` laid over it."""
    return load_config(sets=(TYPES, *sets)).events


def event_reading(folder: Path, *sets: str, limits: Limits = LIMITS, earliest: datetime | None = None) -> Reading:
    """How the kernel reads event files of `folder`."""
    events, schema = events_section(*sets), arrow_schema(EVENTS)
    spec = EventSpec(events, to_us(RECEIVED_AT), to_us(earliest) if earliest else None)
    columns = events.columns
    return Reading(
        folder,
        events.format,
        limits,
        pa.schema([schema.field(name) for name in EVENT_COLUMNS]),
        lambda planned, as_text: event_parser(spec, as_text),
        frozenset({columns.item_id, columns.event_type, *((columns.event_time,) if events.is_timed else ())}),
        frozenset({columns.user_id}),
        frozenset({*columns.model_dump().values(), *events.attributes}),
        columns.item_id,
        events.is_timed or not events.default_type,
    )


def planned(path: Path, index: int = 0) -> PlannedFile:
    """The plan of a file that is alone in its folder."""
    data = path.read_bytes()
    return PlannedFile(index, path.name, sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Read:
    """What the kernel made of a file."""

    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    summary: FileSummary

    @property
    def reasons(self) -> list[str]:
        """Reasons of the refused lines, in the order of lines."""
        return [row["reason"] for row in self.refused]


def read_through(path: Path, reading: Reading, plan: PlannedFile | None = None) -> Read:
    """Reads one file with the kernel."""
    rows = pa.Table.from_batches(list(read_file(plan or planned(path), reading))).to_pylist()
    summary = FileSummary.from_json(next(row["detail"] for row in rows if row["status"] == SUMMARY))
    return Read(
        [row for row in rows if row["status"] == PARSED], [row for row in rows if row["status"] == REFUSED], summary
    )
