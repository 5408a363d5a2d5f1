"""Two batches that hold every kind of damage at once: each is named and set aside, and nothing else is lost.

The gates are open here (their own tests are in test_ingest_gates): what counts is where every line went.
"""

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.ingest import take_in as protocol
from recsys_spark.ingest.accounting import IngestReport
from recsys_spark.ingest.step_ingest import ingest
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.spark_tables import read_table
from recsys_spark.warehouse.tables import EVENTS
from tests.event_files import RECEIVED_AT, event, jsonl
from tests.ingest_world import batch_states, check_accounts, drop, file_rows, make_world, refused_lines, rows_of

# Distinct for a computer, some alike for people: none may become another, and none may be taken for a path or for SQL.
UNICODE_IDS = [
    "caf\u00e9", "cafe\u0301", "\u212bngstr\u00f6m", "\u00c5ngstr\u00f6m",
    "\u05e9\u05dc\u05d5\u05dd", "\u202egnp.exe", "\U0001f9d1\u200d\U0001f4bb", "\U0001f468\u200d\U0001f469",
    "a\u0000b", "a\u0000", "line\nfeed", "tab\there", "cr\rlf\r\n",
    "'", '"', "''", '""', "`", "\\", "\\n", "../../etc/passwd", "a/b", "x'; DROP TABLE events; --", "%2e%2e",
    "null", "None", "NaN", " lead", "trail ", "\ufeffbom",
]  # fmt: skip


@dataclass(frozen=True)
class Day:
    """What the two batches left behind."""

    config: Config
    first: IngestReport
    second: IngestReport
    third: IngestReport


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def _land_first(config: Config) -> None:
    plain = [event(number) for number in range(100)]
    drop(config, "a.jsonl", jsonl(plain))
    drop(config, "a-again.jsonl", jsonl(plain))
    drop(config, "b-overlap.jsonl", jsonl(plain[:10] + [event(number) for number in range(100, 190)]))
    with_ids = [event(number, event_id=f"e{number}", event_time="2025-01-10T00:00:00Z") for number in range(200, 250)]
    resent = [one | {"value": 9, "user_id": "other"} for one in with_ids[:5]]
    drop(config, "c-ids.jsonl.zst", jsonl(with_ids + resent))
    cut = drop(config, "cut.jsonl.gz", jsonl(event(number) for number in range(300, 400)))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    crc = drop(config, "crc.jsonl.gz", jsonl(event(number) for number in range(400, 500)))
    flipped = bytearray(crc.read_bytes())
    flipped[-6] ^= 1
    crc.write_bytes(flipped)
    drop(config, "cut.parquet", _parquet(plain)[:-20])
    drop(config, "zero.parquet", b"")
    drop(config, "text.parquet", b"user_id,item_id\n")
    drop(config, "README.txt", b"not a log")
    bad_json = [event(number) for number in range(500, 698)]
    drop(config, "bad-json.jsonl", jsonl([*bad_json[:50], b'{"user_id": ', *bad_json[50:], b"\xff\xfe"]))
    drop(config, "foo.csv", b"user_id,item_id,event_type,event_time,foo\n" + b"u1,i900,buy,2025-01-05,x\n" * 1)
    rows = b'u1,i901,buy,2025-01-05,"two\nlines"\nu1,i902,buy,2025-01-05,"lone\nu1,i903,buy,2025-01-05,x\n'
    drop(config, "quotes.csv", b"user_id,item_id,event_type,event_time,note\n" + rows)
    drop(config, "no-item.jsonl", jsonl(event(number, item_id=...) for number in range(20)))
    drop(config, "dwell.jsonl", jsonl([event(700, value=-5), b'{"value": NaN}', event(701, value=1e12), event(702)]))
    drop(config, "dwell.csv", b"item_id,user_id,event_type,event_time,value\ni9,u1,buy,2025-01-05,nan\n")
    times = ["soon", 1_736_942_400, "1970-01-01T00:00:00Z", "2031-01-01T00:00:00Z", "2025-02-01T06:59:00Z"]
    drop(config, "times.jsonl", jsonl(event(710, event_time=time) for time in times))
    drop(config, "ids.jsonl", jsonl([*(event(720, item_id=one) for one in (None, "", " \t")), event(721, user_id="")]))
    drop(config, "unicode.jsonl.gz", jsonl(event(730, user_id=one, item_id=one) for one in UNICODE_IDS))
    drop(config, "long.jsonl", jsonl([event(740, item_id="x" * 10_000_000), event(741, item_id="y" * 257), event(742)]))


def _land_second(config: Config) -> None:
    landing = Path(config.landing.events)
    (landing / "moved").mkdir()
    shutil.copy(landing / "a.jsonl", landing / "moved" / "renamed.jsonl")
    (landing / "b-overlap.jsonl").touch()
    drop(config, "d-overlap.jsonl", jsonl(event(number) for number in range(80, 100)) + jsonl([event(800)]))
    drop(
        config, "late.jsonl", jsonl(event(n, event_time="2025-01-29T10:00:00Z", session_id=f"{n}") for n in range(100))
    )
    drop(config, "too-late.jsonl", jsonl(event(number, event_time="2024-12-10T00:00:00Z") for number in range(30)))
    drop(config, "empty.jsonl", b"")
    drop(config, "changing.jsonl", jsonl(event(number) for number in range(810, 820)))


@pytest.fixture(scope="module")
def day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Day:
    open_gates = ("ingest.max_bad_row_ratio=1.0", "ingest.max_bad_file_ratio=1.0", "ingest.late_days=35")
    config = make_world(tmp_path_factory.mktemp("damage"), *open_gates)
    _land_first(config)
    first = ingest(spark, config, received_at=RECEIVED_AT)
    _land_second(config)

    def write_on(name: str) -> None:
        if name == "ingest.after_plan":
            with (Path(config.landing.events) / "changing.jsonl").open("ab") as file:
                file.write(jsonl([event(820)]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "failpoint", write_on)
        second = ingest(spark, config, received_at=RECEIVED_AT + timedelta(days=1))
    third = ingest(spark, config, received_at=RECEIVED_AT + timedelta(days=2))
    return Day(config, first, second, third)


def _stored(day: Day, path: str, batch_seq: int = 1) -> list[dict[str, Any]]:
    sha256 = file_rows(day.config, batch_seq)[path]["sha256"]
    return [row for row in rows_of(day.config, "events") if row["file_sha256"] == sha256]


def test_every_line_is_accounted_for(day: Day) -> None:
    check_accounts(day.config)
    assert day.first.total("lines_in") == sum(row["lines_in"] for row in file_rows(day.config, 1).values())


def test_equal_file_under_another_name_is_skipped(day: Day) -> None:
    """Fault row 15: in the same batch, and in a later one."""
    assert file_rows(day.config, 1)["a.jsonl"]["state"] == "duplicate"
    assert file_rows(day.config, 1)["a-again.jsonl"]["n_new"] == 100
    row = file_rows(day.config, 2)["moved/renamed.jsonl"]
    assert (row["state"], row["n_new"], row["lines_in"]) == ("duplicate", 0, 0)
    assert "b-overlap.jsonl" not in file_rows(day.config, 2)


def test_overlapping_events_are_stored_once(day: Day) -> None:
    """Fault row 16: by event_id, else by all fields; inside a batch and against earlier ones."""
    rows = file_rows(day.config)
    assert (rows["b-overlap.jsonl"]["n_new"], rows["b-overlap.jsonl"]["n_duplicate"]) == (90, 10)
    assert (rows["c-ids.jsonl.zst"]["n_new"], rows["c-ids.jsonl.zst"]["n_duplicate"]) == (50, 5)
    assert (rows["d-overlap.jsonl"]["n_new"], rows["d-overlap.jsonl"]["n_duplicate"]) == (1, 20)
    assert {row["line"] for row in _stored(day, "c-ids.jsonl.zst")} == set(range(1, 51))


def test_file_that_changes_after_the_plan_is_set_aside_and_tried_again(day: Day) -> None:
    """Fault row 17."""
    row = file_rows(day.config, 2)["changing.jsonl"]
    assert (row["state"], row["reason"], row["n_new"]) == ("quarantined", "mutated", 0)
    assert refused_lines(day.config, "changing.jsonl") == {None: "mutated"}
    assert any("changing.jsonl (mutated)" in warning for warning in day.second.warnings)
    assert day.third.total("n_new") == 11


def test_late_events_are_stored_under_their_own_day(day: Day) -> None:
    """Fault row 18."""
    late = date(2025, 1, 29)  # three days before the newest known event
    rows = _stored(day, "late.jsonl", 2)
    assert [row["ds"] for row in rows] == [late] * 100
    assert late in day.second.affected_dates
    assert day.second.late_rows[late] == 100


def test_events_beyond_the_lateness_bound_are_set_aside(day: Day) -> None:
    """Fault row 19."""
    row = file_rows(day.config, 2)["too-late.jsonl"]
    assert (row["n_quarantined"], row["n_malformed"], row["n_new"]) == (30, 0, 0)
    assert set(refused_lines(day.config, "too-late.jsonl").values()) == {"too_late"}
    assert min(row["ds"] for row in rows_of(day.config, "events")) >= date(2025, 1, 1)


@pytest.mark.parametrize(("path", "reason"), [("cut.jsonl.gz", "truncated"), ("crc.jsonl.gz", "corrupt")])
def test_broken_gzip_is_set_aside_whole(day: Day, path: str, reason: str) -> None:
    """Fault row 20: not one row of it, and the other files proceed."""
    row = file_rows(day.config, 1)[path]
    assert (row["state"], row["reason"], row["lines_in"]) == ("quarantined", reason, 0)
    assert _stored(day, path) == []
    assert refused_lines(day.config, path) == {None: reason}


@pytest.mark.parametrize("path", ["cut.parquet", "zero.parquet", "text.parquet"])
def test_file_that_is_no_parquet_is_set_aside_whole(day: Day, path: str) -> None:
    """Fault row 22."""
    row = file_rows(day.config, 1)[path]
    assert (row["state"], row["reason"], _stored(day, path)) == ("quarantined", "corrupt", [])


def test_file_of_no_known_format_is_set_aside_once(day: Day) -> None:
    assert file_rows(day.config, 1)["README.txt"]["reason"] == "unknown_format"
    assert "README.txt" not in file_rows(day.config, 2)


def test_invalid_json_lines_are_set_aside_with_their_place(day: Day) -> None:
    """Fault row 23."""
    row = file_rows(day.config, 1)["bad-json.jsonl"]
    assert (row["lines_in"], row["n_quarantined"], row["n_malformed"]) == (200, 2, 2)
    assert refused_lines(day.config, "bad-json.jsonl") == {51: "bad_json", 200: "bad_encoding"}


def test_unknown_column_is_counted_and_its_row_kept(day: Day) -> None:
    """Fault row 24."""
    row = file_rows(day.config, 1)["foo.csv"]
    assert (row["n_new"], row["n_quarantined"], row["unknown_columns"]) == (1, 0, {"foo": 1})
    assert day.first.unknown_columns["foo"] == 1


def test_lone_quote_swallows_no_line_and_lines_of_one_record_are_counted(day: Day) -> None:
    row = file_rows(day.config, 1)["quotes.csv"]
    assert (row["lines_in"], row["n_new"], row["n_quarantined"], row["n_continued"]) == (4, 3, 0, 1)
    assert row["unknown_columns"] == {"note": 3}
    assert " + 1 continued" in day.first.lines()[0]


def test_file_without_a_required_column_is_set_aside_whole(day: Day) -> None:
    """Fault row 26."""
    assert file_rows(day.config, 1)["no-item.jsonl"]["reason"] == "missing_column"
    assert refused_lines(day.config, "no-item.jsonl") == {None: "missing_column"}


def test_impossible_values_are_set_aside(day: Day) -> None:
    """Fault row 27: the weights never see a negative, a huge or an undefined value."""
    assert refused_lines(day.config, "dwell.jsonl") == {1: "bad_value", 2: "bad_json", 3: "bad_value"}
    assert refused_lines(day.config, "dwell.csv") == {2: "bad_value"}
    values = [row["value"] for row in rows_of(day.config, "events") if row["value"] is not None]
    assert all(0 <= value <= 1e9 for value in values)


def test_impossible_times_are_set_aside(day: Day) -> None:
    """Fault row 28: and no partition is made for them."""
    assert refused_lines(day.config, "times.jsonl") == {1: "bad_time", 2: "bad_time", 3: "bad_time", 4: "future"}
    days = {row["ds"] for row in rows_of(day.config, "events")}
    assert days <= {date(2025, 1, 1) + timedelta(days=number) for number in range(32)}
    partitions = {path.name for path in (Path(table_path(day.config.root, "events"))).glob("ds=*")}
    assert partitions == {f"ds={one}" for one in days}


def test_missing_ids_are_set_aside_and_missing_users_are_anonymous(day: Day) -> None:
    """Fault row 29, with the rule that a line without a user is anonymous."""
    assert refused_lines(day.config, "ids.jsonl") == {1: "bad_item_id", 2: "bad_item_id", 3: "bad_item_id"}
    assert file_rows(day.config, 1)["ids.jsonl"]["n_anonymous"] == 1
    assert all(row["item_id"] for row in rows_of(day.config, "events"))


def test_unicode_ids_come_back_byte_for_byte_from_three_readers(day: Day, spark: SparkSession) -> None:
    """Fault row 30."""
    expected = {(one, one) for one in UNICODE_IDS}
    sha256 = file_rows(day.config, 1)["unicode.jsonl.gz"]["sha256"]
    events = read_table(spark, day.config.root, EVENTS)
    by_spark = {(row.user_id, row.item_id) for row in events.where(events.file_sha256 == sha256).collect()}
    by_delta_rs = {(row["user_id"], row["item_id"]) for row in _stored(day, "unicode.jsonl.gz")}
    files = DeltaTable(table_path(day.config.root, "events")).file_uris()
    query = "SELECT user_id, item_id FROM read_parquet(?) WHERE file_sha256 = ?"
    by_duckdb = set(duckdb.execute(query, [files, sha256]).fetchall())
    assert by_spark == by_delta_rs == by_duckdb == expected
    assert len(expected) == 30


def test_gigantic_ids_leave_small_traces(day: Day) -> None:
    """Fault row 31."""
    assert refused_lines(day.config, "long.jsonl") == {1: "line_too_long", 2: "bad_item_id"}
    quarantined = [row for row in rows_of(day.config, "quarantine") if row["path"] == "long.jsonl"]
    assert all(len(row["raw"].encode()) <= 4096 and len(row["raw_sha256"]) == 64 for row in quarantined)
    assert all(len(row["detail"]) < 500 for row in quarantined)
    for name in ("events", "quarantine"):
        log = Path(table_path(day.config.root, name)) / "_delta_log"
        # The bar is 64 KiB for a log; a commit has an action for each of its days, so each action is held to 4 KiB.
        actions = [line for path in log.glob("*.json") for line in path.read_text().splitlines()]
        assert max(len(line.encode()) for line in actions) < 4096


def test_file_without_rows_is_recorded(day: Day) -> None:
    """Fault row 34: an empty file is a normal file."""
    row = file_rows(day.config, 2)["empty.jsonl"]
    assert (row["state"], row["lines_in"]) == ("ingested", 0)


def test_ingest_without_new_files_adds_no_row(day: Day, spark: SparkSession) -> None:
    """Fault row 34: a day without files; also what a second ingest of the same folder does."""
    before = (batch_states(day.config), len(rows_of(day.config, "ingest_files")), len(rows_of(day.config, "events")))
    report = ingest(spark, day.config, received_at=RECEIVED_AT + timedelta(days=3))
    assert report.lines() == ["events: no new files"]
    after = (batch_states(day.config), len(rows_of(day.config, "ingest_files")), len(rows_of(day.config, "events")))
    assert before == after
    assert before[0] == [(batch_seq, state) for batch_seq in (1, 2, 3) for state in ("planned", "done")]


def test_quarantine_keeps_a_line_as_it_was(day: Day) -> None:
    (row,) = [one for one in rows_of(day.config, "quarantine") if one["path"] == "bad-json.jsonl" and one["line"] == 51]
    assert (row["raw"], row["kind"], row["batch_seq"]) == ('{"user_id": ', "events", 1)
    assert (row["quarantined_at"], row["ds"]) == (RECEIVED_AT, RECEIVED_AT.date())
