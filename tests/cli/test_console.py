"""The two voices of a command: lines and tables for people, JSON lines for machines."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace

import pytest

from recsys_spark.cli.console import Console


def test_console_warning_keeps_what_looks_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json_logs=False).warn("conf/base.toml [events] timezone: [red]")
    assert "[events] timezone: [red]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[/foo]", "length [cm]", "[red]", ":cat:"])
def test_console_says_a_column_name_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console(json_logs=False).ingested(SimpleNamespace(lines=lambda: [f"not read: {name}"], warnings=[name]))
    assert capsys.readouterr().out == f"not read: {name}\nwarning {name}\n"


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """The product's logger as it was; other tests listen to it."""
    logger = logging.getLogger("recsys_spark")
    kept = (logger.handlers, logger.level, logger.propagate)
    yield
    logger.handlers, logger.level, logger.propagate = kept


@pytest.mark.usefixtures("_own_logging")
def test_console_says_json_lines_to_machines(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json_logs=True)
    console.say("done", rows=3)
    console.warn("odd")
    with console.progress("run") as observe:
        observe("index", "end", {"rows:user_index": 2.0})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["done", "warning", "step end"]
    assert (lines[0]["rows"], lines[1]["warning"], lines[2]["rows:user_index"]) == (3, "odd", 2.0)
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)


def test_console_shows_how_far_a_step_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json_logs=False)
    with console.progress("run") as observe:
        observe("index", "start", {})
        observe("index", "progress", {"done": 1.0, "of": 4.0, "loss": 0.5})
    assert "25%  loss 0.5" in capsys.readouterr().out
