"""What the operator sees, without Spark."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys_spark.config import Config
from recsys_spark.console import Console
from recsys_spark.publish import commit
from recsys_spark.status import show_status
from recsys_spark.tables.catalog import AUDITS
from recsys_spark.tables.ledger import append_rows
from tests.finished_run import stage_and_audit


@pytest.fixture
def console() -> Console:
    console = Console(json_logs=False)
    console.rich.width = 200
    return console


def test_show_status_of_an_empty_warehouse_says_what_to_do(
    tmp_path: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    show_status(tmp_path, console)
    assert "nothing is published" in capsys.readouterr().out


def test_show_status_names_the_current_run_and_its_steps(
    root: Path, make_config: Callable[..., Config], console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    commit(make_config(), run, audited_on=0)
    show_status(root, console)
    shown = capsys.readouterr().out
    assert f"current: {run.run_id} as of 2025-01-31" in shown
    assert "candidates 1" in shown


def test_show_status_prints_a_gate_detail_that_looks_like_markup_as_it_is(
    root: Path, make_config: Callable[..., Config], console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    gate = {"run_id": run.run_id, "gate": "[cap]", "outcome": "failed", "bound": "[/b]", "detail": "item '[/red]'"}
    append_rows(root, AUDITS, [gate | {"figure": 0.5, "recorded_at": datetime.now(UTC)}])
    show_status(root, console)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[cap]", "[/b]", "item '[/red]'"))
