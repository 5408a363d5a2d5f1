"""Figures of the newest run in the form that Prometheus reads."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.operations.metrics_file import metrics_text, write_metrics
from recsys_spark.warehouse.ledger import append_rows
from recsys_spark.warehouse.tables import AUDITS
from tests.finished_run import stage_and_audit
from tests.ledgers import commit, find_or_open_run

SAMPLE = re.compile(r'^([a-z_]+)(\{([a-z_]+="(\\.|[^"\\])*",?)+\})? (\S+)$')


def samples(text: str) -> dict[str, float]:
    found, typed = {}, []
    for line in text.splitlines():
        if line.startswith("#"):
            typed += [line.split()[2]] if line.startswith("# TYPE") else []
            continue
        match = SAMPLE.match(line)
        assert match, line
        assert match[1] == typed[-1], "samples follow the type of their metric"
        found[line.rpartition(" ")[0]] = float(match[5])
    assert len(typed) == len(set(typed)), "each metric is typed once"
    return found


def test_metrics_of_a_published_run(root: Path, make_config: Callable[..., Config]) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a", "b"], audited_on=0)
    rows = [("coverage", "passed", 1.0), ('new "gate"', "failed", None), ("drift", "skipped", None)]
    append_rows(
        root,
        AUDITS,
        [
            {"run_id": run.run_id, "gate": gate, "outcome": outcome, "figure": figure, "bound": "", "detail": None}
            | {"recorded_at": datetime.now(UTC)}
            for gate, outcome, figure in rows
        ],
    )
    commit(make_config(), run, audited_on=0)
    found = samples(metrics_text(root))
    assert found["recsys_publish_seq"] == 1
    assert found["recsys_data_date_timestamp_seconds"] == datetime(2025, 1, 31, tzinfo=UTC).timestamp()
    assert found[f'recsys_run_complete{{run_id="{run.run_id}"}}'] == 1
    assert found['recsys_step_seconds{step="blend"}'] == 1
    assert found['recsys_step_rows{step="blend",table="candidates"}'] == 2
    assert found['recsys_gate_passed{gate="coverage"}'] == 1
    assert found['recsys_gate_passed{gate="new \\"gate\\""}'] == 0
    assert not any("drift" in name for name in found)
    newer, _ = find_or_open_run(make_config(), date(2025, 2, 1))
    found = samples(metrics_text(root))
    assert found[f'recsys_run_complete{{run_id="{newer.run_id}"}}'] == 0
    assert found["recsys_publish_seq"] == 1


def test_metrics_of_a_run_that_was_not_published(root: Path, make_config: Callable[..., Config]) -> None:
    run = stage_and_audit(make_config(), date(2025, 1, 31), ["a"], audited_on=0)
    found = samples(metrics_text(root))
    assert found[f'recsys_run_complete{{run_id="{run.run_id}"}}'] == 0
    assert "recsys_publish_seq" not in found


def test_write_metrics_replaces_the_file_in_one_piece(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "recsys.prom"
    path.write_text("old")
    write_metrics(root, path)
    assert path.read_text() == "\n"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("recsys")] == ["recsys.prom"]


def test_a_file_that_cannot_be_written_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_metrics(root, Path("/proc/nowhere/recsys.prom"))
    assert "not written to /proc/nowhere/recsys.prom" in caplog.text


def test_commands_that_end_together_do_not_write_into_each_other(root: Path, tmp_path: Path) -> None:
    path, program = tmp_path / "recsys.prom", "import sys; from pathlib import Path; "
    program += "from recsys_spark.operations.metrics_file import write_metrics; "
    program += "[write_metrics(Path(sys.argv[1]), Path(sys.argv[2])) for _ in range(200)]"
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(root), str(path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.communicate()[1] for one in both] == ["", ""]
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["recsys.prom"]
