"""What a step keeps for itself is whole or absent, and gone when it is told to go."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.warehouse.scratch import Scratch, drop_scratch, runs_with_scratch, scratch_of

RUN = "20250301-001-0123abcd"


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return scratch_of(tmp_path, RUN, "als")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.empty((0, 4), np.float32),
        np.empty(0, np.int32),
        np.array([1 << 40], np.int64),
    ],
    ids=["matrix", "no-rows", "nothing", "long"],
)
def test_read_gives_the_array_that_was_written(scratch: Scratch, array: np.ndarray) -> None:
    scratch.write("users-00000", array)
    found = scratch.read("users-00000")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_write_takes_the_place_of_the_array_before_and_leaves_its_readers_alone(scratch: Scratch) -> None:
    scratch.write("a", np.zeros(3))
    held, before = scratch.read("a"), scratch.sha256("a")
    scratch.write("a", np.ones(4))
    assert scratch.read("a").tolist() == [1.0] * 4
    assert held.tolist() == [0.0] * 3
    assert scratch.sha256("a") != before


def test_write_that_fails_leaves_the_array_before_and_nothing_else(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.write("a", np.zeros(3))

    def half(file, array, allow_pickle):
        file.write(b"half an array")
        raise OSError("disk is full")

    monkeypatch.setattr("recsys_spark.warehouse.scratch.np.save", half)
    with pytest.raises(OSError, match="disk is full"):
        scratch.write("a", np.ones(3))
    assert scratch.read("a").tolist() == [0.0] * 3
    assert [path.name for path in scratch.folder.iterdir()] == ["a.npy"]


def test_read_refuses_what_is_not_a_plain_array(scratch: Scratch) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        scratch.write("a", np.array([object()]))
    assert scratch.sha256("a") == ""


def test_sha256_is_that_of_the_content_and_empty_for_what_is_not_there(scratch: Scratch) -> None:
    assert scratch.sha256("a") == ""
    scratch.write("a", np.zeros(3))
    scratch.write("b", np.zeros(3))
    assert scratch.sha256("a") == scratch.sha256("b") != ""
    path = scratch.folder / "b.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert scratch.sha256("a") != scratch.sha256("b")


def test_remove_takes_one_array_and_may_be_asked_twice(scratch: Scratch) -> None:
    scratch.write("a", np.zeros(3))
    scratch.write("ab", np.zeros(3))
    for _ in range(2):
        scratch.remove("a")
        assert [path.name for path in scratch.folder.iterdir()] == ["ab.npy"]


def test_marker_is_what_was_marked_last(scratch: Scratch) -> None:
    assert scratch.marker("half") is None
    scratch.mark("half", {"n": 1, "known": [1, 2], "nan": float("nan")})
    scratch.mark("half", {"n": 2, "hashes": ["a"]})
    assert scratch.marker("half") == {"n": 2, "hashes": ["a"]}
    assert [path.name for path in scratch.folder.iterdir()] == ["half.json"]


@pytest.mark.parametrize("damaged", [b"", b'{"n": ', b"\xff\xfe\x00", b"[1, 2]", b"null"])
def test_marker_is_none_if_it_cannot_be_read(scratch: Scratch, damaged: bytes) -> None:
    scratch.mark("half", {"n": 1})
    (scratch.folder / "half.json").write_bytes(damaged)
    assert scratch.marker("half") is None


def test_read_table_gives_the_table_that_was_written_last(scratch: Scratch) -> None:
    lists = pa.array([[1, 2], [], None], pa.large_list(pa.int32()))
    scratch.write_table("users-00000", pa.table({"old": [1]}))
    scratch.write_table("users-00000", pa.table({"user_idx": [3, 1, 2], "items": lists}))
    found = scratch.read_table("users-00000")
    assert found.schema == pa.schema([("user_idx", pa.int64()), ("items", lists.type)])
    assert found.to_pydict() == {"user_idx": [3, 1, 2], "items": [[1, 2], [], None]}
    assert [path.name for path in scratch.folder.iterdir()] == ["users-00000.parquet"]


def test_write_table_that_fails_leaves_the_table_before(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch.write_table("a", pa.table({"x": [1]}))

    def half(table, path):
        path.write_bytes(b"PAR1 and no more")
        raise OSError("disk is full")

    monkeypatch.setattr("recsys_spark.warehouse.scratch.pq.write_table", half)
    with pytest.raises(OSError, match="disk is full"):
        scratch.write_table("a", pa.table({"x": [2]}))
    assert scratch.read_table("a").to_pydict() == {"x": [1]}
    assert [path.name for path in scratch.folder.iterdir()] == ["a.parquet"]


def test_read_bytes_gives_what_was_written_last_and_none_of_what_is_not_there(scratch: Scratch) -> None:
    assert scratch.read_bytes("last-0001") is None
    scratch.write_bytes("last-0001", b"old")
    scratch.write_bytes("last-0001", b"\x00new")
    scratch.write_bytes("empty", b"")
    assert scratch.read_bytes("last-0001") == b"\x00new"
    assert scratch.read_bytes("empty") == b""
    assert sorted(path.name for path in scratch.folder.iterdir()) == ["empty", "last-0001"]


def test_write_bytes_is_on_disk_before_it_takes_its_place(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch.write_bytes("a", b"old")
    seen, sync = [], os.fsync

    def watched(number: int) -> None:
        seen.append((os.fstat(number).st_size, scratch.read_bytes("a")))
        sync(number)

    monkeypatch.setattr("recsys_spark.warehouse.whole_file.os.fsync", watched)
    scratch.write_bytes("a", b"newer")
    scratch.mark("marker", {})
    assert seen == [(len(b"newer"), b"old"), (len(b"{}"), b"newer")]


def test_keep_only_removes_others_of_these_prefixes(scratch: Scratch) -> None:
    names = ["last-0001", "last-0002", "best-0001", "job.json", "a-last-0001"]
    for name in names:
        scratch.write_bytes(name, b"x")
    scratch.keep_only(("last-", "best-"), {"last-0002": "its hash", "best-0009": "of none"})
    assert sorted(path.name for path in scratch.folder.iterdir()) == ["a-last-0001", "job.json", "last-0002"]


def test_drop_removes_one_step_and_drop_scratch_a_run(tmp_path: Path) -> None:
    steps = [scratch_of(tmp_path, run, step) for run, step in ((RUN, "als"), (RUN, "ann"), ("other", "als"))]
    for one in steps:
        one.write("a", np.zeros(1))
    steps[0].drop()
    steps[0].drop()
    assert [one.folder.exists() for one in steps] == [False, True, True]
    drop_scratch(tmp_path, RUN)
    drop_scratch(tmp_path, RUN)
    assert runs_with_scratch(tmp_path) == ["other"]


def test_runs_with_scratch_of_a_new_warehouse_are_none(tmp_path: Path) -> None:
    assert runs_with_scratch(tmp_path) == []


def test_scratch_of_is_found_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = scratch_of(Path("warehouse"), RUN, "als")
    relative.write("a", np.zeros(2))
    monkeypatch.chdir("/")
    assert relative.read("a").tolist() == [0.0, 0.0]
