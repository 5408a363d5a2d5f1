"""A reader that holds a bundle reads on while it is superseded, dropped and collected, or is told to refresh."""

from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import BundleExpired
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.bundle import Bundle, open_current
from recsys_spark.warehouse.delta_rs import table_path
from tests.made_warehouse import RUN_A, RUN_B, append_publish, collect_run, drop_run, publish_bundle

USERS = [f"u{n:02d}" for n in range(12)]

READS: dict[str, Callable[[Bundle], object]] = {
    "candidates": lambda bundle: bundle.candidates("u03"),
    "fallback": lambda bundle: bundle.candidates("nobody"),
    "user_features": lambda bundle: bundle.user_features("u03"),
    "item_features": lambda bundle: bundle.item_features(["i1", "i20"]),
    "bulk": lambda bundle: bundle.read_table("candidates"),
}


@pytest.fixture
def superseded(tmp_path: Path) -> Path:
    """Run A, then run B; A is what a long-running reader holds."""
    publish_bundle(tmp_path, RUN_A, USERS)
    publish_bundle(tmp_path, RUN_B, USERS)
    return tmp_path


def _hold_run_a(root: Path) -> Bundle:
    n_rows = {table.name: table.n_rows for table in open_current(root)._head.tables}
    append_publish(root, RUN_A, n_rows, kind="rollback")
    held = open_current(root)
    append_publish(root, RUN_B, n_rows, kind="rollback")
    return held


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_held_bundle_reads_on_after_its_rows_left_the_log(superseded: Path, read: Callable[[Bundle], object]) -> None:
    held = _hold_run_a(superseded)
    expected = read(_hold_run_a(superseded))
    for name in BUNDLE_TABLES:
        drop_run(superseded, name, RUN_A)
        # The grace: what was dropped less than 48 hours ago is not deleted.
        assert (
            DeltaTable(table_path(superseded, name)).vacuum(retention_hours=48, enforce_retention_duration=False) == []
        )
    assert read(held) == expected


@pytest.mark.parametrize("touched", [False, True], ids=["first use", "footers cached"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_held_bundle_says_that_it_expired_once_its_files_are_collected(
    superseded: Path, read: Callable[[Bundle], object], touched: bool
) -> None:
    held = _hold_run_a(superseded)
    if touched and read is not READS["fallback"]:  # the lists for everybody are few and stay in memory
        read(held)
    collect_run(superseded, RUN_A)
    with pytest.raises(BundleExpired, match=rf"run_id={RUN_A}.*call bundle\.refresh\(\)"):
        read(held)
    assert held.refresh().run_id == RUN_B
    assert read(held.refresh()) == read(open_current(superseded))


def test_held_bundle_reads_through_a_collection_of_older_runs(tmp_path: Path) -> None:
    publish_bundle(tmp_path, RUN_A, USERS)
    publish_bundle(tmp_path, RUN_B, USERS)
    held = open_current(tmp_path)
    collect_run(tmp_path, RUN_A)
    for user_id in USERS:
        assert held.candidates(user_id).items[0].score == 1.5  # 1.0 in run A
    assert held.refresh() is held
