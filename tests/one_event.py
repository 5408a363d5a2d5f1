"""A day with one event, in the table `events`, without Spark."""

from datetime import UTC, date, datetime, time
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.tables import EVENTS


def append_event(root: Path, day: date) -> None:
    """One event at noon; what a table wants besides is nothing in particular."""
    schema = arrow_schema(EVENTS)
    blank = {field.name: "" if pa.types.is_string(field.type) else 1 for field in schema if not field.nullable}
    noon = datetime.combine(day, time(12), UTC)
    event = {"event_key": str(day), "item_id": "i", "event_type": "t", "event_time": noon, "ds": day}
    write_deltalake(table_path(root, "events"), pa.Table.from_pylist([blank | event], schema=schema), mode="append")
