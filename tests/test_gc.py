"""What gc keeps, and for how long."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.config import Config
from recsys_spark.errors import BundleExpired
from recsys_spark.features import declared_tables
from recsys_spark.gc import collect, runs_to_keep
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.publish import commit
from recsys_spark.reader import open_current
from recsys_spark.run_ledger import find_or_open_run, latest_runs, record_state
from recsys_spark.tables.blobs import BlobColumns, blobs, put_blob
from recsys_spark.tables.contract import Column, run_table
from recsys_spark.tables.delta_log import runs_with_rows
from recsys_spark.tables.ledger import append_rows, create_tables
from recsys_spark.tables.scratch import runs_with_scratch, scratch_of
from tests.finished_run import WITHOUT_ROWS, stage_and_audit

EXAMPLE = {"list_run_id": "r", "list_date": date(2025, 1, 1), "user_id": "a", "item_id": "i1", "variant": "main"}


@pytest.fixture
def config(root: Path, make_config: Callable[..., Config]) -> Config:
    return make_config("publish.keep_published=1", "publish.keep_failed=1")


def _publish_days(config: Config, n_days: int, **tables: list[dict[str, Any]]) -> list[str]:
    run_ids = []
    for day in range(n_days):
        run = stage_and_audit(config, date(2025, 1, 1 + day), ["a"], audited_on=day, **tables)
        commit(config, run, audited_on=day)
        run_ids.append(run.run_id)
    return run_ids


def test_collect_keeps_everything_within_its_grace(config: Config) -> None:
    runs = _publish_days(config, 3)
    report = collect(config, datetime.now(UTC) + timedelta(hours=47))
    assert report.runs == ()
    assert runs_with_rows(config.root, "candidates") == set(runs)


def _age_log(config: Config, hours: int) -> None:
    """Makes every removal in the logs of the bundle's tables older."""
    for name in BUNDLE_TABLES:
        for path in (config.root / "tables" / name / "_delta_log").glob("*.json"):
            aged = re.sub(
                r'"deletionTimestamp":(\d+)',
                lambda found: f'"deletionTimestamp":{int(found[1]) - hours * 3_600_000}',
                path.read_text(),
            )
            path.write_text(aged)


def test_collect_removes_rows_after_one_grace_and_files_after_another(config: Config) -> None:
    """Fault row 44: a reader that holds the bundle reads on for two graces, then is told to refresh."""
    first = _publish_days(config, 1)[0]
    held, fresh = open_current(config.root), open_current(config.root)
    expected = held.candidates("a")
    second = stage_and_audit(config, date(2025, 1, 2), ["a"], audited_on=1)
    commit(config, second, audited_on=1)
    report = collect(config, datetime.now(UTC) + timedelta(hours=49))
    assert report.runs == (first,)
    assert report.n_files == 0
    assert runs_with_rows(config.root, "candidates") == {second.run_id}
    assert held.candidates("a") == expected
    _age_log(config, 49)
    assert collect(config, datetime.now(UTC)).n_files == len(set(BUNDLE_TABLES) - WITHOUT_ROWS)
    for bundle in (held, fresh):
        with pytest.raises(BundleExpired, match="refresh"):
            bundle.candidates("a")
    assert held.refresh().run_id == second.run_id


def test_collect_keeps_examples_longer_than_lists(root: Path, make_config: Callable[..., Config]) -> None:
    config = make_config("publish.keep_published=1", "publish.keep_failed=1", "publish.keep_examples=3")
    runs = _publish_days(config, 5, ranking_examples=[EXAMPLE])
    report = collect(config, datetime.now(UTC) + timedelta(hours=49))
    assert runs_with_rows(root, "candidates") == set(runs[-1:])
    assert runs_with_rows(root, "ranking_examples") == set(runs[-3:])
    assert set(report.runs) == set(runs[:-1])


def test_collect_keeps_the_newest_unfinished_run_and_an_open_one_within_the_grace(config: Config) -> None:
    current = _publish_days(config, 1)[0]
    failed = []
    for day in (5, 6):
        run = stage_and_audit(config, date(2025, 1, day), ["a"], audited_on=1)
        failed.append(run.run_id)
        record_state(config.root, latest_runs(config.root)[-1], "refused")
    opened = stage_and_audit(config, date(2025, 1, 7), ["a"], audited_on=1).run_id
    assert runs_to_keep(config, datetime.now(UTC)) == {current, failed[1], opened}
    later = datetime.now(UTC) + timedelta(days=30)
    assert runs_to_keep(config, later) == {current, opened}  # by then it counts as unfinished, and is the newest
    assert collect(config, later).runs == tuple(failed)


def test_collect_leaves_no_run_open_whose_rows_it_deleted(config: Config) -> None:
    _publish_days(config, 1)
    left = stage_and_audit(config, date(2025, 1, 7), ["a"], audited_on=1).run_id
    stage_and_audit(config, date(2025, 1, 8), ["a"], audited_on=1)
    assert collect(config, datetime.now(UTC) + timedelta(days=30)).runs == (left,)
    assert {run["run_id"]: run["state"] for run in latest_runs(config.root)}[left] == "abandoned"
    assert find_or_open_run(config, date(2025, 1, 7))[0].run_id != left


def test_collect_never_removes_the_current_run(config: Config) -> None:
    runs = _publish_days(config, 2)
    collect(config, datetime.now(UTC) + timedelta(days=3650))
    assert runs_with_rows(config.root, "candidates") == {runs[-1]}


def test_collect_drops_the_scratch_of_all_but_open_runs(config: Config) -> None:
    published = _publish_days(config, 1)[0]
    refused = stage_and_audit(config, date(2025, 1, 5), ["a"], audited_on=1).run_id
    record_state(config.root, latest_runs(config.root)[-1], "refused")
    opened = stage_and_audit(config, date(2025, 1, 7), ["a"], audited_on=1).run_id
    for run_id in (published, refused, opened, "20240101-001-00000000"):
        scratch_of(config.root, run_id, "als").write("users", np.zeros(2))
    collect(config, datetime.now(UTC))
    assert runs_with_scratch(config.root) == [opened]
    assert scratch_of(config.root, opened, "als").read("users").tolist() == [0.0, 0.0]


def test_collect_drops_the_scratch_of_a_run_that_it_abandons(config: Config) -> None:
    _publish_days(config, 1)
    for day in (7, 8):
        run_id = stage_and_audit(config, date(2025, 1, day), ["a"], audited_on=1).run_id
        scratch_of(config.root, run_id, "als").write("users", np.zeros(2))
    collect(config, datetime.now(UTC) + timedelta(days=30))
    assert runs_with_scratch(config.root) == [run_id]


MODELS = run_table("models", "work", "Models of a test", (Column("rel_path", "string", "where the weights are"),))


@pytest.fixture
def put_model(config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], str]:
    """Puts weights, and the row of a run that names them."""
    create_tables(config.root, [MODELS])
    monkeypatch.setattr("recsys_spark.gc.declared_tables", lambda: declared_tables() | {"models": MODELS})
    monkeypatch.setattr("recsys_spark.tables.blobs.BLOB_COLUMNS", {"models": (BlobColumns("rel_path", "", ""),)})

    def put(run_id: str, weights: bytes) -> str:
        rel_path = put_blob(config.root, weights, ".safetensors").rel_path
        append_rows(config.root, MODELS, [{"rel_path": rel_path, "run_id": run_id}])
        return rel_path

    return put


def test_collect_drops_the_blob_of_a_run_one_grace_after_its_row(
    config: Config, put_model: Callable[[str, bytes], str]
) -> None:
    gone, current = (put_model(run_id, run_id.encode()) for run_id in _publish_days(config, 2))
    superseded = datetime.now(UTC) + timedelta(hours=49)
    for hours, left in ((0, {gone, current}), (47, {gone, current}), (49, {current}), (9999, {current})):
        report = collect(config, superseded + timedelta(hours=hours))
        assert len(report.runs) == (1 if hours == 0 else 0)
        assert report.n_files == (1 if hours == 49 else 0)
        assert blobs(config.root) == sorted(left)


def test_collect_keeps_a_blob_that_a_kept_run_shares_with_one_that_goes(
    config: Config, put_model: Callable[[str, bytes], str]
) -> None:
    runs = _publish_days(config, 2)
    shared = {put_model(run_id, b"the same weights") for run_id in runs}
    for days in (3, 30, 300):
        collect(config, datetime.now(UTC) + timedelta(days=days))
        assert runs_with_rows(config.root, "models") == {runs[1]}
        assert blobs(config.root) == list(shared)


def test_collect_leaves_a_blob_without_a_row_its_grace(config: Config) -> None:
    """A reader may hold the bundle that named it."""
    _publish_days(config, 1)
    put_blob(config.root, b"weights", ".safetensors")
    for hours, n_left in ((0, 1), (47, 1), (49, 0)):
        collect(config, datetime.now(UTC) + timedelta(hours=hours))
        assert len(blobs(config.root)) == n_left
