"""Log files of the demo: the invoice lines of Online Retail II, written as a shop would export its logs and catalogue.

Owns: what an event and a catalogue row of the demo look like.  Files are the same bytes every time, so their content
hashes are stable.  The data's licence is beside the data.
"""

import gzip
import json
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.ingest.values import midnight

# Level 1 writes the whole log in seconds; level 6 takes four times as long for files that are a fifth smaller.
GZIP_LEVEL = 1


@dataclass(frozen=True)
class Counts:
    """What was written: files, and lines in them."""

    n_files: int
    n_lines: int


def read_lines(columns: list[str] | None = None) -> pa.Table:
    """Invoice lines of merchandise, purchases and returns, in the order of time; all columns of the file by default."""
    shipped = files("recsys_spark.cli.demo") / "data" / "online_retail_ii" / "transactions.parquet"
    with as_file(shipped) as path:
        wanted = (pc.field("line_type").isin(["purchase", "return"])) & pc.field("is_merchandise")
        return pq.read_table(path, columns=columns, filters=wanted)


def read_purchases() -> pa.Table:
    """What customers bought: user_id, item_id (string) and event_time (timestamp[ms], UTC), in the order of time."""
    lines = read_lines(["user_id", "item_id", "invoice_time", "line_type"])
    bought = lines.filter((pc.field("line_type") == "purchase") & pc.field("user_id").is_valid())
    return bought.select(["user_id", "item_id", "invoice_time"]).rename_columns(["user_id", "item_id", "event_time"])


def write_events(landing: Path, first_day: date, last_day_exclusive: date) -> Counts:
    """Files and events that were written under `landing`/events, one gzip JSONL file per day that had any line.

    A return is an event of its own.  A line without a customer has no `user_id`.  `value` is the number of pieces.
    """
    lines = read_lines(["invoice", "item_id", "quantity", "invoice_time", "user_id", "line_type"])
    days = lines["invoice_time"].to_numpy().astype("datetime64[D]")  # (n_lines,), ascending
    bounds = np.searchsorted(days, np.array([first_day, last_day_exclusive], dtype="datetime64[D]"))
    lines, days = lines.slice(bounds[0], bounds[1] - bounds[0]), days[bounds[0] : bounds[1]]
    text = _json_lines(
        {
            "user_id": lines["user_id"],
            "item_id": lines["item_id"],
            "event_type": lines["line_type"],
            "event_time": lines["invoice_time"],
            "value": pc.abs(lines["quantity"]),
            "session_id": lines["invoice"],
        }
    )
    folder = landing / "events"
    folder.mkdir(parents=True, exist_ok=True)
    dates, starts = np.unique(days, return_index=True)
    edges = [*starts, len(days)]
    for day, start, end in zip(dates, edges[:-1], edges[1:], strict=True):
        _write_gzip(folder / f"events-{day}.jsonl.gz", text.slice(start, end - start))
    return Counts(len(dates), len(days))


def write_catalogue(landing: Path, day: date) -> Counts:
    """Files and rows that were written under `landing`/items/`day` and `landing`/users/`day`.

    Only lines before `day` count, so nothing in a snapshot was unknown when it is dated: title and country as they last
    stood, the median price so far, the first sale as the time of creation.
    """
    lines = read_lines(["item_id", "description", "unit_price", "invoice_time", "user_id", "country", "line_type"])
    as_of = pa.scalar(midnight(day), type=lines["invoice_time"].type)
    past = lines.filter(pc.less(lines["invoice_time"], as_of)).to_pandas()
    sold = past[(past["line_type"] == "purchase") & (past["unit_price"] > 0)]
    items = sold.groupby("item_id", as_index=False).agg(
        title=("description", "last"), price=("unit_price", "median"), created_at=("invoice_time", "min")
    )
    users = past.groupby("user_id", as_index=False).agg(country=("country", "last"))
    for name, rows in (("items", items), ("users", users)):
        folder = landing / name / day.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        columns = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
        text = _json_lines({column: columns[column] for column in columns.column_names})
        _write_gzip(folder / f"{name}.jsonl.gz", text)
    return Counts(2, len(items) + len(users))


def _json_lines(fields: dict[str, pa.ChunkedArray]) -> pa.StringArray:
    """One JSON object with a line feed per row; a null field is left out.

    A value is rendered once however often it occurs: a million lines take a second instead of ten.
    """
    parts = []
    for name, column in fields.items():
        codes = column.combine_chunks().dictionary_encode()
        rendered = [f'"{name}": {json.dumps(_plain(value))}' for value in codes.dictionary.to_pylist()]
        parts.append(pa.array(rendered, pa.string()).take(codes.indices))
    body = pc.binary_join_element_wise(*parts, ", ", null_handling="skip")
    return pc.binary_join_element_wise("{", body, "}\n", "")


def _plain(value: object) -> object:
    """The value as JSON can hold it: a time as ISO 8601 in UTC."""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value


def _write_gzip(path: Path, text: pa.StringArray) -> None:
    """Write the strings end to end; the time in the gzip header is zero, so equal text gives equal bytes."""
    path.write_bytes(gzip.compress("".join(text.to_pylist()).encode(), compresslevel=GZIP_LEVEL, mtime=0))
