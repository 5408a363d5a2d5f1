"""A key leads to its row, whatever its text and wherever the file boundaries fall, and nothing else is read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import DamagedError
from recsys_spark.serving.row_lookup import RangeIndex, RowLookup
from recsys_spark.warehouse.run_files import DataFile, RunFiles

# Where UTF-16 order differs from that of UTF-8, where a prefix ends, and what no separator survives.
UNICODE_IDS = [
    "a", "A", "é", "e\u0301", "\ud7ff", "\ue000", "\uffff", "\U00010000", "😀", "😀b", "\0", "a\0", "\n", "'", '"',
    "../x", "%2e", "שלום", "مرحبا", "用户", "a" * 256, "a" * 255 + "b", "ß" * 128, "😀" * 64, " ", "u 1", "\u200b",
]  # fmt: skip

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def _files(folder: Path, parts: list[list[dict[str, Any]]], row_group: int, bounds: bool = True) -> RunFiles:
    """One Parquet file per part, listed with the bounds of user_id in it, cut as Delta cuts them."""
    schema = pa.schema([("user_id", pa.string()), ("variant", pa.string()), ("number", pa.int64())])
    files = []
    for at, rows in enumerate(parts):
        path = folder / f"part-{at}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=row_group)
        ids = sorted(row["user_id"] for row in rows)
        low, high = (ids[0][:32], ids[-1][:32]) if bounds else (None, None)
        files.append(DataFile(path.name, path.stat().st_size, len(rows), low, high))
    return RunFiles("candidates", folder, "20250131-001-9f2c81aa", schema, tuple(files))


def _rows(ids: list[str]) -> list[dict[str, Any]]:
    return [{"user_id": one, "variant": "main", "number": at} for at, one in enumerate(sorted(ids))]


def _numbers(found: pa.Table | None) -> list[int]:
    return [] if found is None else found["number"].to_pylist()


def test_utf8_order_is_the_order_of_python_text() -> None:
    assert sorted(UNICODE_IDS) == sorted(UNICODE_IDS, key=lambda one: one.encode())


@given(st.lists(st.tuples(IDS, IDS), max_size=12), IDS, st.integers(0, 12))
def test_range_index_hits_every_range_that_holds_the_key(ranges: list[tuple[str, str]], key: str, cut: int) -> None:
    closed = [(min(pair), max(pair)) for pair in ranges]
    # Bounds as a writer may have cut them: only texts that are still long afterwards can have lost something.
    stored = [(low[:32], high[:32]) for low, high in closed[cut:]] + [(None, high) for _, high in closed[:cut]]
    exact = closed[cut:] + closed[:cut]
    hits = RangeIndex(stored).hits(key)
    holding = [at for at, (low, high) in enumerate(exact) if low <= key <= high]
    assert set(holding) <= set(hits)
    unknown = [at for at, (low, _) in enumerate(stored) if low is None]
    too_wide = [at for at, (_, high) in enumerate(stored) if high is not None and len(high) >= 32]
    assert set(hits) <= set(holding) | set(unknown) | set(too_wide)


def test_range_index_takes_a_long_bound_for_a_prefix_and_a_short_one_for_the_value() -> None:
    assert RangeIndex([("a", "b" * 31)]).hits("b" * 32) == []
    assert RangeIndex([("a", "b" * 32)]).hits("b" * 33) == [0]
    assert RangeIndex([("a", "b" * 32)]).hits("b" * 32 + "\U0010ffff" * 56) == [0]
    assert RangeIndex([("a", "b" * 32)]).hits("b" * 31 + "c") == []


def test_range_index_leaves_out_a_range_inside_another_that_reaches_further() -> None:
    assert RangeIndex([("a", "z"), ("b", "c"), ("e", "f")]).hits("d") == [0]


def test_range_index_hits_one_of_many_disjoint_ranges() -> None:
    index = RangeIndex((f"{n:06d}0", f"{n:06d}9") for n in range(100_000))
    assert index.hits("0500005") == [50_000]


@pytest.mark.parametrize("row_group", [1, 4, 100])
@pytest.mark.parametrize("bounds", [True, False])
def test_find_gives_each_row_of_a_unicode_corpus(tmp_path: Path, row_group: int, bounds: bool) -> None:
    rows = _rows(UNICODE_IDS)
    lookup = RowLookup(_files(tmp_path, [rows[:10], rows[10:]], row_group, bounds), "user_id")
    assert {row["user_id"]: _numbers(lookup.find(row["user_id"])) for row in rows} == {
        row["user_id"]: [row["number"]] for row in rows
    }


def test_find_gives_none_when_the_key_is_absent(tmp_path: Path) -> None:
    lookup = RowLookup(_files(tmp_path, [_rows(["b", "d"])], 1), "user_id")
    assert [lookup.find(one) for one in ("", "a", "c", "e", "bb", "B", "b\0", "\U0010ffff")] == [None] * 8


@settings(max_examples=30, deadline=None)
@given(st.sets(IDS, min_size=1, max_size=30), st.integers(1, 7), st.integers(0, 30), st.sets(IDS, max_size=5))
def test_find_agrees_with_a_dict(
    tmp_path_factory: pytest.TempPathFactory, ids: set[str], row_group: int, cut: int, absent: set[str]
) -> None:
    rows = _rows(list(ids))
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    lookup = RowLookup(_files(tmp_path_factory.mktemp("t"), parts, row_group), "user_id")
    expected = {row["user_id"]: row["number"] for row in rows}
    for key in ids | absent:
        assert _numbers(lookup.find(key)) == ([expected[key]] if key in expected else [])


def test_find_looks_on_in_the_next_row_group_when_a_users_variants_are_cut_apart(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "variant": variant, "number": at} for at, variant in enumerate("abcde")]
    lookup = RowLookup(_files(tmp_path, [rows[:2], rows[2:]], 2), "user_id")
    assert [_numbers(lookup.find("u", {"variant": one})) for one in "abcdex"] == [[0], [1], [2], [3], [4], []]


def test_find_reads_only_the_columns_asked_for(tmp_path: Path) -> None:
    lookup = RowLookup(_files(tmp_path, [_rows(["a", "b"])], 1), "user_id")
    found = lookup.find("b", columns=("number",))
    assert found is not None
    assert found.to_pylist() == [{"number": 1}]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that are read, as they are."""
    seen: list[int] = []
    original = pq.ParquetFile.read_row_group

    def spy(self: pq.ParquetFile, number: int, **options: Any) -> pa.Table:
        seen.append(number)
        return original(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    return seen


def test_find_reads_one_row_group_of_many(tmp_path: Path, reads: list[int]) -> None:
    lookup = RowLookup(_files(tmp_path, [_rows([f"u{n:03d}" for n in range(200)])], 2), "user_id")
    assert _numbers(lookup.find("u101")) == [101]
    assert reads == [50, 50]  # the keys, then the row


def test_find_many_reads_each_row_group_once(tmp_path: Path, reads: list[int]) -> None:
    rows = _rows([f"u{n:03d}" for n in range(40)])
    lookup = RowLookup(_files(tmp_path, [rows[:20], rows[20:]], 5), "user_id")
    found = lookup.find_many(["u001", "u003", "u004", "u021", "u039", "nobody", "u001"])
    assert sorted(number for table in found for number in _numbers(table)) == [1, 3, 4, 21, 39]
    assert reads == [0, 0, 3]


def test_find_refuses_a_file_with_other_rows_than_the_log_says(tmp_path: Path) -> None:
    run = _files(tmp_path, [_rows(["a", "b"])], 1)
    file = run.files[0]
    listed = (DataFile(file.rel_path, file.size_bytes, 3, file.low, file.high),)
    lookup = RowLookup(RunFiles(run.name, run.folder, run.run_id, run.schema, listed), "user_id")
    with pytest.raises(DamagedError, match="expected 3 rows, got 2"):
        lookup.find("a")


def test_find_refuses_a_page_in_which_a_letter_was_changed(tmp_path: Path) -> None:
    frame = pa.table({"user_id": ["a"], "list": ["tea and milk"]})
    path = tmp_path / "x.parquet"
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": ["user_id"]}
    pq.write_table(frame, path, write_page_checksum=True, **plain)  # as Spark does
    content = path.read_bytes()
    assert content.count(b"tea and milk") == 1
    path.write_bytes(content.replace(b"tea", b"pea"))
    file = DataFile(path.name, len(content), 1, "a", "a")
    with pytest.raises(DamagedError, match="expected a readable row group 0"):
        RowLookup(RunFiles("t", tmp_path, None, frame.schema, (file,)), "user_id").find("a")


def test_find_reads_times_of_either_parquet_form_as_microseconds(tmp_path: Path) -> None:
    frame = pa.table({"user_id": ["a"], "at": pa.array([1_700_000_000_123_456], pa.timestamp("us", "UTC"))})
    for old in (True, False):
        pq.write_table(frame, tmp_path / "x.parquet", use_deprecated_int96_timestamps=old)
        file = DataFile("x.parquet", (tmp_path / "x.parquet").stat().st_size, 1, "a", "a")
        found = RowLookup(RunFiles("t", tmp_path, None, frame.schema, (file,)), "user_id").find("a")
        assert found is not None
        assert found["at"].cast(pa.int64()).to_pylist() == [1_700_000_000_123_456]
