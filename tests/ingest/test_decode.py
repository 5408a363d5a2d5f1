"""A file is proven readable from its first byte to its last, under limits, or it is set aside whole."""

import gzip
import os
import resource
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_spark.ingest.decode import (
    FileFault,
    Layout,
    Limits,
    PlannedFile,
    check_size,
    layout_of,
    open_landed,
    open_object,
    open_planned,
    prove_readable,
    read_pieces,
)
from recsys_spark.warehouse.location import ObjectPath
from tests.event_files import LIMITS, planned, zstd

TEXT = bytes(range(256)) * 400
GZIP, ZSTD, PLAIN = Layout("jsonl", "gzip"), Layout("jsonl", "zstd"), Layout("jsonl", "")


def _read(path: Path, layout: Layout, limits: Limits = LIMITS) -> bytes:
    with open_landed(path.parent, path.name) as file:
        return b"".join(read_pieces(file, layout, limits))


def _reason(path: Path, layout: Layout, limits: Limits = LIMITS) -> str:
    with pytest.raises(FileFault) as caught, open_landed(path.parent, path.name) as file:
        prove_readable(file, planned(path), layout, limits)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "wanted", "layout"),
    [
        ("a.jsonl", "auto", Layout("jsonl", "")),
        ("A.NDJSON.GZ", "auto", Layout("jsonl", "gzip")),
        ("x/b.csv.zst", "auto", Layout("csv", "zstd")),
        ("b.tsv", "auto", Layout("csv", "")),
        ("c.parquet", "auto", Layout("parquet", "")),
        ("access.log.gz", "jsonl", Layout("jsonl", "gzip")),
        ("2025-01-01", "csv", Layout("csv", "")),
    ],
)
def test_layout_of_reads_the_name(name: str, wanted: str, layout: Layout) -> None:
    assert layout_of(name, wanted) == layout


@pytest.mark.parametrize(
    ("name", "wanted"), [("README.txt", "auto"), ("a.jsonl.bz2", "jsonl"), ("a.parquet.gz", "auto"), ("a", "auto")]
)
def test_layout_of_refuses_what_it_cannot_read(name: str, wanted: str) -> None:
    with pytest.raises(FileFault, match="unknown_format"):
        layout_of(name, wanted)


@pytest.mark.parametrize(("layout", "data"), [(PLAIN, TEXT), (GZIP, gzip.compress(TEXT)), (ZSTD, zstd(TEXT))])
def test_read_pieces_gives_the_content(tmp_path: Path, layout: Layout, data: bytes) -> None:
    (tmp_path / "f").write_bytes(data)
    assert _read(tmp_path / "f", layout) == TEXT


@pytest.mark.parametrize(("layout", "data"), [(GZIP, gzip.compress(TEXT)), (ZSTD, zstd(TEXT))])
def test_read_pieces_joins_members(tmp_path: Path, layout: Layout, data: bytes) -> None:
    (tmp_path / "f").write_bytes(data + data)
    assert _read(tmp_path / "f", layout) == TEXT + TEXT


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(codec=st.sampled_from([GZIP, ZSTD]), share=st.floats(0, 0.999))
def test_prove_readable_refuses_every_cut(tmp_path: Path, codec: Layout, share: float) -> None:
    whole = gzip.compress(TEXT) if codec is GZIP else zstd(TEXT)
    (tmp_path / "f").write_bytes(whole[: int(len(whole) * share)])
    assert _reason(tmp_path / "f", codec) in ("truncated", "corrupt")


@pytest.mark.parametrize("at", [-8, -4, 400])
def test_prove_readable_refuses_a_flipped_bit_when_gzip(tmp_path: Path, at: int) -> None:
    data = bytearray(gzip.compress(TEXT))
    data[at] ^= 1
    (tmp_path / "f").write_bytes(data)
    assert _reason(tmp_path / "f", GZIP) == "corrupt"


@pytest.mark.parametrize("layout", [GZIP, ZSTD])
def test_prove_readable_refuses_an_empty_file_when_compressed(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert _reason(tmp_path / "f", layout) == "truncated"


def test_prove_readable_bounds_expansion_only_where_it_can_do_harm(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(gzip.compress(b"\n" * (8 << 20)))
    (tmp_path / "bomb").write_bytes(gzip.compress(b"\n" * (32 << 20)))
    with open_landed(tmp_path, "small") as file:
        prove_readable(file, planned(tmp_path / "small"), GZIP, LIMITS)
    assert _reason(tmp_path / "bomb", GZIP) == "expansion"


def test_check_size_bounds_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 2000)
    check_size(planned(tmp_path / "f"), Limits(2000, 1 << 30, 200, 100))
    with pytest.raises(FileFault, match="too_large"):
        check_size(planned(tmp_path / "f"), Limits(1999, 1 << 30, 200, 100))


def test_prove_readable_bounds_what_is_decompressed(tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(gzip.compress(os.urandom(2000)))
    assert _reason(tmp_path / "g", GZIP, Limits(1 << 30, 1999, 200, 100)) == "too_large"


def test_prove_readable_reads_every_page_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": list(range(50_000))}), path, row_group_size=5000, write_page_checksum=True)
    layout = Layout("parquet", "")
    with open_landed(tmp_path, path.name) as file:
        prove_readable(file, planned(path), layout, LIMITS)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (bytes(flipped), whole[: len(whole) // 2], b"", b"not parquet at all"):
        path.write_bytes(damaged)
        assert _reason(path, layout) == "corrupt"


def test_prove_readable_finds_another_content_than_planned(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\n")
    plan = planned(path)
    for content in (b"two\n", b"longer\n"):
        path.write_bytes(content)
        with pytest.raises(FileFault, match="mutated"), open_landed(tmp_path, "f") as file:
            prove_readable(file, plan, PLAIN, LIMITS)


def test_open_landed_follows_no_link(tmp_path: Path) -> None:
    """Security 12: neither a linked file nor a linked folder leads out of the landing folder."""
    outside, landing = tmp_path / "outside", tmp_path / "landing"
    outside.mkdir()
    landing.mkdir()
    (outside / "secret.jsonl").write_text("{}\n")
    (landing / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (landing / "folder").symlink_to(outside)
    os.mkfifo(landing / "pipe.jsonl")
    for path in ("link.jsonl", "folder/secret.jsonl", "pipe.jsonl", "../outside/secret.jsonl", "/etc/passwd", "gone"):
        with pytest.raises(FileFault, match="mutated"):
            open_landed(landing, path)


def test_planned_file_names_its_place() -> None:
    assert PlannedFile(3, "a/b.jsonl", "0" * 64, 5).mtime_ns == 0


def _landed_object(root: ObjectPath, data: bytes) -> PlannedFile:
    (root / "a.gz").write_bytes(data)
    return PlannedFile(0, "a.gz", sha256(data).hexdigest(), len(data))


def test_open_planned_gives_an_object_as_it_was_fetched(s3_root: ObjectPath) -> None:
    plan = _landed_object(s3_root, gzip.compress(TEXT))
    with open_planned(s3_root, plan) as file:
        (s3_root / "a.gz").write_bytes(b"another")
        prove_readable(file, plan, GZIP, LIMITS)
        assert b"".join(read_pieces(file, GZIP, LIMITS)) == TEXT
    with pytest.raises(FileFault, match=r"mutated: expected .* bytes as listed, got 7"):
        open_planned(s3_root, plan)
    (s3_root / "a.gz").unlink()
    with pytest.raises(FileFault, match="mutated: expected the file that was listed, got none"):
        open_planned(s3_root, plan)


def test_open_planned_raises_where_the_copy_finds_no_room(s3_root: ObjectPath) -> None:
    plan = _landed_object(s3_root, os.urandom(5000))
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, bounds[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            open_planned(s3_root, plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)


@pytest.mark.parametrize("refusal", ["ACCESS_DENIED during HeadObject", "INVALID_OBJECT_STATE during GetObject"])
def test_an_object_that_alone_may_not_be_read_is_no_fault_of_the_store(
    s3_root: ObjectPath, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise OSError(f"When reading information: AWS Error {refusal} operation: No response body.")

    monkeypatch.setattr(ObjectPath, "open", refused)
    with pytest.raises(PermissionError), open_object(s3_root / "a.gz"):
        pass


def test_an_object_that_goes_while_it_is_read_is_gone(s3_root: ObjectPath) -> None:
    plan = _landed_object(s3_root, TEXT)
    with pytest.raises(FileFault, match="mutated"), open_object(s3_root / plan.path):
        raise OSError("When reading: AWS Error NO_SUCH_KEY during GetObject operation")
