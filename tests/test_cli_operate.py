"""The operator's commands: arguments in, exit code and words out; no Spark is started."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from recsys_spark import cli, doctor
from recsys_spark.config import Config
from recsys_spark.tables.arrow import arrow_schema
from recsys_spark.tables.catalog import EVENTS
from recsys_spark.tables.ledger import table_path
from tests.finished_run import stage_and_audit


def one_event(root: Path, day: date) -> None:
    schema = arrow_schema(EVENTS)
    blank = {field.name: "" if pa.types.is_string(field.type) else 1 for field in schema if not field.nullable}
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    event = {"event_key": str(day), "item_id": "i", "event_type": "t", "event_time": noon, "ds": day}
    write_deltalake(table_path(root, "events"), pa.Table.from_pylist([blank | event], schema=schema), mode="append")


def ask(root: Path, *arguments: str) -> int:
    return cli.main([*arguments, "--set", f"storage.root={root}"])


def test_ready_says_by_its_exit_code_whether_there_are_events(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(root, "ready", "--date", "2025-01-02") == 3
    assert "there are none at all" in capsys.readouterr().err
    one_event(root, date(2025, 1, 1))
    assert ask(root, "ready", "--date", "2025-01-02") == 0
    assert ask(root, "ready", "--date", "2025-01-03") == 3
    assert "the last are of 2025-01-01" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("ready", "--date", "2025-01-02"), ("explain", "20250131-001-9f2c81aa")])
def test_what_looks_at_a_warehouse_refuses_a_folder_that_is_none(
    tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tmp_path / "none", *arguments) == 2
    assert "expected a warehouse, got none" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "--from", "2025-01-01"),
        ("backfill", "--from", "2025-01-01", "--to", "2025-02-30"),
        ("backfill", "--from", "yesterday", "--to", "2025-01-01"),
        ("ready",),
        ("explain",),
        ("explain", "../x"),
    ],
)
def test_wrong_arguments_end_with_2(root: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(root, *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_explain_shows_a_run(
    root: Path, make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    assert ask(root, "explain", run.run_id) == 0
    assert run.run_id in capsys.readouterr().out


def test_doctor_ends_with_2_if_anything_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [doctor.Finding("Java", "17"), doctor.Finding("clock", "1970", "set the clock")]
    monkeypatch.setattr(doctor, "examine", lambda _: found)
    assert ask(root, "doctor") == 2
    said = capsys.readouterr()
    assert "set the clock" in said.out
    assert "got faults of clock" in said.err
    monkeypatch.setattr(doctor, "examine", lambda _: found[:1])
    assert ask(root, "doctor") == 0
