"""The operator's commands: arguments in, exit code and words out; no Spark is started."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from recsys_spark.cli import main
from recsys_spark.config.schema import Config
from recsys_spark.operations import doctor
from tests.finished_run import stage_and_audit
from tests.one_event import append_event


def ask(root: Path, *arguments: str) -> int:
    return main.main([*arguments, "--set", f"storage.root={root}"])


def test_ready_says_by_its_exit_code_whether_there_are_events(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(root, "ready", "--date", "2025-01-02") == 3
    assert "there are none at all" in capsys.readouterr().err
    append_event(root, date(2025, 1, 1))
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
