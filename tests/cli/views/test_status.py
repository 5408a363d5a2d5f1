"""What the operator sees, without Spark."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys_spark.cli.console import Console
from recsys_spark.cli.views import status
from recsys_spark.cli.views.status import show_status
from recsys_spark.config.schema import Config
from recsys_spark.ingest.accounting import BatchReport
from recsys_spark.ingest.batches import Batch, record_done, record_plans
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import AUDITS
from tests.finished_run import stage_and_audit
from tests.ledgers import commit, find_or_open_run


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


def test_show_status_has_the_newest_runs_and_the_newest_state_of_a_batch(
    root: Path,
    make_config: Callable[..., Config],
    console: Console,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "_LAST", 2)
    runs = [find_or_open_run(make_config(), date(2025, 1, day))[0].run_id for day in (1, 2, 3)]
    batch = Batch(7, "events", datetime.now(UTC), False, None, (), "{}")
    record_plans(root, [batch])
    record_done(root, batch, BatchReport(7, "events", False, ()))
    show_status(root, console)
    shown = capsys.readouterr().out
    assert [run_id in shown for run_id in runs] == [False, True, True]
    assert f"Steps of {runs[2]}" in shown
    assert re.search(r"7 +│ events +│ done ", shown)


def test_show_status_prints_a_gate_detail_that_looks_like_markup_as_it_is(
    root: Path, make_config: Callable[..., Config], console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    gate = {"run_id": run.run_id, "gate": "[cap]", "outcome": "failed", "bound": "[/b]", "detail": "item '[/red]'"}
    append_rows(root, AUDITS, [gate | {"figure": 0.5, "recorded_at": datetime.now(UTC)}])
    show_status(root, console)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[cap]", "[/b]", "item '[/red]'"))
