"""The accounting of one file: every line counted once, drift named, a wrong mapping found."""

import pytest

from recsys_spark.ingest.decode import FileFault
from recsys_spark.ingest.read_file import MIN_LINES_TO_MISS, FileCounter, FileSummary
from recsys_spark.ingest.records import RowFault

KNOWN = frozenset({"item", "time", "user"})


def _tally() -> FileCounter:
    return FileCounter(KNOWN, required=frozenset({"item", "time"}), expected=frozenset({"user"}))


def test_tally_counts_unmapped_columns_by_line() -> None:
    tally = _tally()
    for fields in ({"item": 1, "time": 1}, {"item": 1, "time": 1, "foo": 1}, {"item": 1, "foo": 2, "bar": 3}):
        tally.count(fields)
    assert tally.summary(0).unknown_columns == {"foo": 2, "bar": 1}


def test_tally_bounds_what_it_remembers_when_every_line_has_other_columns() -> None:
    tally = _tally()
    for number in range(2000):
        tally.count({"item": 1, "time": 1, "user": 1, f"column-{number}": 1})
    unknown = tally.summary(0).unknown_columns
    assert len(unknown) == 101
    assert unknown["(others)"] == 1900
    assert len(tally._shapes) == 1000


def test_tally_separates_malformed_from_late_lines() -> None:
    tally = _tally()
    for line, reason in enumerate(["too_late", "bad_time", "future", "bad_time", "skipped_type"], start=1):
        tally.count({"item": 1, "time": 1})
        tally.refuse(line, RowFault(reason, ""))
    summary = tally.summary(0)
    assert (summary.n_quarantined, summary.n_malformed, summary.first_malformed) == (5, 2, (2, "bad_time"))
    assert summary.reasons == {"too_late": 1, "bad_time": 2, "future": 1, "skipped_type": 1}


def test_tally_finds_a_required_column_that_no_line_has() -> None:
    tally = _tally()
    tally.count({"time": 1, "user": 1})
    with pytest.raises(FileFault, match="missing_column: expected the columns item, got time, user"):
        tally.summary(0)


def test_tally_takes_a_short_file_without_users_for_a_quiet_hour() -> None:
    tally = _tally()
    for _ in range(MIN_LINES_TO_MISS - 1):
        tally.count({"item": 1, "time": 1})
    assert tally.summary(0).lines_in == MIN_LINES_TO_MISS - 1
    tally.count({"item": 1, "time": 1})
    with pytest.raises(FileFault, match="expected the columns user"):
        tally.summary(0)


def test_tally_accepts_a_file_of_unreadable_lines_for_the_row_gate() -> None:
    tally = _tally()
    tally.count(RowFault("bad_json", ""))
    assert tally.summary(0).lines_in == 1


def test_tally_counts_the_lines_of_a_record() -> None:
    tally = _tally()
    for n_lines in (1, 4, 2):
        tally.count({"item": 1, "time": 1, "user": 1}, n_lines)
    summary = tally.summary(0)
    assert (summary.lines_in, summary.n_continued) == (1 + 4 + 2, 3 + 1)


def test_tally_checks_a_header_at_once() -> None:
    with pytest.raises(FileFault, match="expected the columns item, user, got time"):
        _tally().take_header(["time"])


def test_file_summary_survives_its_way_to_the_driver() -> None:
    summary = FileSummary(3, "read", lines_in=5, reasons={"a": 1}, first_malformed=(2, "a"), days={19_000: 4})
    assert FileSummary.from_json(summary.to_json()) == summary
