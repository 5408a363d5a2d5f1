"""A landing folder is listed without following links; what was taken in once is known by its content."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.ingest import landing
from recsys_spark.ingest.landing import Listed, Sorted, list_landing, sort_listed
from recsys_spark.warehouse.location import ObjectPath
from tests.s3_server import copy_to


def _write(folder: Path, path: str, text: str = "") -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text or path)
    return target


def _row(path: Path, folder: Path, **fields: Any) -> dict[str, Any]:
    """A ledger row of a file as it lies there."""
    found = path.stat()
    return {
        "path": str(path.relative_to(folder)),
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "state": "ingested",
        "reason": None,
        "mapping_hash": "m",
        "n_quarantined": 0,
    } | fields


def _sort(folder: Path, ledger: list[dict[str, Any]], mapping_hash: str = "m") -> tuple[list[str], list[str]]:
    found: Sorted = sort_listed(folder, list_landing(folder).files, ledger, mapping_hash, 2)
    assert [one.index for one in found.new] == list(range(len(found.new)))
    return [one.path for one in found.new], [one.path for one in found.copies]


def test_list_landing_lists_finished_files_in_the_order_of_paths(tmp_path: Path) -> None:
    for path in (
        "b.jsonl",
        "2025/01/a.jsonl",
        "a.jsonl",
        ".hidden",
        "_SUCCESS",
        "_tmp/x.jsonl",
        "c.jsonl.tmp",
        "d.part",
    ):
        _write(tmp_path, path)
    _write(tmp_path, ".a.jsonl.crc")
    listing = list_landing(tmp_path)
    assert [one.path for one in listing.files] == ["2025/01/a.jsonl", "a.jsonl", "b.jsonl"]
    assert listing.warnings == ()
    found = (tmp_path / "a.jsonl").stat()
    assert listing.files[1] == Listed("a.jsonl", found.st_size, found.st_mtime_ns)


def test_list_landing_reports_what_is_no_regular_file(tmp_path: Path) -> None:
    """Security 12: a link is neither read nor walked through."""
    outside = _write(tmp_path / "outside", "secret.jsonl").parent
    folder = tmp_path / "landing"
    _write(folder, "a.jsonl")
    (folder / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    _write(folder, "two\nlines.jsonl")
    listing = list_landing(folder)
    assert [one.path for one in listing.files] == ["a.jsonl"]
    assert len(listing.warnings) == 4
    assert sum("a symbolic link" in warning for warning in listing.warnings) == 2
    assert not any("\n" in warning for warning in listing.warnings)


def test_sort_listed_takes_new_files(tmp_path: Path) -> None:
    _write(tmp_path, "b")
    _write(tmp_path, "a")
    assert _sort(tmp_path, []) == (["a", "b"], [])


def test_sort_listed_passes_a_file_that_still_lies_there_without_hashing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = [_row(_write(tmp_path, f"{number}"), tmp_path) for number in range(50)]
    hashed: list[str] = []
    monkeypatch.setattr(landing, "_hash", lambda folder, one: hashed.append(one.path))
    assert _sort(tmp_path, ledger) == ([], [])
    assert hashed == []


def test_landing_of_a_bucket_has_the_files_of_a_folder(tmp_path: Path, s3_root: ObjectPath) -> None:
    for path in ("b.jsonl", "2025/01/a b#1?%41.jsonl", ".hidden", "_tmp/x.jsonl", "c.part", "d/.e/f", "copy.jsonl"):
        _write(tmp_path, path, "same" if path in ("b.jsonl", "copy.jsonl") else "")
    (tmp_path / "empty.jsonl").touch()
    copy_to(tmp_path, s3_root)
    folder, bucket = list_landing(tmp_path), list_landing(s3_root)
    assert [(one.path, one.n_bytes) for one in bucket.files] == [(one.path, one.n_bytes) for one in folder.files]
    assert bucket.warnings == ()
    found, expected = (
        sort_listed(place, listing.files, [], "m", 2) for place, listing in ((s3_root, bucket), (tmp_path, folder))
    )
    assert [(one.path, one.sha256) for one in found.new] == [(one.path, one.sha256) for one in expected.new]
    assert [one.path for one in found.copies] == [one.path for one in expected.copies] == ["copy.jsonl"]


def test_sort_listed_reports_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "a")
    _write(tmp_path, "secret")
    real = landing.open_landed

    def guarded(folder: Path, path: str) -> Any:
        if path == "secret":
            raise PermissionError(13, "Permission denied")
        return real(folder, path)

    monkeypatch.setattr(landing, "open_landed", guarded)
    found = sort_listed(tmp_path, list_landing(tmp_path).files, [], "m", 2)
    assert [one.path for one in found.new] == ["a"]
    assert [warning.split(": ")[0] for warning in found.warnings] == [f"{tmp_path}/secret"]


def test_sort_listed_knows_content_under_any_name(tmp_path: Path) -> None:
    """Fault row 15: the copy is reported once, and never again."""
    ledger = [_row(_write(tmp_path, "a", "same"), tmp_path)]
    copy = _write(tmp_path, "copy", "same")
    assert _sort(tmp_path, ledger) == ([], ["copy"])
    ledger.append(_row(copy, tmp_path, state="duplicate"))
    assert _sort(tmp_path, ledger) == ([], [])
    os.utime(copy, ns=(1, 1))
    assert _sort(tmp_path, ledger) == ([], [])


def test_sort_listed_knows_an_object_that_was_stored_again(
    s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that moved from a folder to a bucket has other times; each is fetched once, not once a day."""
    (s3_root / "a").write_bytes(b"same")
    (listed,) = list_landing(s3_root).files
    known = {"path": "a", "sha256": sha256(b"same").hexdigest(), "bytes": 4, "mapping_hash": "m", "n_quarantined": 0}
    ledger: list[dict[str, Any]] = [known | {"mtime_ns": 1, "state": "ingested", "reason": None}]
    (copy,) = sort_listed(s3_root, [listed], ledger, "m", 2).copies
    assert (copy.path, copy.mtime_ns) == ("a", listed.mtime_ns)
    ledger.append(known | {"mtime_ns": copy.mtime_ns, "state": "duplicate", "reason": "known_content"})
    monkeypatch.setattr(landing, "_hash", None)
    assert sort_listed(s3_root, [listed], ledger, "m", 2) == Sorted((), (), ())


def test_sort_listed_plans_equal_new_files_once(tmp_path: Path) -> None:
    _write(tmp_path, "b", "same")
    _write(tmp_path, "a", "same")
    assert _sort(tmp_path, []) == (["a"], ["b"])


def test_sort_listed_takes_a_file_that_was_replaced(tmp_path: Path) -> None:
    ledger = [_row(_write(tmp_path, "a", "one"), tmp_path)]
    _write(tmp_path, "a", "another")
    assert _sort(tmp_path, ledger) == (["a"], [])


@pytest.mark.parametrize(
    ("fields", "tried"),
    [
        ({"state": "quarantined", "reason": "corrupt"}, False),
        ({"state": "quarantined", "reason": "corrupt", "mapping_hash": "older"}, True),
        ({"state": "quarantined", "reason": "mutated"}, True),
        ({"state": "refused", "reason": "corrupt"}, True),
        ({"state": "ingested", "mapping_hash": "older"}, False),
    ],
)
def test_sort_listed_tries_again_only_what_may_come_out_differently(
    tmp_path: Path, fields: dict[str, Any], tried: bool
) -> None:
    ledger = [_row(_write(tmp_path, "a"), tmp_path, **fields)]
    assert _sort(tmp_path, ledger) == (["a"] if tried else [], [])


@pytest.mark.parametrize(
    ("n_quarantined", "mapping_hash", "tried"),
    [(0, "older", False), (2, "older", True), (2, "foreign", False), (2, "m", False)],
)
def test_sort_listed_tries_a_file_with_refused_lines_again_under_settings_that_may_let_them_in(
    tmp_path: Path, n_quarantined: int, mapping_hash: str, tried: bool
) -> None:
    path = _write(tmp_path, "a")
    ledger = [_row(path, tmp_path, n_quarantined=n_quarantined, mapping_hash=mapping_hash)]
    listed = list_landing(tmp_path).files
    found = sort_listed(tmp_path, listed, ledger, "m", 2, frozenset({"older"}))
    assert [one.path for one in found.new] == (["a"] if tried else [])
    # Once it was read under the settings of now, it is settled whatever was refused.
    ledger.append(_row(path, tmp_path, n_quarantined=n_quarantined))
    assert sort_listed(tmp_path, listed, ledger, "m", 2, frozenset({"older"})).new == ()


def test_sort_listed_tries_content_again_when_only_a_copy_of_it_was_recorded(tmp_path: Path) -> None:
    # The first file was set aside as mutated and is gone; its recorded copy must not be lost with it.
    copy = _write(tmp_path, "copy", "same")
    gone = _row(copy, tmp_path, state="quarantined", reason="mutated") | {"path": "gone"}
    assert _sort(tmp_path, [gone, _row(copy, tmp_path, state="duplicate")]) == (["copy"], [])


def test_sort_listed_tries_a_file_again_that_was_renamed_to_another_format(tmp_path: Path) -> None:
    ledger = [_row(_write(tmp_path, "a.txt", "same"), tmp_path, state="quarantined", reason="unknown_format")]
    (tmp_path / "a.txt").rename(tmp_path / "a.jsonl")
    assert _sort(tmp_path, ledger) == (["a.jsonl"], [])
    (tmp_path / "a.jsonl").rename(tmp_path / "b.txt")
    assert _sort(tmp_path, ledger) == ([], ["b.txt"])
