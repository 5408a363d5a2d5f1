"""Rows 3, 4, 40 and 41 of the fault matrix: a shard is whole and the one that was built, or nobody searches it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import DamagedError
from recsys_spark.serving.bundle import Bundle, open_current, open_index
from recsys_spark.warehouse.blobs import blobs, drop_blobs
from tests.ann.test_index_build import build, hashes, items_of, whole
from tests.index_files import make_shards, unit_vectors
from tests.serving.test_index import publish_index

N_FLIPS, N_CUTS = 50, 10


def test_worker_that_is_killed_in_the_middle_of_a_shard_leaves_no_trace_in_the_index(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 3: the first attempt of every shard dies once its vectors are written."""
    expected = build(whole(items_of(spark)), tmp_path / "undisturbed")
    environment = spark.sparkContext.environment  # of the workers that are started from here on
    monkeypatch.setitem(environment, "RECSYS_FAILPOINT", "ann.vectors_written")
    monkeypatch.setitem(environment, "RECSYS_FAILPOINT_ACTION", "kill_first_attempt")
    rows = build(whole(items_of(spark)), tmp_path / "killed")
    assert hashes(rows) == hashes(expected)
    named = {row[name] for row in rows for name in ("rel_path", "vectors_rel_path")}
    assert set(blobs(tmp_path / "killed")) == named
    left = [path for path in (tmp_path / "killed" / "blobs").iterdir() if path.name.startswith(".")]
    assert len(left) == len(rows)  # the vectors of each killed attempt
    now = datetime.now(UTC)
    assert drop_blobs(tmp_path / "killed", named, now, 48) == 0  # the attempt might still run
    assert drop_blobs(tmp_path / "killed", named, now + timedelta(hours=49), 48) == len(left)


def test_two_attempts_of_a_shard_at_once_store_one_file(spark: SparkSession, tmp_path: Path) -> None:
    """Row 4."""
    items = whole(items_of(spark))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build(items, tmp_path), range(2))
    assert first == second
    assert len(list((tmp_path / "blobs").iterdir())) == 2 * len(first)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    root = tmp_path_factory.mktemp("warehouse")
    publish_index(root, factory="IVF8,PQ4x4")
    bundle = open_current(root)
    assert open_index(bundle).n_items == 300
    return root, bundle


def _refused(bundle: Bundle, mapped: bool) -> str:
    """What the reader says of the shard that it does not open."""
    with pytest.raises(DamagedError) as refused:
        open_index(bundle, mapped=mapped)
    return str(refused.value)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ["rel_path", "vectors_rel_path"])
def test_every_flip_cut_and_loss_of_a_shard_is_refused_by_its_number(
    published: tuple[Path, Bundle], name: str, mapped: bool
) -> None:
    """Row 41: 61 of 61."""
    root, bundle = published
    row = bundle.read_table("ann_shards").sort_by("shard").to_pylist()[1]
    path, rng = root / row[name], np.random.default_rng(1)
    whole_file = path.read_bytes()
    faults = 0
    for place in rng.integers(0, len(whole_file), N_FLIPS):
        damaged = bytearray(whole_file)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        faults += _refused(bundle, mapped).startswith(f"shard 1: {row[name]}: expected")
    for n_bytes in rng.integers(0, len(whole_file), N_CUTS):
        path.write_bytes(whole_file[:n_bytes])
        faults += _refused(bundle, mapped).startswith(f"shard 1: {row[name]}: expected")
    path.unlink()
    faults += _refused(bundle, mapped).startswith(f"shard 1: {row[name]}: expected a file")
    path.write_bytes(whole_file)
    assert faults == N_FLIPS + N_CUTS + 1
    assert open_index(bundle, mapped=mapped).n_items == 300


@pytest.mark.parametrize("mapped", [False, True])
def test_a_shard_of_another_build_in_its_place_is_refused(published: tuple[Path, Bundle], mapped: bool) -> None:
    """Row 40: a whole index, of as many items, made of the vectors of another model."""
    root, bundle = published
    rows = bundle.read_table("ann_shards").sort_by("shard").to_pylist()
    others = make_shards(root, unit_vectors(300, 8, seed=9), factory="IVF8,PQ4x4")
    kept = (root / rows[0]["rel_path"]).read_bytes()
    shutil.copyfile(root / others[0]["rel_path"], root / rows[0]["rel_path"])
    assert _refused(bundle, mapped).startswith(f"shard 0: {rows[0]['rel_path']}: expected")
    (root / rows[0]["rel_path"]).write_bytes(kept)
