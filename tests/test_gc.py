"""What gc keeps, and for how long."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from recsys_spark.config import Config
from recsys_spark.gc import collect, runs_to_keep
from recsys_spark.publish import commit
from recsys_spark.run_ledger import latest_runs, record_state
from recsys_spark.tables.delta_log import runs_with_rows
from tests.finished_run import stage_and_audit


@pytest.fixture
def config(root: Path, make_config: Callable[..., Config]) -> Config:
    return make_config("publish.keep_published=1", "publish.keep_failed=1")


def _publish_days(config: Config, n_days: int) -> list[str]:
    run_ids = []
    for day in range(n_days):
        run = stage_and_audit(config, date(2025, 1, 1 + day), ["a"], audited_on=day)
        commit(config, run, audited_on=day)
        run_ids.append(run.run_id)
    return run_ids


def test_collect_keeps_everything_within_its_grace(config: Config) -> None:
    runs = _publish_days(config, 3)
    report = collect(config, datetime.now(UTC) + timedelta(hours=47))
    assert report.runs == ()
    assert runs_with_rows(config.root, "candidates") == set(runs)


def test_collect_removes_rows_after_one_grace_and_files_after_another(config: Config) -> None:
    """Fault row 44, the writer's half: a reader that holds the bundle has two graces."""
    first, second, third = _publish_days(config, 3)
    report = collect(config, datetime.now(UTC) + timedelta(hours=49))
    assert report.runs == (first, second)
    assert runs_with_rows(config.root, "candidates") == {third}


def test_collect_keeps_the_newest_failed_run_and_every_open_one(config: Config) -> None:
    current = _publish_days(config, 1)[0]
    failed = []
    for day in (5, 6):
        run = stage_and_audit(config, date(2025, 1, day), ["a"], audited_on=1)
        failed.append(run.run_id)
        record_state(config.root, latest_runs(config.root)[-1], "refused")
    opened = stage_and_audit(config, date(2025, 1, 7), ["a"], audited_on=1).run_id
    later = datetime.now(UTC) + timedelta(days=30)
    assert runs_to_keep(config, later) == {current, failed[1], opened}
    assert collect(config, later).runs == (failed[0],)


def test_collect_never_removes_the_current_run(config: Config) -> None:
    runs = _publish_days(config, 2)
    collect(config, datetime.now(UTC) + timedelta(days=3650))
    assert runs_with_rows(config.root, "candidates") == {runs[-1]}
