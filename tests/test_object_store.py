"""A warehouse in an S3 server: a service reads it, blobs are stored and checked, what is dropped is gone."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import DamagedError, LockedError, NothingPublished, StoreFault
from recsys_spark.pipeline.gc import collect
from recsys_spark.pipeline.publish import history
from recsys_spark.serving.bundle import open_current
from recsys_spark.serving.index import open_shards
from recsys_spark.warehouse.blobs import NewBlob, blobs, check_blob, drop_blobs, put_blob, read_blob
from recsys_spark.warehouse.ledger import append_rows, read_rows
from recsys_spark.warehouse.location import Location, ObjectPath, as_text, locate, remove_tree
from recsys_spark.warehouse.locks import warehouse_lock
from recsys_spark.warehouse.run_files import last_version
from recsys_spark.warehouse.scratch import drop_scratch, runs_with_scratch, scratch_of
from recsys_spark.warehouse.tables import PUBLISHES
from tests.index_files import MODEL, make_shards, unit_vectors
from tests.made_warehouse import RUN_A, RUN_B, append_publish, publish_bundle
from tests.s3_server import copy_to, new_bucket

USERS = [f"u{number:02d}" for number in range(12)]
NOW = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of this test alone."""
    monkeypatch.setattr("recsys_spark.warehouse.whole_file.gettempdir", lambda: str(tmp_path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one published bundle, in a folder."""
    folder = tmp_path_factory.mktemp("made")
    publish_bundle(folder, RUN_A, USERS)
    return folder


@pytest.fixture(scope="module")
def published(endpoint: str, made: Path) -> ObjectPath:
    """A copy of `made` in the store.  A test leaves RUN_A the current bundle, whole."""
    root = cast(ObjectPath, new_bucket(endpoint) / "warehouse")
    copy_to(made, root)
    return root


def test_a_service_reads_a_bundle_by_its_url_and_sees_the_next(published: ObjectPath, made: Path) -> None:
    local, bundle = open_current(made), open_current(as_text(published))
    assert (bundle.root, bundle.run_id) == (published, RUN_A)
    assert bundle.candidates("u07") == local.candidates("u07")
    assert bundle.user_features("u07") == local.user_features("u07")
    assert bundle.read_table("candidates").equals(local.read_table("candidates"))
    assert bundle.related("i1", k=3) == local.related("i1", k=3)
    assert history(published) == history(made)
    assert bundle.refresh() is bundle
    n_rows = {table.name: table.n_rows for table in bundle._head.tables}
    append_publish(published, RUN_A, n_rows, kind="rollback")
    assert bundle.refresh() is not bundle


@pytest.fixture
def lists(published: ObjectPath) -> Iterator[ObjectPath]:
    """The one file of the lists, which a test may damage."""
    (file,) = (published / "tables" / "candidates" / f"run_id={RUN_A}").iterdir()
    content = file.read_bytes()
    yield file
    file.write_bytes(content)


def test_a_file_that_is_cut_is_damage(published: ObjectPath, lists: ObjectPath) -> None:
    lists.write_bytes(lists.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"candidates run_id=.*: expected \d+ bytes, got \d+"):
        open_current(published)


def test_a_file_that_was_altered_is_damage(published: ObjectPath, lists: ObjectPath) -> None:
    content = bytearray(lists.read_bytes())
    content[10] ^= 255
    lists.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match=r"candidates run_id="):
        open_current(published).read_table("candidates")


def test_a_place_without_a_warehouse_is_not_damage(s3_root: ObjectPath) -> None:
    with pytest.raises(NothingPublished, match=r"s3://shop-\d+/warehouse: expected a published bundle"):
        open_current(s3_root)


def test_a_server_that_does_not_answer_is_not_damage() -> None:
    """All are asked at once, for each tries for some seconds."""
    away = locate("s3://shop/warehouse", "http://127.0.0.1:9", "eu-central-1")
    asks: dict[str, Callable[[Location], object]] = {
        "open_current": open_current,
        "history": history,
        "put_blob": lambda root: put_blob(root, b"weights", ".safetensors"),
        "remove_tree": remove_tree,
    }
    with ThreadPoolExecutor(len(asks)) as pool:
        asked = {name: pool.submit(ask, away) for name, ask in asks.items()}
    faults = {name: one.exception() for name, one in asked.items()}
    silent = {
        name: fault
        for name, fault in faults.items()
        if not isinstance(fault, StoreFault) or "expected the object store to answer" not in str(fault)
    }
    assert silent == {}


def test_of_two_commits_on_one_version_one_is_refused(s3_root: ObjectPath, made: Path) -> None:
    copy_to(made / "tables" / "publishes", cast(ObjectPath, s3_root / "tables" / "publishes"))
    version = last_version(s3_root, "publishes")
    row = read_rows(s3_root, PUBLISHES)[-1]
    append_rows(s3_root, PUBLISHES, [row], at_version=version)
    with pytest.raises(LockedError, match="got another writer's commit"):
        append_rows(s3_root, PUBLISHES, [row], at_version=version)


def test_gc_runs_there_and_keeps_the_current_bundle(published: ObjectPath, make_config: Callable[..., Config]) -> None:
    place = [f"storage.root={published}", f"storage.endpoint={published.endpoint}", "storage.region=eu-central-1"]
    config = make_config(*place)
    assert config.root == published
    kept = open_current(published).candidates("u07")
    with warehouse_lock(published, "gc"):
        collected = collect(config, datetime.now(UTC) + timedelta(days=90))
    assert collected.kept == (RUN_A,)
    assert open_current(published).candidates("u07") == kept


def test_a_blob_is_what_was_stored(s3_root: ObjectPath, tmp_path: Path) -> None:
    blob = put_blob(s3_root, b"weights", ".safetensors")
    assert put_blob(s3_root, b"weights", ".safetensors") == blob
    assert blobs(s3_root) == [blob.rel_path]
    assert read_blob(s3_root, blob.rel_path, blob.sha256) == b"weights"
    assert check_blob(s3_root, blob.rel_path, blob.sha256, blob.n_bytes).read_bytes() == b"weights"


def test_a_blob_that_was_swapped_is_refused(s3_root: ObjectPath) -> None:
    blob = put_blob(s3_root, b"weights", ".safetensors")
    time.sleep(1.1)  # S3 gives the time of a write in seconds
    (s3_root / blob.rel_path).write_bytes(b"WEIGHTS")
    with pytest.raises(DamagedError, match="the file was swapped"):
        read_blob(s3_root, blob.rel_path, blob.sha256)
    with pytest.raises(DamagedError, match="the file was swapped"):
        check_blob(s3_root, blob.rel_path, blob.sha256, blob.n_bytes)
    put_blob(s3_root, b"weights", ".safetensors")
    assert read_blob(s3_root, blob.rel_path, blob.sha256) == b"weights"
    (s3_root / blob.rel_path).unlink()
    with pytest.raises(DamagedError, match="got none"):
        read_blob(s3_root, blob.rel_path, blob.sha256)


def test_a_copy_of_a_blob_that_was_damaged_here_is_fetched_again(s3_root: ObjectPath) -> None:
    blob = put_blob(s3_root, b"weights", ".safetensors")
    check_blob(s3_root, blob.rel_path, blob.sha256, blob.n_bytes).write_bytes(b"WEIGHTS")
    assert check_blob(s3_root, blob.rel_path, blob.sha256, blob.n_bytes).read_bytes() == b"weights"


def test_a_blob_written_piece_by_piece_is_there_once_it_is_stored(s3_root: ObjectPath) -> None:
    with NewBlob(s3_root, ".f32") as new:
        new.path.write_bytes(b"vectors")
        assert blobs(s3_root) == []
        blob = new.store()
    assert not new.path.exists()
    assert read_blob(s3_root, blob.rel_path, blob.sha256) == b"vectors"


def test_blobs_that_no_row_names_are_dropped_after_the_grace(s3_root: ObjectPath) -> None:
    kept, _ = (put_blob(s3_root, data, ".safetensors").rel_path for data in (b"1", b"2"))
    dropped = [drop_blobs(s3_root, {kept}, NOW + timedelta(hours=hours), 48) for hours in (0, 47, 48)]
    assert (dropped, blobs(s3_root)) == ([0, 0, 1], [kept])


def test_an_index_is_searched_where_its_shards_are_copied_to(s3_root: ObjectPath) -> None:
    vectors = unit_vectors(60, 8)
    rows = make_shards(s3_root, vectors)
    items = pa.table({"item_id": [f"i{at}" for at in range(60)], "item_idx": np.arange(60, dtype=np.int32)})
    for mapped in (False, True):
        index = open_shards(pa.Table.from_pylist(rows), items, MODEL, s3_root, None, None, mapped, 1)
        assert index.search(vectors[7], 1)[0].item_id == "i7"


def test_scratch_outlives_a_kill_and_is_dropped(s3_root: ObjectPath) -> None:
    scratch = scratch_of(s3_root, RUN_B, "als")
    array = np.arange(1000, dtype=np.float32).reshape(10, -1)
    scratch.write("factors", array)
    scratch.write_table("shard", pa.table({"a": [1, 2]}))
    scratch.mark("half", {"number": 3})
    again = scratch_of(s3_root, RUN_B, "als")
    np.testing.assert_array_equal(again.read("factors"), array)
    assert (again.read_table("shard").to_pydict(), again.marker("half")) == ({"a": [1, 2]}, {"number": 3})
    assert (again.marker("none"), again.read_bytes("none"), again.sha256("none")) == (None, None, "")
    assert runs_with_scratch(s3_root) == [RUN_B]
    drop_scratch(s3_root, RUN_B)
    assert runs_with_scratch(s3_root) == []
