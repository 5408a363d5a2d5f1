"""The commit point: one row or none, on the head that was audited, whatever is lost on the way."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import ArgumentError, DamagedError, LockedError
from recsys_spark.pipeline import publish
from recsys_spark.pipeline.publish import current_row, history, rollback_to
from recsys_spark.pipeline.run_ledger import RunLedger
from tests.finished_run import stage_and_audit
from tests.index_files import make_shards, unit_vectors
from tests.ledgers import commit, find_or_open_run, latest_runs
from tests.made_warehouse import drop_run

DAY, NEXT = date(2025, 1, 31), date(2025, 2, 1)


@pytest.fixture
def config(root: Path, make_config: Callable[..., Config]) -> Config:
    return make_config()


def test_commit_makes_the_run_current(config: Config) -> None:
    run = stage_and_audit(config, DAY, ["a", "b"], audited_on=0)
    assert commit(config, run, audited_on=0) == "published"
    current = current_row(config.root)
    assert current is not None
    assert (current.run_id, current.publish_seq, current.prev_seq) == (run.run_id, 1, 0)
    assert {table.name: table.n_rows for table in current.tables}["candidates"] == 2
    assert current.grace_hours == config.publish.grace_hours
    assert latest_runs(config.root)[-1]["state"] == "published"


def test_find_or_open_run_knows_a_published_run_again(config: Config) -> None:
    run = stage_and_audit(config, DAY, ["a"], audited_on=0)
    commit(config, run, audited_on=0)
    assert find_or_open_run(config, DAY)[1] == "published"
    assert len(history(config.root)) == 1


def test_commit_is_remembered_when_the_run_was_killed_right_after(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stage_and_audit(config, DAY, ["a"], audited_on=0)
    with monkeypatch.context() as killed:  # what a kill after the commit leaves undone
        killed.setattr(RunLedger, "record_state", lambda *_: None)
        commit(config, run, audited_on=0)
    assert latest_runs(config.root)[-1]["state"] == "open"
    assert find_or_open_run(config, DAY)[1] == "published"
    assert latest_runs(config.root)[-1]["state"] == "published"


def test_commit_of_an_older_date_does_not_become_current(config: Config) -> None:
    """Fault row 9."""
    newer = stage_and_audit(config, NEXT, ["a"], audited_on=0)
    commit(config, newer, audited_on=0)
    older = stage_and_audit(config, DAY, ["a"], audited_on=1)
    assert commit(config, older, audited_on=1) == "backfilled"
    assert current_row(config.root).run_id == newer.run_id
    assert rollback_to(config, older.run_id) == 2
    assert current_row(config.root).run_id == older.run_id


def test_commit_of_the_same_date_again_becomes_current(config: Config, make_config: Callable[..., Config]) -> None:
    commit(config, stage_and_audit(config, DAY, ["a"], audited_on=0), audited_on=0)
    other = make_config("candidates.k=3")
    again = stage_and_audit(other, DAY, ["a"], audited_on=1)
    assert commit(other, again, audited_on=1) == "published"
    assert current_row(config.root).run_id == again.run_id


def test_a_run_starts_from_the_newest_publish_of_an_earlier_date(config: Config) -> None:
    first = stage_and_audit(config, DAY, ["a"], audited_on=0)
    commit(config, first, audited_on=0)
    commit(config, stage_and_audit(config, NEXT, ["a"], audited_on=1), audited_on=1)
    rollback_to(config, first.run_id)
    assert find_or_open_run(config, NEXT + timedelta(days=1))[0].base_run_id == first.run_id


def test_commit_refuses_a_zombie_that_wakes_after_a_newer_publish(config: Config) -> None:
    """Fault row 13."""
    zombie = stage_and_audit(config, DAY, ["a"], audited_on=0)
    newer = stage_and_audit(config, NEXT, ["a"], audited_on=0)
    commit(config, newer, audited_on=0)
    before = current_row(config.root)
    with pytest.raises(LockedError, match="expected publish 0 to be current"):
        commit(config, zombie, audited_on=0)
    assert current_row(config.root) == before


def test_commit_loses_cleanly_when_another_commit_lands_first(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = stage_and_audit(config, DAY, ["a"], audited_on=0)
    theirs = stage_and_audit(config, NEXT, ["a"], audited_on=0)
    seal = publish.seal_row

    def publish_the_other_first(fields: dict[str, object]) -> dict[str, object]:
        monkeypatch.setattr(publish, "seal_row", seal)
        commit(config, theirs, audited_on=0)
        return seal(fields)

    monkeypatch.setattr(publish, "seal_row", publish_the_other_first)
    with pytest.raises(LockedError):
        commit(config, ours, audited_on=0)
    assert [row.run_id for row in history(config.root)] == [theirs.run_id]


def test_commit_whose_reply_is_lost_is_decided_by_storage(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault row 14."""
    run = stage_and_audit(config, DAY, ["a"], audited_on=0)
    monkeypatch.setenv("RECSYS_FAILPOINT", "publish.reply_lost")
    monkeypatch.setenv("RECSYS_FAILPOINT_ACTION", "raise")
    monkeypatch.setattr("recsys_spark.failpoint._passages", {})
    assert commit(config, run, audited_on=0) == "published"
    assert find_or_open_run(config, DAY)[1] == "published"
    assert len(history(config.root)) == 1


def test_rollback_adds_one_row_and_moves_nothing(config: Config) -> None:
    first = stage_and_audit(config, DAY, ["a", "b"], audited_on=0)
    commit(config, first, audited_on=0)
    second = stage_and_audit(config, NEXT, ["a"], audited_on=1)
    commit(config, second, audited_on=1)
    files = {path for path in config.root.rglob("*.parquet") if "publishes" not in str(path)}
    drop_run(config.root, "candidates", second.run_id)  # a rollback must work when the newest run is broken
    assert rollback_to(config, first.run_id) == 3
    current = current_row(config.root)
    assert (current.kind, current.run_id, current.data_date, current.prev_seq) == ("rollback", first.run_id, DAY, 2)
    assert {path for path in config.root.rglob("*.parquet") if "publishes" not in str(path)} == files


def test_rollback_refuses_a_run_that_was_never_completed(config: Config) -> None:
    first = stage_and_audit(config, DAY, ["a"], audited_on=0)
    commit(config, first, audited_on=0)
    unfinished = stage_and_audit(config, NEXT, ["a"], audited_on=1)
    with pytest.raises(ArgumentError, match=f"expected a completed run, got {unfinished.run_id}"):
        rollback_to(config, unfinished.run_id)


def test_rollback_refuses_a_run_whose_files_are_gone(config: Config) -> None:
    first = stage_and_audit(config, DAY, ["a", "b"], audited_on=0)
    commit(config, first, audited_on=0)
    second = stage_and_audit(config, NEXT, ["a"], audited_on=1)
    commit(config, second, audited_on=1)
    next((config.root / "tables" / "candidates" / f"run_id={first.run_id}").glob("*.parquet")).unlink()
    with pytest.raises(DamagedError, match=f"candidates run_id={first.run_id} .*: expected a file, got none"):
        rollback_to(config, first.run_id)
    assert current_row(config.root).run_id == second.run_id


def test_rollback_refuses_a_run_whose_rows_are_gone(config: Config) -> None:
    first = stage_and_audit(config, DAY, ["a", "b"], audited_on=0)
    commit(config, first, audited_on=0)
    second = stage_and_audit(config, NEXT, ["a"], audited_on=1)
    commit(config, second, audited_on=1)
    drop_run(config.root, "candidates", first.run_id)
    with pytest.raises(DamagedError, match=f"candidates run_id={first.run_id}: expected 2 rows, got 0"):
        rollback_to(config, first.run_id)
    assert current_row(config.root).run_id == second.run_id


def test_rollback_refuses_a_run_whose_shards_are_not_whole(config: Config) -> None:
    shards = make_shards(config.root, unit_vectors(40, 4), 2, "Flat")
    first = stage_and_audit(config, DAY, ["a"], audited_on=0, ann_shards=shards)
    commit(config, first, audited_on=0)
    commit(config, stage_and_audit(config, NEXT, ["a"], audited_on=1), audited_on=1)
    vectors = config.root / shards[1]["vectors_rel_path"]
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match=f"{shards[1]['vectors_rel_path']}: expected {len(whole)} bytes"):
        rollback_to(config, first.run_id)
    vectors.write_bytes(whole)
    assert rollback_to(config, first.run_id) == 3
