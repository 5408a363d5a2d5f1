"""Files are spread over tasks and read once each; of equal events the first by file and line is kept."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.spark_read import (
    count_first,
    files_frame,
    first_events,
    read_landed,
    refused_rows,
    spread_files,
)
from recsys_spark.warehouse.tables import EVENTS
from tests.event_files import event, event_reading, jsonl, planned, write_file


@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(1, 9))
def test_spread_files_puts_every_file_into_one_balanced_group(sizes: list[int], n_groups: int) -> None:
    files = [PlannedFile(index, f"{index}", "0" * 64, n_bytes) for index, n_bytes in enumerate(sizes)]
    groups = spread_files(files, n_groups)
    assert sorted(one.index for group in groups for one in group) == list(range(len(files)))
    assert 1 <= len(groups) <= n_groups
    if files:
        assert all(groups)
        # Longest first to the lightest: no group exceeds the mean by more than one file.
        loads = [sum(one.n_bytes + (32 << 10) for one in group) for group in groups]
        assert max(loads) <= sum(loads) / len(loads) + max(sizes) + (32 << 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: the second repeats lines of the first, the third cannot be read."""
    folder = tmp_path_factory.mktemp("landing")
    write_file(folder / "a.jsonl", jsonl([event(1), event(2), event(1), event(3, user_id=None), b"bad"]))
    write_file(folder / "b.jsonl.gz", jsonl([event(2), event(3, user_id=None), event(4), event(5)]))
    write_file(folder / "c.parquet", b"PAR1")
    return folder


def test_read_landed_parses_each_file_once_and_keeps_the_first_of_equal_events(
    spark: SparkSession, folder: Path
) -> None:
    files = [planned(path, index) for index, path in enumerate(sorted(folder.iterdir()))]
    landed = read_landed(spark, files, event_reading(folder), EVENTS)
    assert [(one.index, one.state, one.lines_in) for one in landed.summaries] == [
        (0, "read", 5), (1, "read", 4), (2, "quarantined", 0),
    ]  # fmt: skip
    assert landed.n_parsed == 8

    frame = files_frame(spark, files)
    stored = first_events(landed, None, frame)
    assert count_first(landed, None) == {0: (2, 1, 1), 1: (2, 0, 2)}
    kept = {(row.file_sha256, row.line) for row in stored.collect()}
    assert kept == {(files[0].sha256, line) for line in (1, 2, 4)} | {(files[1].sha256, line) for line in (3, 4)}
    assert set(stored.columns) == set(EVENTS.names) - {"batch_seq"}

    known = stored.where(stored.item_id.isin("i1", "i5")).select("event_key", "ds")
    assert count_first(landed, known) == {0: (1, 1, 2), 1: (1, 0, 3)}
    assert sorted(row.item_id for row in first_events(landed, known, frame).collect()) == ["i2", "i3", "i4"]

    aside = {(row.path, row.line): row.reason for row in refused_rows(landed, frame).collect()}
    assert aside == {("a.jsonl", 5): "bad_json", ("c.parquet", None): "corrupt"}
    landed.release()
