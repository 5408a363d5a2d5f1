"""Lines in are lines out, and the gates refuse damage but not a lone bad file or line."""

from dataclasses import replace
from datetime import date

import pytest

from recsys_spark.config.load import load_config
from recsys_spark.errors import ContractError
from recsys_spark.ingest.accounting import (
    BatchReport,
    FileAccount,
    IngestReport,
    account_for,
    count_reasons,
    gate_faults,
)
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.read_file import FileSummary

BOUNDS = load_config().ingest  # 1 % of the lines, 5 % of the files


def _file(index: int) -> PlannedFile:
    return PlannedFile(index, f"day-{index}.jsonl", f"{index:064x}", 10)


def _read(index: int, lines_in: int, n_malformed: int = 0, n_late: int = 0) -> FileSummary:
    n_quarantined = n_malformed + n_late
    return FileSummary(
        index, "read", None, None, lines_in, lines_in - n_quarantined, n_quarantined, n_malformed,
        {"bad_time": n_malformed, "too_late": n_late}, (7, "bad_time") if n_malformed else None,
    )  # fmt: skip


def _faults(summaries: list[FileSummary]) -> list[str]:
    return gate_faults([_file(one.index) for one in summaries], summaries, BOUNDS)


def _damaged(n_bad: int, n_files: int) -> list[FileSummary]:
    bad = [FileSummary(index, "quarantined", "truncated", "expected a whole gzip stream") for index in range(n_bad)]
    return bad + [_read(index, 10) for index in range(n_bad, n_files)]


@pytest.mark.parametrize(("n_bad", "n_files", "refused"), [(1, 1, False), (1, 3, False), (2, 39, True), (2, 40, False)])
def test_gate_faults_counts_damaged_files(n_bad: int, n_files: int, refused: bool) -> None:
    assert bool(_faults(_damaged(n_bad, n_files))) == refused


@pytest.mark.parametrize(
    ("n_malformed", "lines_in", "refused"), [(1, 2, False), (2, 199, True), (2, 200, False), (50, 1000, True)]
)
def test_gate_faults_counts_malformed_lines(n_malformed: int, lines_in: int, refused: bool) -> None:
    assert bool(_faults([_read(0, lines_in, n_malformed)])) == refused


def test_gate_faults_leaves_late_lines_out() -> None:
    assert _faults([_read(0, 100, n_late=90)]) == []


def test_gate_faults_names_counts_place_and_remedy() -> None:
    files, lines = _faults([*_damaged(2, 3), _read(3, 100, n_malformed=5)])
    assert "got 2 of 4 (truncated 2), e.g. day-0.jsonl: expected a whole gzip stream" in files
    assert "raise ingest.max_bad_file_ratio" in files
    assert "got 5 of 110" in lines
    assert "e.g. day-3.jsonl line 7 (bad_time)" in lines
    assert "raise ingest.max_bad_row_ratio" in lines


def test_account_for_counts_the_lines_that_continue_a_record() -> None:
    summary = replace(_read(0, 10, n_malformed=1), n_continued=4)
    assert account_for(_file(0), summary, (3, 1, 1)).n_continued == 4
    with pytest.raises(ContractError, match="got 10 = 4 \\+ 1 \\+ 1 \\+ 1 \\+ 4"):
        account_for(_file(0), summary, (4, 1, 1))


def test_gate_faults_takes_its_share_of_records() -> None:
    """A record of many lines must not thin the bad ones out."""
    assert _faults([replace(_read(0, 1000, n_malformed=2), n_continued=810)])


def test_account_for_demands_that_the_sums_hold() -> None:
    account = account_for(_file(0), _read(0, 10, n_malformed=1), (5, 3, 1))
    assert (account.state, account.lines_in, account.n_new, account.n_anonymous) == ("ingested", 10, 5, 3)
    assert (account.n_duplicate, account.n_quarantined, account.n_malformed) == (1, 1, 1)
    with pytest.raises(ContractError, match="got 10 = 5 \\+ 3 \\+ 0 \\+ 1 \\+ 0"):
        account_for(_file(0), _read(0, 10, n_malformed=1), (5, 3, 0))


def test_account_for_marks_every_file_of_a_refused_batch() -> None:
    good = account_for(_file(0), _read(0, 10), (0, 0, 0), refused=True)
    bad = account_for(_file(1), FileSummary(1, "quarantined", "corrupt"), (0, 0, 0), refused=True)
    assert [(one.state, one.reason) for one in (good, bad)] == [("refused", "batch_refused"), ("refused", "corrupt")]


def test_count_reasons_tells_files_from_lines() -> None:
    assert count_reasons([*_damaged(2, 2), _read(2, 10, 1, 2)]) == {"file:truncated": 2, "bad_time": 1, "too_late": 2}


def test_report_says_where_the_lines_went() -> None:
    account = FileAccount(_file(0), "ingested", None, 1234, 1000, 200, 30, 4, 1, {"foo": 9})
    day = date(2025, 1, 3)
    batch = BatchReport(
        3, "events", True, (account,), affected_dates=(day,), late_rows={day: 5}, reasons={"bad_time": 1, "future": 3}
    )
    report = IngestReport(("events",), (batch,), ())
    assert report.lines() == [
        "events batch 3 (replayed): 1 files, 1,234 lines = 1,000 new + 200 anonymous + 30 duplicate + 4 quarantined",
        "  quarantined: bad_time 1, future 3",
        "  columns without a mapping: foo 9",
        "  late: 2025-01-03 5",
    ]
    assert (report.affected_dates, report.late_rows, report.unknown_columns) == ((day,), {day: 5}, {"foo": 9})
    assert report.total("n_new") == 1000
    assert IngestReport(("items", "users"), (), ()).lines() == ["items and users: no new files"]
