"""Some lines of some files of every kind, and nothing that takes long or follows a link."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.cli.init.sample import FILES_PER_KIND, ROWS_PER_FILE, read_samples


def write(path: Path, n_rows: int, first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"n": first + at}) + "\n" for at in range(n_rows)))


def test_read_samples_looks_into_the_first_the_middle_and_the_last_of_a_kind(tmp_path: Path) -> None:
    for day in range(1, 10):
        write(tmp_path / f"2025-03-0{day}" / "part-0.jsonl", 3, first=100 * day)
    (kind,) = read_samples(tmp_path).kinds
    assert len(kind.files) == 9
    assert [row["n"] for row in kind.rows] == [100, 101, 102, 500, 501, 502, 900, 901, 902]
    assert FILES_PER_KIND == 3


@pytest.mark.parametrize(
    ("one", "other", "n_kinds"),
    [
        ("events-2025-03-01.jsonl", "events-2025-03-02.jsonl", 1),
        ("part-00000-1a2b3c4d-0000-4000-8000-0123456789ab.jsonl", "part-00001-99999999-0000-4000-8000-0.jsonl", 1),
        ("2025/03/01/a.jsonl", "2025/03/02/a.jsonl", 1),
        ("views.jsonl", "orders.jsonl", 2),
        ("events/a.jsonl", "items/a.jsonl", 2),
        ("a.jsonl", "a.csv", 2),
    ],
)
def test_read_samples_takes_files_for_one_kind_when_digits_alone_differ(
    one: str, other: str, n_kinds: int, tmp_path: Path
) -> None:
    for name in (one, other):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"n": 1}\n')
    assert len(read_samples(tmp_path).kinds) == n_kinds


def test_read_samples_reads_no_more_than_its_bound(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS_PER_FILE + 500)
    pq.write_table(pa.table({"n": range(ROWS_PER_FILE + 500)}), tmp_path / "b.parquet")
    assert [len(kind.rows) for kind in read_samples(tmp_path).kinds] == [ROWS_PER_FILE, ROWS_PER_FILE]


def test_read_samples_stops_within_long_lines_without_a_broken_one(tmp_path: Path) -> None:
    line = json.dumps({"text": "x" * 900_000}) + "\n"
    (tmp_path / "a.jsonl").write_text(line * 20)
    (kind,) = read_samples(tmp_path).kinds
    assert 5 < len(kind.rows) < 12  # 8 MiB of 0.9 MB each
    assert kind.faults == ()


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_read_samples_tells_the_delimiter_by_the_header(mark: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'user{mark}"item"{mark}n\nu{mark}"a:b"{mark}1\n')
    (kind,) = read_samples(tmp_path).kinds
    assert kind.rows == ({"user": "u", "item": "a:b", "n": "1"},)
    assert kind.as_text


def test_read_samples_says_why_lines_and_files_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{broken\n[1]\n')
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "c.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "d.txt").write_text("x")
    (tmp_path / "e.csv").write_text("1,2,3\n4,5,6\n")
    folder = read_samples(tmp_path)
    assert [(len(kind.rows), len(kind.faults)) for kind in folder.kinds] == [(1, 2)]
    assert [path for path, _ in folder.unread] == ["d.txt", "b.parquet", "c.jsonl.gz", "e.csv"]
    assert all(reason.startswith("expected ") for _, reason in folder.unread)


def test_read_samples_passes_over_what_is_unfinished_hidden_or_a_link(tmp_path: Path) -> None:
    for name in (".a.jsonl", "_SUCCESS", "b.jsonl.tmp", "c.jsonl.crc"):
        write(tmp_path / "logs" / name, 1)
    write(tmp_path / "far.jsonl", 1)
    (tmp_path / "logs" / "far.jsonl").symlink_to(tmp_path / "far.jsonl")
    folder = read_samples(tmp_path / "logs")
    assert folder.kinds == ()
    assert len(folder.warnings) == 1
    assert "symbolic link" in folder.warnings[0]


def test_read_samples_reads_an_empty_file_as_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.csv").touch()
    assert [kind.rows for kind in read_samples(tmp_path).kinds] == [(), ()]
