"""The head is the newest whole row or an error; and asking whether it moved costs two looks at single files."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import DamagedError
from recsys_spark.warehouse.current_publish import has_moved, read_head
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows, create_tables, read_rows
from recsys_spark.warehouse.publish_row import seal_row
from recsys_spark.warehouse.tables import PUBLISHES
from tests.made_warehouse import RUN_A, RUN_B, append_publish, log_file


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Three publishes: A, B, A again."""
    create_tables(tmp_path, [PUBLISHES])
    for run, kind in ((RUN_A, "publish"), (RUN_B, "publish"), (RUN_A, "rollback")):
        append_publish(tmp_path, run, {"candidates": 1}, kind)
    return tmp_path


def _data_files(root: Path) -> list[Path]:
    return sorted(Path(table_path(root, "publishes")).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)


def test_read_head_is_none_before_the_first_publish(tmp_path: Path) -> None:
    create_tables(tmp_path, [PUBLISHES])
    assert read_head(tmp_path)[0] is None


def test_read_head_gives_the_row_of_the_highest_publish_seq(warehouse: Path) -> None:
    head, version = read_head(warehouse)
    assert head is not None
    assert (head.publish_seq, head.kind, head.run_id) == (3, "rollback", RUN_A)
    assert version == DeltaTable(table_path(warehouse, "publishes")).version()


def test_read_head_reads_no_file_but_that_of_the_head(warehouse: Path) -> None:
    for path in _data_files(warehouse)[:-1]:
        path.unlink()
    head, _ = read_head(warehouse)
    assert head is not None
    assert head.publish_seq == 3


def test_read_head_reads_a_compacted_table(warehouse: Path) -> None:
    DeltaTable(table_path(warehouse, "publishes")).optimize.compact()
    head, _ = read_head(warehouse)
    assert head is not None
    assert head.publish_seq == 3


@pytest.mark.parametrize("lost", [1, 2])
def test_read_head_refuses_a_history_with_a_gap(warehouse: Path, lost: int) -> None:
    DeltaTable(table_path(warehouse, "publishes")).delete(f"publish_seq = {lost}")
    with pytest.raises(DamagedError, match=f"expected publish_seq {lost}, got {lost + 1}"):
        read_head(warehouse)


def test_read_head_refuses_a_publish_seq_that_is_there_twice(warehouse: Path) -> None:
    append_rows(warehouse, PUBLISHES, [max(read_rows(warehouse, PUBLISHES), key=lambda row: row["publish_seq"])])
    with pytest.raises(DamagedError, match="lost or twice"):
        read_head(warehouse)


def test_read_head_refuses_two_rows_of_one_number_in_one_file(warehouse: Path) -> None:
    fields = max(read_rows(warehouse, PUBLISHES), key=lambda row: row["publish_seq"])
    del fields["row_sha256"]
    append_rows(warehouse, PUBLISHES, [seal_row(fields | {"publish_seq": 4, "prev_seq": 3})] * 2)
    with pytest.raises(DamagedError, match="lost or twice"):
        read_head(warehouse)


def test_read_head_refuses_a_row_that_was_changed(warehouse: Path) -> None:
    row = max(read_rows(warehouse, PUBLISHES), key=lambda row: row["publish_seq"])
    append_rows(warehouse, PUBLISHES, [row | {"publish_seq": 4}])
    with pytest.raises(DamagedError, match="publish_seq=4: expected row_sha256"):
        read_head(warehouse)


@pytest.mark.parametrize(
    ("good", "bad"),
    [('{"add":', '{"adc":'), ("}\n{", "}x{"), ('"numRecords', "\xff"), ('"publish_seq', '"publish_sep')],
    ids=["an action no reader knows", "two lines in one", "not UTF-8", "statistics of a column that is not there"],
)
def test_read_head_never_steps_back_to_an_older_row_when_the_newest_commit_is_damaged(
    warehouse: Path, good: str, bad: str
) -> None:
    commit = log_file(warehouse, "publishes")
    assert good in commit.read_text()
    commit.write_bytes(commit.read_text().replace(good, bad).encode("latin-1"))
    try:
        head, _ = read_head(warehouse)
    except DamagedError:
        return
    assert head is not None
    assert head.publish_seq == 3


def test_read_head_refuses_an_empty_newest_commit(warehouse: Path) -> None:
    log_file(warehouse, "publishes").write_bytes(b"")
    with pytest.raises(DamagedError, match="publishes"):
        read_head(warehouse)


def test_read_head_refuses_a_write_that_lost_its_file_action(warehouse: Path) -> None:
    commit = log_file(warehouse, "publishes")
    commit.write_text("".join(line for line in commit.read_text().splitlines(True) if '"add"' not in line))
    with pytest.raises(DamagedError, match="expected a whole commit"):
        read_head(warehouse)


def test_has_moved_says_whether_there_is_a_newer_commit(warehouse: Path) -> None:
    _, version = read_head(warehouse)
    assert not has_moved(warehouse, version)
    append_publish(warehouse, RUN_B, {"candidates": 1})
    assert has_moved(warehouse, version)


def test_has_moved_sees_commits_that_were_cleaned_up_after_a_checkpoint(warehouse: Path) -> None:
    _, version = read_head(warehouse)
    for _ in range(2):
        append_publish(warehouse, RUN_B, {"candidates": 1})
    DeltaTable(table_path(warehouse, "publishes")).create_checkpoint()
    (Path(table_path(warehouse, "publishes")) / "_delta_log" / f"{version + 1:020d}.json").unlink()
    assert has_moved(warehouse, version)
    head, newest = read_head(warehouse)
    assert head is not None
    assert head.publish_seq == 5
    assert not has_moved(warehouse, newest)


def test_has_moved_when_the_table_is_gone(tmp_path: Path) -> None:
    assert has_moved(tmp_path, 3)
