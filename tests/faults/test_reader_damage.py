"""What is damaged, lost or mixed is refused by name; no flipped bit makes another bundle current."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from deltalake import DeltaTable

from recsys_spark.errors import DamagedError
from recsys_spark.plan import BUNDLE_TABLES
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.delta_rs import table_path
from tests.made_warehouse import RUN_A, RUN_B, append_publish, drop_run, log_file, make_rows, publish_bundle, stage_rows

USERS = [f"u{n:02d}" for n in range(12)]
FLIPS = 50


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run A, then run B, which is current; nobody changes it."""
    folder = tmp_path_factory.mktemp("published")
    publish_bundle(folder, RUN_A, USERS)
    publish_bundle(folder, RUN_B, USERS)
    return folder


@pytest.fixture
def warehouse(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(copytree(published, tmp_path / "copy"))


def _newest_file(root: Path, name: str, run: str | None) -> Path:
    folder = Path(table_path(root, name))
    pattern = f"run_id={run}/*.parquet" if run else "*.parquet"
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def _flip(path: Path, at: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def _places(path: Path, seed: int) -> list[tuple[int, int]]:
    """FLIPS (byte, bit) of the file, spread over its whole length."""
    size = path.stat().st_size
    starts = np.linspace(0, size - 1, FLIPS).astype(int)
    return list(zip(starts.tolist(), np.random.default_rng(seed).integers(0, 8, FLIPS).tolist(), strict=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_publishes_commit_with_a_flipped_bit_is_refused_or_changes_nothing(warehouse: Path, seed: int) -> None:
    commit = log_file(warehouse, "publishes")
    expected = open_current(warehouse)._head
    refused = 0
    for at, bit in _places(commit, seed):
        _flip(commit, at, bit)
        try:
            assert open_current(warehouse)._head == expected
        except DamagedError:
            refused += 1
        _flip(commit, at, bit)
    assert 0 < refused < FLIPS  # some bits are timestamps, others names of files
    assert open_current(warehouse)._head == expected


@pytest.mark.parametrize("seed", [3])
def test_publishes_row_with_a_flipped_bit_is_refused_or_changes_nothing(warehouse: Path, seed: int) -> None:
    stored = _newest_file(warehouse, "publishes", None)
    expected = open_current(warehouse)._head
    refused = 0
    for at, bit in _places(stored, seed):
        _flip(stored, at, bit)
        try:
            assert open_current(warehouse)._head == expected
        except DamagedError:
            refused += 1
        _flip(stored, at, bit)
    assert refused > 0


@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.99])
def test_publishes_commit_that_is_cut_is_refused(warehouse: Path, share: float) -> None:
    commit = log_file(warehouse, "publishes")
    content = commit.read_bytes()
    commit.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedError, match="publishes"):
        open_current(warehouse)


def test_publishes_row_file_that_is_lost_is_refused(warehouse: Path) -> None:
    _newest_file(warehouse, "publishes", None).unlink()
    with pytest.raises(DamagedError, match=r"publishes .*expected a file, got none"):
        open_current(warehouse)


@pytest.mark.parametrize("name", BUNDLE_TABLES)
def test_open_refuses_a_bundle_whose_table_lost_a_file(warehouse: Path, name: str) -> None:
    """Row 42, the reader's half: the log of one table no longer holds what was published."""
    drop_run(warehouse, name, RUN_B)
    with pytest.raises(DamagedError, match=rf"{name} run_id={RUN_B}: expected \d+ rows as published, found 0"):
        open_current(warehouse)


def test_open_refuses_a_bundle_of_tables_that_are_not_all_staged(warehouse: Path) -> None:
    """Row 2, the reader's half: a publish row over a run of which only some tables exist never resolves to a mix."""
    run = "20250202-001-00c0ffee"
    rows = make_rows(run, USERS, {})
    n_rows = {name: len(table_rows) for name, table_rows in rows.items()}
    del rows["fallback_candidates"]
    stage_rows(warehouse, run, rows)
    assert open_current(warehouse).run_id == RUN_B  # staged tables of an unpublished run are not seen
    append_publish(warehouse, run, n_rows)
    with pytest.raises(DamagedError, match=f"fallback_candidates run_id={run}: expected 1 rows as published, found 0"):
        open_current(warehouse)


@pytest.mark.parametrize("name", ["candidates", "user_features"])
def test_lookup_refuses_a_file_that_is_lost_cut_or_overwritten(warehouse: Path, name: str) -> None:
    stored = _newest_file(warehouse, name, RUN_B)
    content = stored.read_bytes()
    for damaged in (None, content[:-5], content[: len(content) // 2], b"", b"x" * len(content)):
        bundle = open_current(warehouse)
        stored.unlink()
        if damaged is not None:
            stored.write_bytes(damaged)
        if damaged is None or len(damaged) != len(content):
            with pytest.raises(DamagedError, match=f"{name} run_id={RUN_B}"):
                open_current(warehouse)
        with pytest.raises(DamagedError, match=f"{name} run_id={RUN_B}"):
            bundle.candidates("u03") if name == "candidates" else bundle.user_features("u03")
        with pytest.raises(DamagedError, match=f"{name} run_id={RUN_B}"):
            bundle.read_table(name)
        stored.write_bytes(content)
    assert open_current(warehouse).candidates("u03").items


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"user_id", b"user_ie"),  # a column renamed
        (b"item_id", b"item_ie"),  # a field inside the lists
        (b"PAR1", b"PAR2"),
    ],
)
def test_lookup_refuses_a_footer_that_was_changed(warehouse: Path, good: bytes, bad: bytes) -> None:
    stored = _newest_file(warehouse, "candidates", RUN_B)
    content = stored.read_bytes()
    assert good in content
    stored.write_bytes(content.replace(good, bad))
    bundle = open_current(warehouse)
    with pytest.raises(DamagedError, match=f"candidates run_id={RUN_B}"):
        bundle.candidates("u03")
    with pytest.raises(DamagedError, match=f"candidates run_id={RUN_B}"):
        bundle.read_table("candidates")


def test_open_refuses_a_checkpoint_that_is_damaged(warehouse: Path) -> None:
    table = DeltaTable(table_path(warehouse, "publishes"))
    table.create_checkpoint()
    log = Path(table_path(warehouse, "publishes"), "_delta_log")
    for commit in log.glob("*.json"):
        commit.unlink()
    assert open_current(warehouse).run_id == RUN_B
    checkpoint = next(log.glob("*.checkpoint.parquet"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-20])
    with pytest.raises(DamagedError, match="publishes: expected a Delta table"):
        open_current(warehouse)


def test_open_refuses_a_table_that_is_a_link_out_of_the_warehouse(warehouse: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (warehouse / "tables" / "candidates").rename(moved)
    (warehouse / "tables" / "candidates").symlink_to(moved)
    with pytest.raises(DamagedError, match="expected a path inside"):
        open_current(warehouse)
