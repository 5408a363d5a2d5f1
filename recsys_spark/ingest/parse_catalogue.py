"""Parser of catalogue snapshots: a record becomes a row of the item or user catalogue, or a reason to refuse it.

Owns: the meaning of every column of the item and the user catalogue.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from recsys_spark.config.schema import Items, Users
from recsys_spark.ingest.records import Fields, RowFault
from recsys_spark.ingest.values import identifier, is_blank, number, shown, text_of, time_reader, to_us

# Books are older than computers; before the Gregorian calendar Spark and Arrow count days differently.
FIRST_CREATED_US = to_us(datetime(1600, 1, 1, tzinfo=UTC))
FIRST_VALID_US = 0
_LAST_US = to_us(datetime(2200, 1, 1, tzinfo=UTC))

Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class CatalogueSpec:
    """How snapshots of one catalogue are read.  `key` is item_id or user_id."""

    feed: Items | Users
    key: str

    @property
    def mapped(self) -> dict[str, str]:
        """Our column names by those of the snapshot."""
        return {name: ours for ours, name in self.feed.columns.model_dump().items()}


def catalogue_columns(key: str) -> tuple[str, ...]:
    """Columns of a parsed row, in order; `dated_by_file`: the row itself gave no valid_from."""
    fields = ("title", "category", "brand", "price", "length") if key == "item_id" else ()
    tags = ("tags",) if key == "item_id" else ()
    return (key, "valid_from", *fields, "created_at", *tags, "vectors", "attributes", "content_sha256", "dated_by_file")


def catalogue_parser(spec: CatalogueSpec, as_text: bool, default_us: int) -> Callable[[Fields, int], tuple[Any, ...]]:
    """A function from a record to the values of `catalogue_columns`; it raises RowFault.

    default_us: valid_from of rows that give none.  content_sha256 covers everything but valid_from.
    """
    columns = spec.feed.columns.model_dump()
    known = set(columns.values()) | set(spec.feed.vectors)
    read_time = time_reader(spec.feed.time_format, spec.feed.timezone)
    readers: dict[str, Reader] = {
        **{name: _text_reader(name) for name in ("title", "category", "brand")},
        **{name: _number_reader(name, as_text) for name in ("price", "length")},
        "created_at": _time_reader("created_at", read_time, FIRST_CREATED_US),
        "tags": _read_tags,
    }
    plain = [(columns[name], readers[name]) for name in catalogue_columns(spec.key) if name in readers]
    read_valid_from = _time_reader("valid_from", read_time, FIRST_VALID_US)
    vectors = tuple(spec.feed.vectors)

    def parse(fields: Fields, _: int) -> tuple[Any, ...]:
        row_id = identifier(fields.get(columns[spec.key]), spec.key)
        valid_from = read_valid_from(fields.get(columns["valid_from"]))
        values = [read(fields.get(name)) for name, read in plain]
        embedded = [(name, _read_vector(fields[name])) for name in vectors if fields.get(name) is not None]
        others = [
            (text_of(name, "attributes"), text_of(fields[name], "attributes"))
            for name in sorted(fields)
            if name not in known and fields[name] is not None
        ]
        content = sha256(ascii((values, embedded, others)).encode()).hexdigest()
        dated = valid_from is None
        return (
            row_id, default_us if dated else valid_from, *values, embedded or None, others or None, content, dated,
        )  # fmt: skip

    return parse


def _text_reader(column: str) -> Reader:
    return lambda value: None if is_blank(value) else text_of(value, column)


def _number_reader(column: str, as_text: bool) -> Reader:
    return lambda value: None if is_blank(value) else number(value, column, as_text)


def _time_reader(column: str, read_time: Callable[[Any], int], first_us: int) -> Reader:
    def read(value: Any) -> int | None:
        if is_blank(value):
            return None
        try:
            time_us = read_time(value)
        except ValueError as err:
            raise RowFault(f"bad_{column}", str(err)[:200]) from err
        if not first_us <= time_us < _LAST_US:
            raise RowFault(f"bad_{column}", f"expected a time of a plausible year, got {shown(value)}")
        return time_us

    return read


def _read_tags(value: Any) -> list[str] | None:
    """Tags of a list, or of text that is divided by | or by commas."""
    if is_blank(value):
        return None
    if type(value) is str:
        value = value.split("|" if "|" in value else ",")
    if not isinstance(value, list):
        raise RowFault("bad_tags", f"expected a list or a string, got {shown(value)}")
    tags = [text_of(tag, "tags").strip() for tag in value if not is_blank(tag)]
    return tags or None


def _read_vector(value: Any) -> list[float]:
    """Finite numbers of a list, or of text that holds a JSON list."""
    try:
        numbers = json.loads(value) if type(value) is str else value
        vector = [float(one) for one in numbers if type(one) is not bool]
    except (TypeError, ValueError, OverflowError, RecursionError) as err:
        raise RowFault("bad_vector", f"expected a list of numbers, got {shown(value)}") from err
    # Stored as float32: beyond its range a number becomes infinite.
    if not vector or len(vector) != len(numbers) or not all(math.isfinite(one) and abs(one) < 3e38 for one in vector):
        raise RowFault("bad_vector", f"expected finite numbers, got {len(vector)} of another kind")
    return vector
