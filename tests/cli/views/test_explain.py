"""What a run was made of, as its ledgers have it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys_spark.cli.console import Console
from recsys_spark.cli.views.explain import show_run
from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import INGEST_BATCHES, INGEST_FILES
from tests.finished_run import stage_and_audit
from tests.ledgers import commit


def let_in(root: Path, sequence: int, day: int, path: str, recorded_at: datetime | None = None) -> None:
    """A batch of one file whose first event is on a day of January; recorded_at: when it was done, by default then."""
    first = datetime(2025, 1, day, 12, tzinfo=UTC)
    batch = {"batch_seq": sequence, "kind": "events", "state": "done", "received_at": first, "history": False}
    batch |= {"watermark": None, "files": [], "mapping": "{}", "min_event_time": first, "max_event_time": first}
    append_rows(
        root, INGEST_BATCHES, [batch | {"affected_dates": [], "detail": None, "recorded_at": recorded_at or first}]
    )
    file = dict.fromkeys(("n_anonymous", "n_duplicate", "n_quarantined", "n_malformed", "bytes", "mtime_ns"), 0)
    file |= {"batch_seq": sequence, "kind": "events", "path": path, "sha256": "", "state": "ingested", "reason": None}
    append_rows(root, INGEST_FILES, [file | {"mapping_hash": "", "lines_in": 7, "n_new": 7, "unknown_columns": {}}])


def test_show_run_says_what_went_in_and_what_became_of_it(
    root: Path, make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    let_in(root, 1, 5, "in.jsonl")
    let_in(root, 2, 31, "[red]later.jsonl")
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    commit(make_config(), run, audited_on=0)
    let_in(root, 3, 6, "missed.jsonl", recorded_at=datetime.now(UTC))
    console = Console(json_logs=False)
    console.rich.width = 200
    show_run(root, run.run_id, console)
    shown = capsys.readouterr().out
    for text in (
        "2025-01-31 (events before it",
        "publish 1 at",
        run.code_version,
        "read at version",
        "in.jsonl",
        "candidates 1",
        "Nothing was chosen; none tried",
    ):
        assert text in shown, text
    assert "later" not in shown, "it came after the run's date"
    assert "missed" not in shown, "it came after the run was opened"


def test_show_run_refuses_a_run_that_is_not_there_and_names_some(
    root: Path, make_config: Callable[..., Config]
) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    with pytest.raises(ArgumentError, match=rf"expected a run of .*, got none of that name; the last are {run.run_id}"):
        show_run(root, "20250131-009-9f2c81aa", Console(json_logs=False))
    with pytest.raises(ArgumentError, match="run_id: expected YYYYMMDD-NNN"):
        show_run(root, "../x", Console(json_logs=False))
