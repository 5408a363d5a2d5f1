"""Any format gives the same rows; a file gives all of its rows or none; nothing is emitted before it is proven."""

import csv
import errno
import io
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_spark.errors import StoreFault
from recsys_spark.ingest.decode import Limits
from recsys_spark.ingest.read_file import Reading, landed_schema, read_file
from recsys_spark.warehouse.location import ObjectPath
from tests.event_files import LIMITS, event, event_reading, jsonl, planned, read_through, write_file

PLACE = {"line", "file_index", "status"}


def _csv(events: list[dict[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, fieldnames=list(events[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(events)
    return sink.getvalue().encode()


def _parquet(events: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(events), sink)
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": jsonl,
    "a.jsonl.gz": jsonl,
    "a.ndjson.zst": jsonl,
    "a.csv": _csv,
    "a.csv.gz": _csv,
    "a.parquet": _parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_read_file_gives_the_same_rows_from_every_format(tmp_path: Path, name: str) -> None:
    events = [event(number, session_id=f"s{number}") for number in range(50)]
    events[3]["user_id"] = None
    read = read_through(write_file(tmp_path / name, WRITERS[name](events)), event_reading(tmp_path))
    expected = read_through(write_file(tmp_path / "plain.jsonl", jsonl(events)), event_reading(tmp_path))
    strip = [{column: value for column, value in row.items() if column not in PLACE} for row in read.rows]
    assert strip == [{column: value for column, value in row.items() if column not in PLACE} for row in expected.rows]
    assert [row["item_id"] for row in read.rows] == [one["item_id"] for one in events]
    assert [row["line"] for row in read.rows] == list(range(2, 52) if "csv" in name else range(1, 51))
    assert (read.summary.lines_in, read.summary.n_parsed, read.refused) == (50, 50, [])


_LINES = st.one_of(
    # A line that is nothing but a byte order mark, at the beginning, is blank.
    st.binary(max_size=30).filter(lambda line: b"\n" not in line and bool(line.removeprefix(b"\xef\xbb\xbf").strip())),
    st.builds(lambda fields: json.dumps(fields).encode(), st.dictionaries(
        st.sampled_from(["user_id", "item_id", "event_type", "event_time", "value", "foo"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["buy", "2025-01-02"]),
    )),
    st.integers(0, 500).map(lambda number: json.dumps(event(number)).encode()),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_LINES, max_size=12))
def test_read_file_accounts_for_every_line_of_any_content(tmp_path: Path, lines: list[bytes]) -> None:
    read = read_through(write_file(tmp_path / "a.jsonl", jsonl(lines)), event_reading(tmp_path))
    if read.summary.state == "quarantined":
        assert read.summary.reason == "missing_column"
        return
    assert read.summary.lines_in == len(lines)
    assert read.summary.n_parsed + read.summary.n_quarantined == len(lines)
    assert sorted(row["line"] for row in read.rows + read.refused) == [
        number for number, line in enumerate(jsonl(lines).split(b"\n"), start=1) if line
    ]


def _with_notes(n_events: int, notes: dict[int, str]) -> bytes:
    """A CSV of events whose last column, which nothing maps, holds `notes` as they stand."""
    lines = ["user_id,item_id,event_type,event_time,note"]
    for number in range(n_events):
        fields = [str(event(number)[name]) for name in ("user_id", "item_id", "event_type", "event_time")]
        lines.append(",".join([*fields, notes.get(number, "plain")]))
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("closed_after", [1, 5, 19, 20, 1500, None])
def test_read_file_reads_every_line_after_a_lone_quote(tmp_path: Path, closed_after: int | None) -> None:
    notes = {100: '"a lone quote'} | ({100 + closed_after: 'mug 12"'} if closed_after else {})
    path = write_file(tmp_path / "a.csv", _with_notes(20_000, notes))
    read = read_through(path, event_reading(tmp_path))
    assert (read.summary.lines_in, read.summary.n_parsed, read.refused) == (20_000, 20_000, [])
    assert [row["line"] for row in read.rows] == list(range(2, 20_002))


@pytest.mark.parametrize(("between", "lines_in", "reasons"), [(b"garbage", 50, ["bad_csv"]), (b"", 49, [])])
def test_read_file_reads_rows_between_two_lone_quotes_beside_a_line_that_is_none(
    tmp_path: Path, between: bytes, lines_in: int, reasons: list[str]
) -> None:
    lines = _with_notes(50, {10: '"a lone quote', 15: 'mug 12"'}).split(b"\n")
    lines[13] = between
    read = read_through(write_file(tmp_path / "a.csv", b"\n".join(lines)), event_reading(tmp_path))
    assert (read.summary.lines_in, read.summary.n_parsed, read.reasons) == (lines_in, 49, reasons)


@pytest.mark.parametrize("text", ["two\nlines", "three\n\nlines", "with\na, comma"])
def test_read_file_reads_a_first_cell_of_several_lines(tmp_path: Path, text: str) -> None:
    """Its last line has all the other cells, as a row has."""
    one, two = ",".join(str(value) for value in event(1).values()), ",".join(str(value) for value in event(2).values())
    header = ",".join(["note", *event(1)])
    path = write_file(tmp_path / "a.csv", f'{header}\n"{text}",{one}\nplain,{two}\n'.encode())
    read = read_through(path, event_reading(tmp_path))
    assert [row["line"] for row in read.rows] == [2, 3 + text.count("\n")]
    assert (read.refused, read.summary.n_continued) == ([], text.count("\n"))


def test_read_file_refuses_alone_the_line_whose_lone_quote_makes_it_unreadable(tmp_path: Path) -> None:
    data = _with_notes(200, {}).replace(b",i50,buy,", b',i50,"buy,')
    read = read_through(write_file(tmp_path / "a.csv", data), event_reading(tmp_path))
    assert (read.summary.lines_in, read.summary.n_parsed) == (200, 199)
    assert [(row["line"], row["reason"]) for row in read.refused] == [(52, "unknown_type")]


def test_read_file_counts_the_lines_that_continue_a_record(tmp_path: Path) -> None:
    notes = {3: '"two\nlines"', 7: '"three\n\nlines"', 9: "plain"}
    data = _with_notes(10, notes).replace(b"u0,i7,buy", b"u0,,buy")
    read = read_through(write_file(tmp_path / "a.csv", data), event_reading(tmp_path))
    summary = read.summary
    assert (summary.lines_in, summary.n_parsed, summary.n_quarantined, summary.n_continued) == (13, 9, 1, 3)
    assert summary.unknown_columns == {"note": 10}
    assert [(row["line"], row["raw"].count("\n")) for row in read.refused] == [(10, 2)]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(['"', '""', '"\n', ',"', '",'])), max_size=30))
def test_read_file_accounts_for_every_line_under_random_quotes(tmp_path: Path, damage: list[tuple[int, str]]) -> None:
    header, _, body = _with_notes(80, {30: '"two\nlines"'}).decode().partition("\n")
    for at, text in damage:
        place = at % len(body)
        body = body[:place] + text + body[place:]
    lines = [line for line in body.split("\n") if line]
    body = "\n".join(lines)  # a blank line counts within a record alone
    read = read_through(write_file(tmp_path / "a.csv", f"{header}\n{body}".encode()), event_reading(tmp_path))
    summary = read.summary
    assert summary.lines_in == len(lines)
    assert summary.lines_in == summary.n_parsed + summary.n_quarantined + summary.n_continued
    assert (len(read.rows), len(read.refused)) == (summary.n_parsed, summary.n_quarantined)


def test_read_file_emits_nothing_of_a_damaged_file(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.jsonl.gz", jsonl(event(number) for number in range(30_000)))
    path.write_bytes(path.read_bytes()[:-4])
    read = read_through(path, event_reading(tmp_path))
    assert (read.rows, read.refused, read.summary.state, read.summary.reason) == ([], [], "quarantined", "truncated")


def test_read_file_says_mutated_when_the_file_changes_while_it_is_parsed(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.jsonl", jsonl(event(number) for number in range(60_000)))
    batches = read_file(planned(path), event_reading(tmp_path))
    first = next(batches)
    with path.open("ab") as file:
        file.write(jsonl([event(1)]))
    *_, last = batches
    assert first.num_rows > 0
    assert json.loads(last["detail"][0].as_py())["reason"] == "mutated"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("notes.txt", b"hello", "unknown_format"),
        ("a.parquet", b"PAR1", "corrupt"),
        ("a.csv", b"user_id,item_id\n1,2\n", "missing_column"),
        ("a.jsonl", jsonl([event(1, item_id=...), event(2, item_id=...)]), "missing_column"),
        ("a.jsonl", jsonl(event(number, user_id=...) for number in range(100)), "missing_column"),
        ("a.parquet", _parquet([{"user_id": "u", "item_id": "i", "event_type": "buy"}]), "missing_column"),
    ],
)
def test_read_file_sets_a_file_aside_whole(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    summary = read_through(write_file(tmp_path / name, data), event_reading(tmp_path)).summary
    assert (summary.state, summary.reason) == ("quarantined", reason)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_read_file_takes_an_empty_file_as_no_lines(tmp_path: Path, name: str) -> None:
    summary = read_through(write_file(tmp_path / name, b""), event_reading(tmp_path)).summary
    assert (summary.state, summary.lines_in) == ("read", 0)


def test_read_file_keeps_the_beginning_and_the_hash_of_a_refused_line(tmp_path: Path) -> None:
    lines = [b'{"item_id": "' + b"x" * 10_000 + b'"', b"\xff" * 5000, b"y" * 300_000]
    limits = Limits(LIMITS.max_file_bytes, LIMITS.max_decompressed_bytes, 200, 200_000)
    path = write_file(tmp_path / "a.jsonl", jsonl(lines))
    read = read_through(path, event_reading(tmp_path, limits=limits))
    assert read.reasons == ["bad_json", "bad_encoding", "line_too_long"]
    for row, line in zip(read.refused, lines, strict=True):
        assert len(row["raw"].encode()) <= 4096
        assert row["raw_sha256"] == sha256(line).hexdigest()
    assert read.refused[0]["raw"] == lines[0][:4096].decode()


def test_read_file_keeps_a_refused_parquet_row_as_json(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.parquet", _parquet([event(1), event(2, item_id=" ")]))
    read = read_through(path, event_reading(tmp_path))
    assert read.reasons == ["bad_item_id"]
    assert json.loads(read.refused[0]["raw"]) == event(2, item_id=" ")
    assert read.refused[0]["line"] == 2


def test_read_file_hands_rows_on_in_bounded_batches(tmp_path: Path) -> None:
    long = [event(number, session_id="s" * 200, note="n" * 90_000) for number in range(400)]
    path = write_file(tmp_path / "a.jsonl", jsonl(long))
    sizes = [batch.num_rows for batch in read_file(planned(path), event_reading(tmp_path))]
    assert sum(sizes) == 400 + 1
    assert max(sizes) <= (16 << 20) // 90_000 + 1


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**300, 10**400), st.floats(), st.text(max_size=5),
    st.sampled_from(["buy", "2025-01-02", 1e305, -1e308, "\ud800", [], {}, [1e305], 1_736_942_400]),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["iso", "epoch_s", "epoch_ms", "epoch_us", "%Y-%m-%d"]),
    st.sampled_from(["user_id", "item_id", "event_type", "event_time", "event_id", "value", "position", "propensity"]),
    _SCALARS,
)
def test_read_file_refuses_any_scalar_by_a_named_rule(tmp_path: Path, time_format: str, name: str, value: Any) -> None:
    sets = [f"events.time_format={time_format}", "events.columns.event_id=event_id", "events.columns.value=value"]
    sets += ["events.columns.position=position", "events.columns.propensity=propensity"]
    path = write_file(tmp_path / "a.jsonl", jsonl([event(1) | {name: value}, event(2)]))
    read = read_through(path, event_reading(tmp_path, *sets))
    assert (read.summary.state, read.summary.n_parsed + read.summary.n_quarantined) == ("read", 2)
    assert "unreadable" not in read.reasons


def test_read_file_refuses_a_line_that_its_parser_cannot_survive(tmp_path: Path) -> None:
    real = event_reading(tmp_path)

    def make_parse(*given: Any) -> Callable[[dict[str, Any], int], tuple[Any, ...]]:
        parse = real.make_parse(*given)

        def fragile(fields: dict[str, Any], line: int) -> tuple[Any, ...]:
            if fields["item_id"] == "bad":
                raise OverflowError("too large \ud800")
            return parse(fields, line)

        return fragile

    path = write_file(tmp_path / "a.jsonl", jsonl([event(1), event(2, item_id="bad"), event(3)]))
    read = read_through(path, replace(real, make_parse=make_parse))
    assert ([row["line"] for row in read.rows], read.reasons) == ([1, 3], ["unreadable"])
    assert "OverflowError: 'too large" in read.refused[0]["detail"]


def _break_parsing(reading: Reading, error: Exception) -> Reading:
    def make_parse(*given: Any) -> Any:
        raise error

    return replace(reading, make_parse=make_parse)


def test_read_file_sets_a_file_aside_that_fails_in_an_unforeseen_way(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.jsonl", jsonl([event(1)]))
    summary = read_through(path, _break_parsing(event_reading(tmp_path), csv.Error("odd"))).summary
    assert (summary.state, summary.reason) == ("quarantined", "unreadable")
    assert "odd" in str(summary.detail)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), StoreFault("no answer")]
)
def test_read_file_does_not_blame_a_file_for_the_machine(tmp_path: Path, error: Exception) -> None:
    path = write_file(tmp_path / "a.jsonl", jsonl([event(1)]))
    with pytest.raises(type(error)):
        list(read_file(planned(path), _break_parsing(event_reading(tmp_path), error)))


def test_read_file_does_not_fetch_a_file_that_is_too_large(tmp_path: Path) -> None:
    plan = planned(write_file(tmp_path / "a.jsonl", jsonl([event(1)])))
    away = ObjectPath("s3://logs", "http://127.0.0.1:9", "eu-central-1")
    reading = replace(event_reading(tmp_path), folder=away, limits=replace(LIMITS, max_file_bytes=plan.n_bytes - 1))
    (summary,) = read_file(plan, reading)
    assert "too_large" in summary.column("detail")[0].as_py()


def test_read_file_sets_a_csv_file_with_a_giant_first_cell_aside(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.csv", b"x" * 140_000 + b"\n1\n")
    assert read_through(path, event_reading(tmp_path)).summary.reason == "corrupt"


def test_landed_schema_lets_every_parsed_column_be_null(tmp_path: Path) -> None:
    assert all(field.nullable for field in landed_schema(event_reading(tmp_path).schema))
