"""What gc keeps, and for how long."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import EXIT_REFUSED, BundleExpired, DamagedError
from recsys_spark.features.declared import declared_tables
from recsys_spark.pipeline.gc import collect, runs_to_keep
from recsys_spark.pipeline.publish import history, rollback_to
from recsys_spark.pipeline.run_ledger import RunLedger
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.blobs import BlobColumns, blobs, put_blob
from recsys_spark.warehouse.contract import Column, run_table
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows, create_tables, read_rows
from recsys_spark.warehouse.run_files import runs_with_rows
from recsys_spark.warehouse.scratch import runs_with_scratch, scratch_of
from recsys_spark.warehouse.tables import PUBLISHES, RUNS
from tests.empty_warehouse import copy_empty_warehouse
from tests.finished_run import WITHOUT_ROWS, stage_and_audit
from tests.ledgers import commit, find_or_open_run, latest_runs, record_state
from tests.made_warehouse import log_file

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


def test_runs_to_keep_honours_the_grace_that_a_bundle_was_published_with(
    config: Config, make_config: Callable[..., Config]
) -> None:
    patient = make_config("publish.keep_published=1", "publish.keep_failed=1", "publish.grace_hours=96")
    first = stage_and_audit(patient, date(2025, 1, 1), ["a"], audited_on=0)
    commit(patient, first, audited_on=0)
    second = stage_and_audit(config, date(2025, 1, 2), ["a"], audited_on=1)
    commit(config, second, audited_on=1)
    now = datetime.now(UTC)
    assert runs_to_keep(config, RunLedger(config.root), history(config.root), now + timedelta(hours=95)) == {
        first.run_id,
        second.run_id,
    }
    assert runs_to_keep(config, RunLedger(config.root), history(config.root), now + timedelta(hours=97)) == {
        second.run_id
    }


def test_runs_to_keep_counts_different_runs_however_often_each_was_current(
    root: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config("publish.keep_published=3")
    runs = _publish_days(config, 3)
    for run_id in runs[1:]:
        rollback_to(config, run_id)
    assert runs_to_keep(
        config, RunLedger(config.root), history(config.root), datetime.now(UTC) + timedelta(days=30)
    ) == set(runs)


def test_runs_to_keep_has_the_newest_backfilled_run(config: Config) -> None:
    newer = stage_and_audit(config, date(2025, 1, 9), ["a"], audited_on=0)
    commit(config, newer, audited_on=0)
    backfilled = []
    for day in (1, 2):
        run = stage_and_audit(config, date(2025, 1, day), ["a"], audited_on=1)
        assert commit(config, run, audited_on=1) == "backfilled"
        backfilled.append(run.run_id)
    assert runs_to_keep(
        config, RunLedger(config.root), history(config.root), datetime.now(UTC) + timedelta(days=30)
    ) == {
        newer.run_id,
        backfilled[1],
    }


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
    collect(config, datetime.now(UTC) + timedelta(hours=47))
    assert runs_with_rows(root, "ranking_examples") == set(runs), "all are within their grace"
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
    assert runs_to_keep(config, RunLedger(config.root), history(config.root), datetime.now(UTC)) == {
        current,
        failed[1],
        opened,
    }
    later = datetime.now(UTC) + timedelta(days=30)
    assert runs_to_keep(config, RunLedger(config.root), history(config.root), later) == {
        current,
        opened,
    }  # by then it counts as unfinished, and is the newest
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
    monkeypatch.setattr("recsys_spark.pipeline.gc.declared_tables", lambda: declared_tables() | {"models": MODELS})
    monkeypatch.setattr("recsys_spark.warehouse.blobs.BLOB_COLUMNS", {"models": (BlobColumns("rel_path", "", ""),)})

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


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A warehouse with two published dates, which nobody changes, and their runs."""
    root = tmp_path_factory.mktemp("published")
    copy_empty_warehouse(root)
    config = load_config(sets=(f"storage.root={root}",))
    return root, _publish_days(config, 2)


@pytest.fixture
def two_days(config: Config, published: tuple[Path, list[str]]) -> list[str]:
    """The runs of two published dates, in a copy that a test may damage."""
    copytree(published[0], config.root, dirs_exist_ok=True)
    return published[1]


def _tables(root: Path) -> dict[str, bytes]:
    """Every file of the tables."""
    folder = root / "tables"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _publishes(root: Path) -> Path:
    return root / "tables" / "publishes"


def _newest_row(root: Path) -> dict[str, Any]:
    return max(read_rows(root, PUBLISHES), key=lambda row: row["publish_seq"])


def _change_row(root: Path, publish_seq: int) -> None:
    """Another run in a row of `publishes`, which keeps its hash."""
    rows = {row["publish_seq"]: row for row in read_rows(root, PUBLISHES)}
    DeltaTable(table_path(root, "publishes")).delete(f"publish_seq = {publish_seq}")
    other = rows[3 - publish_seq]["run_id"]
    append_rows(root, PUBLISHES, [rows[publish_seq] | {"run_id": other}])


def _cut_commit(root: Path) -> None:
    commit_file = log_file(root, "publishes")
    commit_file.write_bytes(commit_file.read_bytes()[:300])


def _lose_row_file(root: Path, newest: bool) -> None:
    files = sorted(_publishes(root).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    files[-1 if newest else 0].unlink()


def _start_anew(root: Path) -> None:
    """What the next `run` does to a table that lost its log."""
    rmtree(_publishes(root) / "_delta_log")
    create_tables(root, [PUBLISHES])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "newest row changed": (lambda root: _change_row(root, 2), "publish_seq=2: expected row_sha256"),
    "old row changed": (lambda root: _change_row(root, 1), "publish_seq=1: expected row_sha256"),
    "newest commit lost": (
        lambda root: log_file(root, "publishes").unlink(),
        "no publish after 1, got 20250102",
    ),
    "newest commit cut": (_cut_commit, "publishes"),
    "newest row lost": (lambda root: _lose_row_file(root, newest=True), "publishes .*: expected a file, got none"),
    "old row lost": (lambda root: _lose_row_file(root, newest=False), "publishes .*: expected a file, got none"),
    "log lost": (lambda root: rmtree(_publishes(root) / "_delta_log"), "publishes: expected a Delta table"),
    "log lost and begun anew": (_start_anew, "no publish after 0, got 20250101.*20250102"),
    "table lost": (lambda root: rmtree(_publishes(root)), "publishes: expected a Delta table"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_collect_deletes_nothing_when_publishes_is_damaged_and_works_once_it_is_restored(
    config: Config, two_days: list[str], tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    copy = copytree(_publishes(config.root), tmp_path / "copy")
    damage(config.root)
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"{message}.*restore the table publishes from a copy") as refused:
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert refused.value.exit_code == EXIT_REFUSED
    assert _tables(config.root) == before
    rmtree(_publishes(config.root), ignore_errors=True)
    copytree(copy, _publishes(config.root))
    assert collect(config, datetime.now(UTC) + timedelta(days=30)).kept == (two_days[1],)
    assert runs_with_rows(config.root, "candidates") == {two_days[1]}


def test_collect_refuses_when_the_row_of_a_rollback_is_lost_until_it_is_done_again(
    config: Config, two_days: list[str]
) -> None:
    """Every run is named still, so that only the file without a commit tells which one was current."""
    rollback_to(config, two_days[0])
    log_file(config.root, "publishes").unlink()
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"after 2, got {two_days[0]} .publish 3, .* rollback --to {two_days[0]}"):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert _tables(config.root) == before
    rollback_to(config, two_days[0])
    assert collect(config, datetime.now(UTC) + timedelta(days=30)).kept == (two_days[0],)


def test_collect_refuses_when_the_newest_row_and_its_commit_are_lost_until_the_run_is_current_again(
    config: Config,
    two_days: list[str],
) -> None:
    log_file(config.root, "publishes").unlink()
    _lose_row_file(config.root, newest=True)
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"after 1, got {two_days[1]} .published by .* rollback --to {two_days[1]}"):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert _tables(config.root) == before
    rollback_to(config, two_days[1])
    assert collect(config, datetime.now(UTC) + timedelta(days=30)).kept == (two_days[1],)


def test_collect_passes_over_a_row_that_lost_the_race_for_its_number(config: Config, two_days: list[str]) -> None:
    """Its file was written before its commit failed."""
    append_rows(config.root, PUBLISHES, [_newest_row(config.root)])
    log_file(config.root, "publishes").unlink()
    assert len(collect(config, datetime.now(UTC) + timedelta(days=30)).runs) == 1


@pytest.mark.parametrize(
    ("name", "lost"),
    [("candidates", ""), ("candidates", "_delta_log"), ("ann_shards", ""), ("ann_shards", "_delta_log"),
     ("runs", "_delta_log")],
)  # fmt: skip
def test_collect_deletes_nothing_when_another_table_lost_its_log(
    config: Config, two_days: list[str], name: str, lost: str
) -> None:
    rmtree(config.root / "tables" / name / lost)
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"{name}: expected a Delta table.*restore the table {name} from a copy"):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert _tables(config.root) == before


def test_collect_deletes_nothing_when_the_current_bundle_is_damaged(config: Config, two_days: list[str]) -> None:
    """The older ones are what a rollback would go back to."""
    next((config.root / "tables" / "candidates").glob(f"run_id={two_days[1]}/*.parquet")).unlink()
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"candidates run_id={two_days[1]} .*: expected a file, got none.*rollback"):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert _tables(config.root) == before
    rollback_to(config, two_days[0])
    assert two_days[0] in collect(config, datetime.now(UTC) + timedelta(days=30)).kept


def test_collect_makes_no_table_that_an_older_warehouse_lacks(
    config: Config, two_days: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_spark.pipeline.gc.declared_tables", lambda: declared_tables() | {"models": MODELS})
    assert len(collect(config, datetime.now(UTC) + timedelta(days=30)).runs) == 1
    assert not (config.root / "tables" / "models").exists()


def test_collect_passes_over_the_file_of_a_publish_that_was_killed_before_its_commit(
    config: Config, two_days: list[str]
) -> None:
    """Its run is open, and the next command goes on with it."""
    run = stage_and_audit(config, date(2025, 1, 3), ["a"], audited_on=2)
    opened = latest_runs(config.root)[-1]
    commit(config, run, audited_on=2)
    log_file(config.root, "publishes").unlink()
    record_state(config.root, opened, "open")
    assert run.run_id in collect(config, datetime.now(UTC)).kept


@pytest.mark.parametrize("anew", [False, True])
def test_collect_deletes_nothing_when_the_runs_are_lost(config: Config, two_days: list[str], anew: bool) -> None:
    """One that was backfilled, or is worked on, is named nowhere else."""
    run_id = stage_and_audit(config, date(2025, 1, 7), ["a"], audited_on=2).run_id
    rmtree(config.root / "tables" / "runs")
    if anew:
        create_tables(config.root, [RUNS])
    before = _tables(config.root)
    with pytest.raises(DamagedError, match=f"runs: expected every run that has rows, got none of {run_id}; restore"):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    assert _tables(config.root) == before


def test_collect_refuses_what_a_table_begun_anew_has_lost_until_it_is_current_again(
    config: Config, two_days: list[str]
) -> None:
    rmtree(_publishes(config.root))
    create_tables(config.root, [PUBLISHES])
    with pytest.raises(
        DamagedError, match=f"rollback --to {two_days[0]}`, then `recsys-spark rollback --to {two_days[1]}`$"
    ):
        collect(config, datetime.now(UTC) + timedelta(days=30))
    for run_id in two_days:
        rollback_to(config, run_id)
    assert collect(config, datetime.now(UTC) + timedelta(days=30)).kept == (two_days[1],)
