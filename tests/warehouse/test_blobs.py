"""What is read is what was stored, or nothing; and what nobody names goes, when it is old enough."""

import json
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.warehouse.blobs import (
    Blob,
    BlobColumns,
    NewBlob,
    blobs,
    check_blob,
    drop_blobs,
    named_blobs,
    put_blob,
    read_blob,
)
from recsys_spark.warehouse.delta_rs import table_path

DATA = np.random.default_rng(1).bytes(1000)
SHA = sha256(DATA).hexdigest()
REL_PATH = f"blobs/{SHA}.safetensors"
NOW = datetime(2025, 3, 1, tzinfo=UTC)
MODEL, VECTORS = BlobColumns("rel_path", "sha256", "n_bytes"), BlobColumns("vectors_rel_path", "", "")


def _put(root: Path, data: bytes) -> str:
    return put_blob(root, data, ".safetensors").rel_path


def _drop(root: Path, keep: set[str], hours: float) -> int:
    """What a collection that many hours after NOW drops, with a grace of 48 hours."""
    return drop_blobs(root, keep, NOW + timedelta(hours=hours), 48)


def test_put_blob_stores_what_read_blob_gives(tmp_path: Path) -> None:
    blob = put_blob(tmp_path, DATA, ".safetensors")
    assert blob == Blob(REL_PATH, SHA, 1000)
    assert (tmp_path / REL_PATH).read_bytes() == DATA
    assert read_blob(tmp_path, blob.rel_path, blob.sha256) == DATA
    assert blobs(tmp_path) == [REL_PATH]


def test_put_blob_stores_a_file(tmp_path: Path) -> None:
    (tmp_path / "trained").write_bytes(DATA)
    assert put_blob(tmp_path / "warehouse", tmp_path / "trained", ".safetensors") == Blob(REL_PATH, SHA, 1000)
    assert read_blob(tmp_path / "warehouse", REL_PATH, SHA) == DATA


def test_put_blob_writes_nothing_the_second_time(tmp_path: Path) -> None:
    first = put_blob(tmp_path, DATA, ".safetensors")
    inode = (tmp_path / REL_PATH).stat().st_ino
    assert put_blob(tmp_path, DATA, ".safetensors") == first
    assert (tmp_path / REL_PATH).stat().st_ino == inode  # not replaced
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [f"{SHA}.safetensors"]


def test_put_blob_mends_a_damaged_one(tmp_path: Path) -> None:
    put_blob(tmp_path, DATA, ".safetensors")
    (tmp_path / REL_PATH).write_bytes(DATA[:-1])
    put_blob(tmp_path, DATA, ".safetensors")
    assert read_blob(tmp_path, REL_PATH, SHA) == DATA


def test_put_blob_syncs_the_whole_file_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def sync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, (tmp_path / REL_PATH).exists()))

    monkeypatch.setattr("recsys_spark.warehouse.whole_file.os.fsync", sync)
    put_blob(tmp_path, DATA, ".safetensors")
    assert seen == [(1000, False)]


def test_put_blob_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr("recsys_spark.warehouse.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="disk is full"):
        put_blob(tmp_path, DATA, ".safetensors")
    assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)], ids=oct)
def test_put_blob_gives_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        put_blob(tmp_path, DATA, ".safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / REL_PATH).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("suffix", ["", ".", "/x", "/../../x", ".Bin", ".a b", ".a\n"])
def test_put_blob_refuses_a_suffix_that_is_none(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ContractError, match=r"expected a suffix such as '\.safetensors'"):
        put_blob(tmp_path, DATA, suffix)
    assert list(tmp_path.iterdir()) == []


def test_put_blob_does_not_follow_a_link_out_of_the_warehouse(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="expected a path inside"):
        put_blob(tmp_path / "warehouse", DATA, ".safetensors")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_read_blob_refuses_every_flipped_bit(tmp_path: Path) -> None:
    """M2: torch.load took 289 of 300 flips for weights."""
    put_blob(tmp_path, DATA, ".safetensors")
    for bit in np.random.default_rng(2).choice(len(DATA) * 8, 300, replace=False):
        flipped = bytearray(DATA)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / REL_PATH).write_bytes(flipped)
        with pytest.raises(DamagedError, match=rf"{REL_PATH}: expected sha256 {SHA}, got [0-9a-f]{{64}} over 1000"):
            read_blob(tmp_path, REL_PATH, SHA)


def test_read_blob_refuses_every_cut(tmp_path: Path) -> None:
    put_blob(tmp_path, DATA, ".safetensors")
    for length in np.random.default_rng(3).choice(len(DATA), 60, replace=False):
        (tmp_path / REL_PATH).write_bytes(DATA[:length])
        with pytest.raises(DamagedError, match=rf"over {length} bytes.*run the date again.*rollback"):
            read_blob(tmp_path, REL_PATH, SHA)


def test_read_blob_refuses_another_blob_in_its_place(tmp_path: Path) -> None:
    other = put_blob(tmp_path, b"yesterday's weights", ".safetensors")
    put_blob(tmp_path, DATA, ".safetensors")
    (tmp_path / other.rel_path).replace(tmp_path / REL_PATH)
    with pytest.raises(DamagedError, match=f"expected sha256 {SHA}, got {other.sha256} over 19 bytes"):
        read_blob(tmp_path, REL_PATH, SHA)


def test_read_blob_refuses_a_path_that_names_another_blob(tmp_path: Path) -> None:
    other = put_blob(tmp_path, b"yesterday's weights", ".safetensors")
    put_blob(tmp_path, DATA, ".safetensors")
    with pytest.raises(DamagedError, match=f"expected sha256 {SHA}, got {other.sha256}"):
        read_blob(tmp_path, other.rel_path, SHA)


def test_read_blob_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=f"{REL_PATH}: expected a file with sha256 {SHA}, got none; run the date"):
        read_blob(tmp_path, REL_PATH, SHA)


def test_read_blob_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / REL_PATH).mkdir(parents=True)
    with pytest.raises(DamagedError, match="expected a readable file, got Is a directory; run the date"):
        read_blob(tmp_path, REL_PATH, SHA)


@pytest.mark.parametrize("rel_path", ["../secret", "/etc/hostname", "blobs/../../secret", "blobs/link", "", "a\0b"])
def test_read_blob_never_leaves_the_warehouse(tmp_path: Path, rel_path: str) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    (tmp_path / "warehouse" / "blobs").mkdir(parents=True)
    (tmp_path / "warehouse" / "blobs" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedError, match="expected a path inside"):
        read_blob(tmp_path / "warehouse", rel_path, SHA)


def test_blobs_lists_whole_ones_in_order(tmp_path: Path) -> None:
    assert blobs(tmp_path) == []
    stored = [put_blob(tmp_path, bytes([i]), ".faiss").rel_path for i in range(5)]
    (tmp_path / "blobs" / f".{SHA}.faiss.{'0' * 32}").write_bytes(b"half")
    (tmp_path / "blobs" / "README.txt").write_bytes(b"of the team")
    assert blobs(tmp_path) == sorted(stored)


def test_drop_blobs_drops_what_was_not_kept_for_the_grace(tmp_path: Path) -> None:
    kept, old, young = (_put(tmp_path, bytes([number])) for number in range(3))
    assert _drop(tmp_path, {kept, young}, 0) == 0
    assert _drop(tmp_path, {kept}, 47) == 0
    assert blobs(tmp_path) == sorted([kept, old, young])
    assert _drop(tmp_path, {kept}, 48) == 1
    assert blobs(tmp_path) == sorted([kept, young])


def test_drop_blobs_counts_the_grace_from_when_a_blob_was_last_kept(tmp_path: Path) -> None:
    rel_path = _put(tmp_path, DATA)
    assert [_drop(tmp_path, set(), 0), _drop(tmp_path, {rel_path}, 24), _drop(tmp_path, set(), 49)] == [0, 0, 0]
    assert [_drop(tmp_path, set(), 96), _drop(tmp_path, set(), 98)] == [0, 1]


@pytest.mark.parametrize("content", ["", "[]", f'{{"{SHA}.safetensors": 1}}', f'{{"{SHA}.safetensors": "soon"}}'])
def test_drop_blobs_drops_nothing_by_times_that_it_cannot_read(tmp_path: Path, content: str) -> None:
    _put(tmp_path, DATA)
    _drop(tmp_path, set(), 0)
    (tmp_path / "blobs" / "unused.json").write_text(content)
    assert [_drop(tmp_path, set(), 100), _drop(tmp_path, set(), 148)] == [0, 1]


def test_drop_blobs_reads_a_time_without_a_zone(tmp_path: Path) -> None:
    _put(tmp_path, DATA)
    (tmp_path / "blobs" / "unused.json").write_text(json.dumps({f"{SHA}.safetensors": "2025-02-01T00:00:00"}))
    assert _drop(tmp_path, set(), 0) == 1


def test_new_blob_is_seen_once_it_is_stored(tmp_path: Path) -> None:
    with NewBlob(tmp_path, ".f32") as new:
        new.path.write_bytes(DATA)
        assert blobs(tmp_path) == []
        blob = new.store()
    assert blob == Blob(f"blobs/{SHA}.f32", SHA, 1000)
    assert read_blob(tmp_path, blob.rel_path, blob.sha256) == DATA
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [f"{SHA}.f32"]


def test_new_blob_of_the_same_content_is_stored_once(tmp_path: Path) -> None:
    with NewBlob(tmp_path, ".f32") as first, NewBlob(tmp_path, ".f32") as second:
        assert first.path != second.path  # two attempts of one task
        for new in (first, second):
            new.path.write_bytes(DATA)
        assert first.store() == second.store()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [f"{SHA}.f32"]


def test_new_blob_leaves_nothing_if_it_is_not_stored(tmp_path: Path) -> None:
    with NewBlob(tmp_path, ".f32") as new:
        new.path.write_bytes(DATA)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_drop_blobs_takes_a_new_blob_that_a_kill_left(tmp_path: Path) -> None:
    left = NewBlob(tmp_path, ".f32").path
    left.write_bytes(b"half")
    assert [_drop(tmp_path, set(), 0), _drop(tmp_path, set(), 48)] == [0, 1]


def test_check_blob_gives_the_path_of_what_was_stored(tmp_path: Path) -> None:
    put_blob(tmp_path, DATA, ".safetensors")
    assert check_blob(tmp_path, REL_PATH, SHA, 1000) == tmp_path / REL_PATH


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (DATA[:-1], "got 999 with another"),
        (DATA[:-1] + bytes([DATA[-1] ^ 1]), f"got 1000 with {sha256(DATA[:-1] + bytes([DATA[-1] ^ 1])).hexdigest()}"),
        (None, "got none"),
    ],
    ids=["cut", "flipped", "missing"],
)
def test_check_blob_refuses_what_was_not_stored(tmp_path: Path, data: bytes | None, found: str) -> None:
    put_blob(tmp_path, DATA, ".safetensors")
    (tmp_path / REL_PATH).unlink()
    if data is not None:
        (tmp_path / REL_PATH).write_bytes(data)
    with pytest.raises(DamagedError, match=found):
        check_blob(tmp_path, REL_PATH, SHA, 1000)


def test_drop_blobs_takes_what_a_kill_left_and_nothing_of_others(tmp_path: Path) -> None:
    _put(tmp_path, DATA)
    folder = tmp_path / "blobs"
    for name in (f".{SHA}.faiss.{'0' * 32}", f".unused.json.{'1' * 32}", "README.txt"):
        (folder / name).write_bytes(b"half")
    assert [_drop(tmp_path, {REL_PATH}, 0), _drop(tmp_path, {REL_PATH}, 48)] == [0, 2]
    assert {path.name for path in folder.iterdir()} == {f"{SHA}.safetensors", "unused.json", "README.txt"}


def test_drop_blobs_of_a_new_warehouse_are_none(tmp_path: Path) -> None:
    assert drop_blobs(tmp_path, set(), NOW, 48) == 0


def _name_blobs(root: Path, table: str, run_id: str, rel_paths: list[str], **more: list[str]) -> None:
    rows = pa.table({"rel_path": rel_paths, "run_id": [run_id] * len(rel_paths)} | more)
    write_deltalake(table_path(root, table), rows, mode="append", partition_by=["run_id"])


def test_named_blobs_are_those_of_all_rows_of_all_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_spark.warehouse.blobs.BLOB_COLUMNS", {})
    assert named_blobs(tmp_path, ("models", "shards")) == set()
    monkeypatch.setattr("recsys_spark.warehouse.blobs.BLOB_COLUMNS", {"models": (MODEL,), "shards": (MODEL, VECTORS)})
    _name_blobs(tmp_path, "models", "run1", ["blobs/a"])
    _name_blobs(tmp_path, "models", "run2", ["blobs/b", "blobs/a"])
    _name_blobs(tmp_path, "shards", "run1", ["blobs/c"], vectors_rel_path=["blobs/e"])
    _name_blobs(tmp_path, "other", "run1", ["blobs/d"])
    assert named_blobs(tmp_path, ("models", "shards")) == {"blobs/a", "blobs/b", "blobs/c", "blobs/e"}


def test_named_blobs_of_a_table_that_is_gone_are_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_spark.warehouse.blobs.BLOB_COLUMNS", {"models": (MODEL,)})
    with pytest.raises(DamagedError, match="models: expected a Delta table"):
        named_blobs(tmp_path, ("models", "shards"))
