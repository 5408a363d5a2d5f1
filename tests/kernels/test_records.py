"""Every line of a file comes out once, with its number, as fields or as a fault of its own."""

import csv
import io
from datetime import datetime
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.kernels.decode import FileFault
from recsys_spark.kernels.records import (
    CsvReader,
    Raw,
    Record,
    RowFault,
    Unreadable,
    read_jsonl,
    read_rows,
    split_lines,
)


def _jsonl(text: bytes, max_line_bytes: int = 1000) -> list[Record]:
    return list(read_jsonl(split_lines([text], max_line_bytes)))


def _csv(text: bytes, required: str = "item") -> list[Record]:
    return list(CsvReader(split_lines([text], 1000), required).records())


def _outcomes(records: list[Record]) -> list[tuple[int, object]]:
    return [(line, fields.reason if isinstance(fields, RowFault) else fields) for line, fields, _ in records]


@given(st.lists(st.binary(max_size=12)), st.integers(1, 30))
def test_split_lines_equals_the_plain_split_in_any_pieces(pieces: list[bytes], max_line_bytes: int) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()  # the last line feed ends a line and begins none
    if expected and len(expected[0]) <= max_line_bytes:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    found = list(split_lines(pieces, max_line_bytes))
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert len(found) == len(expected)
    for (_, line), plain in zip(found, expected, strict=True):
        if isinstance(line, Raw):
            assert line.n_bytes == len(plain) > max_line_bytes
            assert line.sha256 == sha256(plain).hexdigest()
            assert plain.startswith(line.head)
        else:
            assert line == plain


def test_split_lines_keeps_only_the_beginning_of_a_long_line() -> None:
    pieces = [b"short\n" + b"x" * 3000, b"y" * 5000, b"z" * 5000 + b"\nlast"]
    (_, short), (_, long), (_, last) = split_lines(pieces, 4000)
    assert (short, last) == (b"short", b"last")
    assert isinstance(long, Raw)
    assert (len(long.head), long.n_bytes) == (4096, 13000)
    assert long.sha256 == sha256(b"x" * 3000 + b"y" * 5000 + b"z" * 5000).hexdigest()


def test_read_jsonl_numbers_lines_and_passes_blank_ones() -> None:
    assert _outcomes(_jsonl(b'{"a": 1}\r\n\n  \n{"a": "x\\ny"}')) == [(1, {"a": 1}), (4, {"a": "x\ny"})]


def test_read_jsonl_refuses_each_bad_line_alone() -> None:
    bad = {
        b"{": "bad_json",
        b"[1]": "bad_json",
        b'"text"': "bad_json",
        b'{"a": NaN}': "bad_json",
        b'{"a": -Infinity}': "bad_json",
        b'{"a": 1} {"a": 2}': "bad_json",
        b'{"a": ' + b"9" * 5000 + b"}": "bad_json",
        b'{"a": "\xff"}': "bad_encoding",
        b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}": "too_deep",
        b"[" * 9000: "too_deep",
        b"{" + b",".join(b'"c%d":1' % n for n in range(1001)) + b"}": "too_many_columns",
        b"x" * 20_000: "line_too_long",
    }
    text = b"".join(line + b'\n{"ok": 1}\n' for line in bad)
    records = _jsonl(text, 15_000)
    assert [outcome for _, outcome in _outcomes(records)] == [
        one for reason in bad.values() for one in (reason, {"ok": 1})
    ]
    assert [line for line, _, _ in records] == list(range(1, 2 * len(bad) + 1))


def test_read_jsonl_accepts_nesting_up_to_the_bound() -> None:
    assert _outcomes(_jsonl(b'{"a": ' + b"[" * 31 + b"]" * 31 + b', "b": [[], [], []]}'))[0][1] != "too_deep"


@given(st.lists(st.tuples(st.text("ab\"',;\n x", max_size=6), st.text("ab\"',;\n x", max_size=6)), max_size=8))
def test_csv_reader_reads_what_the_csv_module_wrote(rows: list[tuple[str, str]]) -> None:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([("user", "item"), *rows])
    records = _csv(sink.getvalue().encode())
    assert [fields for _, fields, _ in records] == [{"user": a or None, "item": b or None} for a, b in rows]


def test_csv_reader_gives_the_line_on_which_a_record_starts() -> None:
    records = _csv(b'item,note\n1,"two\nlines"\n2,x\n\n3,y\n')
    assert [(line, fields["item"]) for line, fields, _ in records if isinstance(fields, dict)] == [
        (2, "1"), (4, "2"), (6, "3"),
    ]  # fmt: skip
    assert records[0][2] == b'1,"two\nlines"'


def test_csv_reader_finds_the_delimiter_by_the_header() -> None:
    for mark in (b",", b";", b"\t", b"|"):
        assert _csv(b"\xef\xbb\xbfuser" + mark + b"item\nu" + mark + b"i\n") == [
            (2, {"user": "u", "item": "i"}, b"u" + mark + b"i")
        ]


def test_csv_reader_refuses_each_bad_record_alone() -> None:
    text = b'user,item\nu1,i1\nu2\nu3,i3,more\n\xff,i4\n"u"5,i5\n' + b"x" * 2000 + b',i6\nu7,i7\nu8,"open\nu9,i9\n'
    assert _outcomes(_csv(text)) == [
        (2, {"user": "u1", "item": "i1"}),
        (3, "bad_csv"),
        (4, "bad_csv"),
        (5, "bad_encoding"),
        (6, "bad_csv"),
        (7, "line_too_long"),
        (8, {"user": "u7", "item": "i7"}),
        (9, "bad_csv"),
    ]


def test_csv_reader_says_which_lines_an_open_quote_swallowed() -> None:
    (_, fault, _), *_ = _csv(b'user,item\nu8,"open\nu9,i9\n')
    assert isinstance(fault, RowFault)
    assert "lines 2 to 3" in fault.detail


def test_csv_reader_sets_a_file_aside_whose_first_line_is_no_header() -> None:
    with pytest.raises(FileFault, match="corrupt: expected a CSV header"):
        CsvReader(split_lines([b"x" * 131_073 + b"\n1\n"], 200_000), "item")


def test_csv_reader_reads_a_long_header_that_only_its_own_delimiter_divides() -> None:
    names = ["item", *(f"column{number}" for number in range(15_000))]
    reader = CsvReader(split_lines(["\t".join(names).encode()], 200_000), "item")
    assert reader.header == names


def test_read_rows_marks_times_that_python_cannot_hold() -> None:
    times = pa.array([0, 2**62], pa.timestamp("us"))
    (_, first, _), (_, second, _) = read_rows([pa.record_batch({"t": times, "i": pa.array([1, 2])})])
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["i"], first["t"].year) == (1, 1970)
    assert isinstance(second["t"], Unreadable)


def test_read_rows_cuts_nanoseconds() -> None:
    ((_, fields, _),) = read_rows([pa.record_batch({"t": pa.array([1_500], pa.timestamp("ns", "UTC"))})])
    assert isinstance(fields, dict)
    # A plain datetime: pandas' own type, which keeps nanoseconds, is slow and compares differently.
    assert (type(fields["t"]), fields["t"].microsecond) == (datetime, 1)
