"""Arguments in, exit code out: usage, settings, days, and the words of a refusal."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recsys_spark.cli import main
from recsys_spark.errors import ArgumentError, GateRefused, LockedError, RecsysError
from recsys_spark.plan import PLAN


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def words_of(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bogus"],
        ["bogus"],
        ["run", "--bogus"],
        ["step"],
        ["lookup"],
        ["rollback"],
        ["lookup", "u", "-n", "0"],
        ["init"],
    ],
)
def test_main_ends_with_2_and_one_line_when_the_usage_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == 2
    text = words_of(capsys)
    assert text.count("\n") == 1
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["init", "--help"]])
def test_main_ends_with_0_when_help_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(arguments) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(("fault", "code"), [(ArgumentError, 2), (GateRefused, 3), (LockedError, 4), (RecsysError, 1)])
def test_main_ends_with_the_code_of_the_fault(
    fault: type[RecsysError], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise fault("here: expected this, got that; do so")

    monkeypatch.setattr("recsys_spark.cli.views.status.show_status", refuse)
    assert main.main(["status"]) == code
    assert words_of(capsys) == "here: expected this, got that; do so\n"


def test_main_keeps_the_traceback_of_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("recsys_spark.cli.views.status.show_status", crash)
    with pytest.raises(ZeroDivisionError):
        main.main(["status"])


def test_main_finds_recsys_toml_in_the_working_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recsys.toml").write_text("[candidates]\nk = 0\n")
    assert main.main(["status"]) == 2
    assert words_of(capsys).startswith("recsys.toml [candidates] k: expected ")


def test_main_takes_the_named_file_instead_of_recsys_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recsys.toml").write_text("[candidates]\nk = 0\n")
    (tmp_path / "other.toml").write_text("[run]\nseed = -1\n")
    assert main.main(["status", "--config", "other.toml"]) == 2
    assert words_of(capsys).startswith("other.toml [run] seed: expected ")


def test_main_names_the_steps_when_there_is_no_such_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["step", "bake"]) == 2
    text = words_of(capsys)
    assert "got 'bake'" in text
    assert all(step.name in text for step in PLAN)


def test_console_script_is_main() -> None:
    script = Path(sys.executable).parent / "recsys-spark"
    ended = subprocess.run([script, "status", "--set", "nonsense"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("--set: expected section.key=value, got 'nonsense'")


@pytest.mark.parametrize(
    ("command", "batches"),
    [
        (["run"], ["items 1", "events 2"]),
        (["ingest"], ["items 1", "events 2"]),
        (["step", "catalog"], ["items 1"]),
        (["step", "ingest"], ["events 2"]),
    ],
)
@pytest.mark.parametrize("json_logs", [True, False])
def test_every_command_that_takes_in_shows_each_batch(
    command: list[str],
    batches: list[str],
    json_logs: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = SimpleNamespace(lines=list, warnings=[], notes=[], run_id="r", data_date="2025-01-31", outcome="open")

    def take_in(name: str, options: dict[str, Any]) -> SimpleNamespace:
        options["progress"](name, "start", {})
        options["progress"](name, "done", {"rows:n_new": 3.0})
        return report

    monkeypatch.setattr(main, "writing", lambda *_: nullcontext())
    monkeypatch.setattr("recsys_spark.cli.console._log_as_json", lambda: None)
    monkeypatch.setattr(
        "recsys_spark.ingest.step_ingest.ingest_catalogue", lambda *_, **given: take_in("items 1", given)
    )
    monkeypatch.setattr("recsys_spark.ingest.step_ingest.ingest", lambda *_, **given: take_in("events 2", given))
    monkeypatch.setattr("recsys_spark.pipeline.runner.run_day", lambda *_: report)
    assert main.main([*command, *(["--json-logs"] if json_logs else [])]) == 0
    said = capsys.readouterr().out
    if not json_logs:
        assert all(f"{name} " in said for name in batches)
        return
    steps = [line for line in map(json.loads, said.splitlines()) if line["event"].startswith("step ")]
    told = [(line["event"], line["step"]) for line in steps]
    assert told == [(f"step {phase}", name) for name in batches for phase in ("start", "done")]
    assert all(line["rows:n_new"] == 3.0 for line in steps if line["event"] == "step done")


def test_a_package_that_the_install_lacks_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_demo(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark.sql")

    monkeypatch.setattr("recsys_spark.cli.demo.story.run_demo", run_demo)
    assert main.main(["demo"]) == 2
    assert "run `pip install 'recsys-spark[spark]'`" in capsys.readouterr().err
    monkeypatch.setattr("recsys_spark.cli.demo.story.run_demo", lambda *_: __import__("no_such_module"))
    with pytest.raises(ModuleNotFoundError):
        main.main(["demo"])
