"""Ledgers: created once with their rules, appended in one commit, read back as they were written."""

import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import EnvironmentFault, LockedError
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows, create_tables, gates_of, read_rows
from recsys_spark.warehouse.run_files import last_version
from recsys_spark.warehouse.tables import AUDITS, RUNS, TABLES


def _run(number: int) -> dict[str, object]:
    return {
        "run_id": f"20250131-{number:03d}-9f2c81aa",
        "data_date": date(2025, 1, 31),
        "state": "open",
        "fingerprint": "f",
        "config_hash": "c",
        "code_version": "v",
        "pins": {"events": 3, "items": 0},
        "base_run_id": None,
        "seed": 5,
        "recorded_at": datetime(2025, 1, 31, 1, 2, 3, 456789, tzinfo=UTC),
    }


def test_read_rows_returns_what_was_appended(root: Path) -> None:
    append_rows(root, RUNS, [_run(1)])
    append_rows(root, RUNS, [_run(2), _run(3)])
    rows = sorted(read_rows(root, RUNS), key=lambda row: row["run_id"])
    assert rows == [_run(1), _run(2), _run(3)]


def test_read_rows_is_empty_where_nothing_was_created(tmp_path: Path) -> None:
    assert read_rows(tmp_path, RUNS) == []


@pytest.mark.parametrize("days", [(2, 3), (3, 2)])
def test_gates_of_gives_the_newest_verdict_in_whatever_order_they_are_stored(root: Path, days: tuple[int, int]) -> None:
    verdict = {"run_id": "20250102-001-0123abcd", "gate": "volume", "figure": 1.0, "bound": "<= 2", "detail": ""}
    for day in days:
        row = verdict | {"outcome": {2: "failed", 3: "passed"}[day], "recorded_at": datetime(2025, 1, day, tzinfo=UTC)}
        append_rows(root, AUDITS, [row])
    append_rows(root, AUDITS, [verdict | {"run_id": "another", "outcome": "failed", "recorded_at": datetime.now(UTC)}])
    assert {name: row["outcome"] for name, row in gates_of(root, verdict["run_id"]).items()} == {"volume": "passed"}


def test_create_tables_changes_nothing_the_second_time(root: Path) -> None:
    before = {name: last_version(root, name) for name in TABLES}
    create_tables(root, TABLES.values())
    assert {name: last_version(root, name) for name in TABLES} == before


def test_create_tables_adds_the_checks_that_a_kill_left_out(root: Path) -> None:
    for path in sorted(Path(table_path(root, "runs"), "_delta_log").glob("*.json"))[1:]:
        path.unlink()
    create_tables(root, [RUNS])
    stored = DeltaTable(table_path(root, "runs")).metadata().configuration
    assert stored["delta.constraints.state_valid"].startswith("state IN")


def test_create_tables_refuses_a_table_of_another_version(tmp_path: Path) -> None:
    older = replace(RUNS, columns=tuple(column for column in RUNS.columns if column.name not in ("seed", "pins")))
    create_tables(tmp_path, [older])
    before = last_version(tmp_path, "runs")
    with pytest.raises(EnvironmentFault, match="expected the columns of this version, found none called pins, seed;"):
        create_tables(tmp_path, [RUNS])
    assert last_version(tmp_path, "runs") == before


def test_append_rows_refuses_what_breaks_a_check(root: Path) -> None:
    with pytest.raises(Exception, match="failed validation check"):
        append_rows(root, RUNS, [_run(1) | {"state": "lost"}])
    assert read_rows(root, RUNS) == []


def test_append_rows_at_a_version_refuses_when_another_writer_was_first(root: Path) -> None:
    version = last_version(root, "runs")
    append_rows(root, RUNS, [_run(1)])
    with pytest.raises(LockedError, match="runs: expected to commit on version"):
        append_rows(root, RUNS, [_run(2)], at_version=version)
    assert [row["run_id"] for row in read_rows(root, RUNS)] == [_run(1)["run_id"]]


def test_append_rows_at_a_version_is_won_by_exactly_one_of_many(root: Path) -> None:
    version = last_version(root, "runs")
    barrier, won = threading.Barrier(8), []

    def write(number: int) -> None:
        barrier.wait()
        try:
            append_rows(root, RUNS, [_run(number)], at_version=version)
            won.append(number)
        except LockedError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [row["run_id"] for row in read_rows(root, RUNS)] == [_run(won[0])["run_id"]]


def test_create_tables_names_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EnvironmentFault, match=r"\[storage\] root: expected a folder that can be written"):
        create_tables(tmp_path / "file", [RUNS])
