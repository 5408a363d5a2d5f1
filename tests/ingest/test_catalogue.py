"""Snapshots are dated by their paths; how they are stored is tested with the whole ingest, in test_step_ingest."""

from datetime import UTC, datetime

import pytest

from recsys_spark.ingest.catalogue import date_of_path


def _at(day: int) -> datetime:
    return datetime(2025, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "day"),
    [
        ("2025-01-05/items.jsonl", 5),
        ("date=2025-01-06/part-0.parquet", 6),
        ("items-2025-01-07T0300.csv", 7),
        ("2025-13-01/2025-01-08.csv", 8),
        ("items.csv", None),
        ("12025-01-05.csv", None),
    ],
)
def test_date_of_path_reads_the_first_date(path: str, day: int | None) -> None:
    assert date_of_path(path) == (_at(day) if day else None)
