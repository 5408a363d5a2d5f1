"""Every line of a file comes out once, with its number, as fields or as a fault of its own."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.decode import FileFault
from recsys_spark.ingest.held_lines import Raw, n_lines_of
from recsys_spark.ingest.quoted_cells import MAX_CELL_LINES
from recsys_spark.ingest.records import (
    CsvReader,
    Record,
    RowFault,
    Unreadable,
    parquet_records,
    read_jsonl,
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
        (9, {"user": "u8", "item": '"open'}),
        (10, {"user": "u9", "item": "i9"}),
    ]


def test_csv_reader_reads_on_after_a_quote_that_is_never_closed() -> None:
    assert _outcomes(_csv(b'user,item\nu8,"open\nu9,i9\n')) == [
        (2, {"user": "u8", "item": '"open'}),
        (3, {"user": "u9", "item": "i9"}),
    ]


def _note(n_lines: int, end: str = '"') -> bytes:
    """A cell that begins with a quote and runs over `n_lines`, then one row."""
    return b'item,note\n1,"' + b"x\n" * (n_lines - 1) + b"x" + end.encode() + b"\n2,y\n"


@pytest.mark.parametrize("n_lines", [2, MAX_CELL_LINES])
def test_csv_reader_reads_a_quoted_cell_of_several_lines(n_lines: int) -> None:
    assert _outcomes(_csv(_note(n_lines))) == [
        (2, {"item": "1", "note": "x\n" * (n_lines - 1) + "x"}),
        (2 + n_lines, {"item": "2", "note": "y"}),
    ]


@pytest.mark.parametrize("end", ['"', "", '"x', '",1'], ids=["closed", "never closed", "closed inside", "a cell more"])
def test_csv_reader_gives_a_quoted_cell_back_to_its_lines_when_it_runs_too_far(end: str) -> None:
    n_lines = MAX_CELL_LINES + 1
    first, *between, last = _outcomes(_csv(_note(n_lines, end)))
    assert (first, last) == ((2, {"item": "1", "note": '"x'}), (2 + n_lines, {"item": "2", "note": "y"}))
    assert [line for line, _ in between] == list(range(3, 2 + n_lines))


def test_csv_reader_reads_two_long_cells_in_one_record() -> None:
    text = "x\n" * (MAX_CELL_LINES - 1) + "x"
    ((_, fields, _),) = _csv(f'item,note\n"{text}","{text}"\n'.encode())
    assert fields == {"item": text, "note": text}


@pytest.mark.parametrize("second", ['5 "x', '"x" 5'], ids=["inside a cell", "before a letter"])
def test_csv_reader_gives_a_few_lines_back_that_make_no_record(second: str) -> None:
    """A second quote ends the cell of the first, and is followed by what may not follow."""
    assert [fields for _, fields, _ in _csv(f'item,note\n1,"a\n2,b\n3,{second}\n4,c\n'.encode())][:2] == [
        {"item": "1", "note": '"a'},
        {"item": "2", "note": "b"},
    ]


def test_csv_reader_keeps_whole_quoted_cells_in_a_line_with_a_lone_quote() -> None:
    lines = [b"item,note,more", b'"1,0","say ""hi""","lone', *[b"2,b,c"] * (MAX_CELL_LINES + 5)]
    (_, first, _), *others = _csv(b"\n".join(lines))
    assert first == {"item": "1,0", "note": 'say "hi"', "more": '"lone'}
    assert [fields for _, fields, _ in others] == [{"item": "2", "note": "b", "more": "c"}] * (MAX_CELL_LINES + 5)


def test_csv_reader_holds_no_more_lines_than_a_cell_may_have() -> None:
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        for line in (b"item,note\n", b'1,"lone\n', *[b"2,b\n"] * 500):
            taken += 1
            yield line

    next(CsvReader(split_lines(lines(), 1000), "item").records())
    assert taken <= MAX_CELL_LINES + 2


def test_csv_reader_holds_a_bounded_record_of_many_cells() -> None:
    """Every line ends inside a quoted cell, but of another one."""
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        yield b'item,note\n1,"a\n'
        for _ in range(5000):
            taken += 1
            yield b'b","c\n'

    next(CsvReader(split_lines(lines(), 1000), "item").records())
    assert taken <= 2 * MAX_CELL_LINES + 2


def test_csv_reader_takes_a_quote_in_tab_separated_text_for_a_letter_unless_it_encloses_a_cell() -> None:
    rows = [
        ('"Rosanna" mug', '"Rosanna" mug'), ('"Old lamp', '"Old lamp'), ('mug 12"', 'mug 12"'),
        ('"Shirt, ""red"""', 'Shirt, "red"'), ("plain", "plain"), ('"two\nlines"', "two\nlines"),
    ]  # fmt: skip
    text = "item\ttitle\tprice\n" + "".join(f"{at}\t{cell}\t5\n" for at, (cell, _) in enumerate(rows))
    assert [fields for _, fields, _ in _csv(text.encode())] == [
        {"item": str(at), "title": title, "price": "5"} for at, (_, title) in enumerate(rows)
    ]


def test_csv_reader_reads_tab_separated_lines_between_two_lone_quotes() -> None:
    terms = ["lamp", '"vintage lamp', "mug", "mug", 'mug 12"', "lamp"]
    text = "item\tterm\n" + "\n".join(f"{at}\t{term}\n" for at, term in enumerate(terms))  # and blank lines
    assert [fields["term"] for _, fields, _ in _csv(text.encode()) if isinstance(fields, dict)] == terms


@given(st.lists(st.text('ab",\t\r', min_size=1, max_size=8).filter(str.strip), max_size=60), st.sampled_from(",\t"))
def test_csv_reader_counts_every_line_once_whatever_quotes_are_in_them(lines: list[str], mark: str) -> None:
    data = "\n".join([f"item{mark}note", *lines]).encode()
    records = _csv(data)
    n_lines = [n_lines_of(raw) for _, _, raw in records]
    starts = [line for line, _, _ in records]
    assert starts == [2 + sum(n_lines[:at]) for at in range(len(starts))]
    assert sum(n_lines) == len(lines)
    assert b"\n".join(raw for _, _, raw in records if isinstance(raw, bytes)) == b"\n".join(data.split(b"\n")[1:])


def test_csv_reader_sets_a_file_aside_whose_first_line_is_no_header() -> None:
    with pytest.raises(FileFault, match="corrupt: expected a CSV header"):
        CsvReader(split_lines([b"x" * 131_073 + b"\n1\n"], 200_000), "item")


def test_csv_reader_reads_a_long_header_that_only_its_own_delimiter_divides() -> None:
    names = ["item", *(f"column{number}" for number in range(15_000))]
    reader = CsvReader(split_lines(["\t".join(names).encode()], 200_000), "item")
    assert reader.header == names


def test_read_rows_marks_times_that_python_cannot_hold() -> None:
    times = pa.array([0, 2**62], pa.timestamp("us"))
    (number, first, _), (_, second, _) = parquet_records([pa.record_batch({"t": times, "i": pa.array([1, 2])})])
    assert number == 1
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["i"], first["t"].year) == (1, 1970)
    assert isinstance(second["t"], Unreadable)


def test_read_rows_cuts_nanoseconds() -> None:
    ((_, fields, _),) = parquet_records([pa.record_batch({"t": pa.array([1_500], pa.timestamp("ns", "UTC"))})])
    assert isinstance(fields, dict)
    # A plain datetime: pandas' own type, which keeps nanoseconds, is slow and compares differently.
    assert (type(fields["t"]), fields["t"].microsecond) == (datetime, 1)
