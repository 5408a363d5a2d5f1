"""A file is whole or absent, and a copy on this machine is what the store has."""

import errno
import os
import time
from pathlib import Path

import pytest

from recsys_spark.errors import EnvironmentFault
from recsys_spark.warehouse.location import Location, ObjectPath
from recsys_spark.warehouse.whole_file import cached, download, own_folder, whole_file


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A file that is not there yet, of either kind of place."""
    root = tmp_path / "warehouse" if request.param == "folder" else request.getfixturevalue("s3_root")
    return root / "blobs" / "one.bin"


def test_whole_file_takes_its_place_when_the_block_is_left(place: Location) -> None:
    for content in (b"old", b"newer"):
        with whole_file(place, is_synced=True) as file:
            file.write_bytes(content)
            assert place.exists() == (content == b"newer")
        assert place.read_bytes() == content
    assert [one.name for one in place.parent.iterdir()] == ["one.bin"]


def test_whole_file_leaves_what_was_there_if_the_block_raises(place: Location) -> None:
    with whole_file(place) as file:
        file.write_bytes(b"old")

    def fail_halfway() -> None:
        with whole_file(place) as file:
            file.write_bytes(b"ha")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail_halfway()
    assert place.read_bytes() == b"old"
    assert [one.name for one in place.parent.iterdir()] == ["one.bin"]


def test_download_copies_more_than_one_piece(s3_root: ObjectPath, tmp_path: Path) -> None:
    content = os.urandom((16 << 20) + 7)
    (s3_root / "large").write_bytes(content)
    download(s3_root / "large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    with pytest.raises(FileNotFoundError):
        download(s3_root / "none", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("recsys_spark.warehouse.whole_file.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"recsys-spark-{os.getuid()}"


def test_cached_fetches_once_and_drops_what_nobody_asked_for(s3_root: ObjectPath, cache: Path) -> None:
    (s3_root / "a").write_bytes(b"content")
    (s3_root / "b").write_bytes(b"other")
    path = cached(s3_root / "a")
    assert (path.parent, path.read_bytes()) == (cache, b"content")
    inode = path.stat().st_ino
    assert cached(s3_root / "a").stat().st_ino == inode
    long_ago = time.time() - 4 * 86_400
    os.utime(path, (long_ago, long_ago))
    other = cached(s3_root / "b")
    assert list(cache.iterdir()) == [other]


def test_cached_keeps_files_of_one_name_apart(s3_root: ObjectPath, cache: Path) -> None:
    for place in (s3_root / "one" / "a", s3_root / "two" / "a"):
        place.write_bytes(str(place).encode())
        assert cached(place).read_bytes() == str(place).encode()
    assert len(list(cache.iterdir())) == 2


def test_cached_says_that_this_machine_is_full(
    s3_root: ObjectPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (s3_root / "a").write_bytes(b"content")
    monkeypatch.setattr("recsys_spark.warehouse.whole_file.shutil.copyfileobj", full)
    with pytest.raises(EnvironmentFault, match="expected room for a copy of a, got No space left on device"):
        cached(s3_root / "a")
    assert list(cache.iterdir()) == []


def test_own_folder_is_no_link(cache: Path) -> None:
    (cache.parent / "theirs").mkdir()
    cache.symlink_to(cache.parent / "theirs")
    with pytest.raises(EnvironmentFault, match="expected a folder of this user"):
        own_folder()


def test_cached_is_what_the_store_has_now(s3_root: ObjectPath, cache: Path) -> None:
    (s3_root / "a").write_bytes(b"content")
    cached(s3_root / "a")
    time.sleep(1.1)  # S3 gives the time of a write in seconds
    (s3_root / "a").write_bytes(b"another")
    assert cached(s3_root / "a").read_bytes() == b"another"
    (s3_root / "a").unlink()
    with pytest.raises(FileNotFoundError):
        cached(s3_root / "a")


def test_cached_fetches_anew_if_asked(s3_root: ObjectPath, cache: Path) -> None:
    (s3_root / "a").write_bytes(b"content")
    cached(s3_root / "a").write_bytes(b"damaged")
    assert cached(s3_root / "a", is_new=True).read_bytes() == b"content"


def test_cached_refuses_a_folder_that_others_can_write_to(s3_root: ObjectPath, cache: Path) -> None:
    (s3_root / "a").write_bytes(b"content")
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(EnvironmentFault, match="expected a folder of this user that no other can write to"):
        cached(s3_root / "a")
