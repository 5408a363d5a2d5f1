"""Accounting of an ingest, file by file, and the gates on bad files and bad rows.

lines in = new + anonymous + duplicate + quarantined + continued, the last being lines after the first of their record.
Owns: the reports, the check of the accounting, the bad-file and the bad-row gate.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from recsys_spark.config.schema import Ingest
from recsys_spark.errors import ContractError
from recsys_spark.ingest.decode import PlannedFile
from recsys_spark.ingest.read_file import FileSummary

# A lone damaged file or line among few is quarantined and the others go on, whatever its share.
MIN_BAD = 2


@dataclass(frozen=True)
class FileAccount:
    """One file: state is ingested, duplicate, quarantined, or refused with its batch."""

    planned: PlannedFile
    state: str
    reason: str | None = None
    lines_in: int = 0
    n_new: int = 0
    n_anonymous: int = 0
    n_duplicate: int = 0
    n_quarantined: int = 0
    n_malformed: int = 0
    unknown_columns: dict[str, int] = field(default_factory=dict)
    n_continued: int = 0

    @property
    def path(self) -> str:
        """The file, relative to the landing folder."""
        return self.planned.path


@dataclass(frozen=True)
class BatchReport:
    """One batch.  affected_dates: days that gained events; late_rows: rows added per day before the watermark's day."""

    batch_seq: int
    kind: str
    replayed: bool
    files: tuple[FileAccount, ...]
    first_time: datetime | None = None
    last_time: datetime | None = None
    affected_dates: tuple[date, ...] = ()
    late_rows: dict[date, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def total(self, name: str) -> int:
        """The sum of a figure over the files."""
        return sum(getattr(one, name) for one in self.files)

    def lines(self) -> list[str]:
        """The batch in words."""
        again = " (replayed)" if self.replayed else ""
        names = ["new", "anonymous", "duplicate", "quarantined"]
        names += ["continued"] if self.total("n_continued") else []
        parts = " + ".join(f"{self.total(f'n_{name}'):,} {name}" for name in names)
        n_lines = f"{len(self.files):,} files, {self.total('lines_in'):,} lines"
        lines = [f"{self.kind} batch {self.batch_seq}{again}: {n_lines} = {parts}"]
        if self.reasons:
            lines.append("  quarantined: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.reasons.items())))
        unknown = count_unknown(self.files)
        if unknown:
            lines.append("  columns without a mapping: " + ", ".join(f"{name} {n:,}" for name, n in unknown.items()))
        if self.late_rows:
            lines.append("  late: " + ", ".join(f"{day} {n:,}" for day, n in sorted(self.late_rows.items())))
        return lines


@dataclass(frozen=True)
class IngestReport:
    """Everything that one command took in.  kinds: the feeds that it looked at."""

    kinds: tuple[str, ...]
    batches: tuple[BatchReport, ...]
    warnings: tuple[str, ...]

    @property
    def affected_dates(self) -> tuple[date, ...]:
        """Days that gained events, ascending."""
        return tuple(sorted({day for batch in self.batches for day in batch.affected_dates}))

    @property
    def late_rows(self) -> dict[date, int]:
        """Rows added per day before the watermark's day."""
        late: Counter[date] = Counter()
        for batch in self.batches:
            late.update(batch.late_rows)
        return dict(late)

    @property
    def unknown_columns(self) -> dict[str, int]:
        """Columns that the mapping does not name, with the rows that had them."""
        return count_unknown(one for batch in self.batches for one in batch.files)

    def total(self, name: str) -> int:
        """The sum of a figure over all files."""
        return sum(batch.total(name) for batch in self.batches)

    def lines(self) -> list[str]:
        """The report in words, for the command line."""
        if not self.batches:
            return [f"{' and '.join(self.kinds)}: no new files"]
        return [line for batch in self.batches for line in batch.lines()]


def count_unknown(accounts: Iterable[FileAccount]) -> dict[str, int]:
    """Rows by the unmapped columns that they had."""
    unknown: Counter[str] = Counter()
    for one in accounts:
        unknown.update(one.unknown_columns)
    return dict(sorted(unknown.items()))


def account_for(
    planned: PlannedFile, summary: FileSummary, stored: tuple[int, int, int], refused: bool = False
) -> FileAccount:
    """The account of a file.  stored: rows that were new with a user, new without one, and known.

    Raises ContractError unless every line of the file is in exactly one of the five sums.
    """
    if summary.state != "read":
        return FileAccount(planned, "refused" if refused else "quarantined", summary.reason)
    n_new, n_anonymous, n_duplicate = stored
    if not refused and sum(stored) + summary.n_quarantined + summary.n_continued != summary.lines_in:
        raise ContractError(
            f"{planned.path}: expected lines in = new + anonymous + duplicate + quarantined + continued, got "
            f"{summary.lines_in} = {n_new} + {n_anonymous} + {n_duplicate} + {summary.n_quarantined} + "
            f"{summary.n_continued}; this is a fault of the program"
        )
    return FileAccount(
        planned,
        "refused" if refused else "ingested",
        "batch_refused" if refused else None,
        summary.lines_in,
        n_new,
        n_anonymous,
        n_duplicate,
        summary.n_quarantined,
        summary.n_malformed,
        summary.unknown_columns,
        summary.n_continued,
    )


def count_reasons(summaries: Iterable[FileSummary]) -> dict[str, int]:
    """Refused lines by reason; a file that was quarantined whole counts once."""
    reasons: Counter[str] = Counter()
    for one in summaries:
        reasons.update(one.reasons if one.state == "read" else {f"file:{one.reason}": 1})
    return dict(reasons)


def gate_faults(files: Sequence[PlannedFile], summaries: Sequence[FileSummary], bounds: Ingest) -> list[str]:
    """What exceeds the bounds of a batch, with the worst place; [] if the batch is accepted.

    A gate needs at least MIN_BAD bad files, or lines: a lone one is quarantined and never stops a batch.
    """
    faults = []
    bad = [one for one in summaries if one.state != "read"]
    if len(bad) >= MIN_BAD and len(bad) > bounds.max_bad_file_ratio * len(files):
        reasons = Counter(one.reason for one in bad)
        faults.append(
            f"expected at most {bounds.max_bad_file_ratio:.2%} damaged files, got {len(bad)} of {len(files)} "
            f"({_counts(reasons)}), e.g. {files[bad[0].index].path}: {bad[0].detail}; deliver them again or take them "
            "out of the landing folder, or raise ingest.max_bad_file_ratio"
        )
    n_records, n_malformed = sum(one.n_records for one in summaries), sum(one.n_malformed for one in summaries)
    if n_malformed >= MIN_BAD and n_malformed > bounds.max_bad_row_ratio * n_records:
        worst = max(summaries, key=lambda one: (one.n_malformed, -one.index))
        line, reason = worst.first_malformed or (0, "")
        faults.append(
            f"expected at most {bounds.max_bad_row_ratio:.2%} malformed lines, got {n_malformed:,} of {n_records:,} "
            f"({_counts(count_reasons(summaries))}), e.g. {files[worst.index].path} line {line} ({reason}); correct "
            "the mapping in your settings or the files, or raise ingest.max_bad_row_ratio"
        )
    return faults


def _counts(reasons: dict[str, int] | Counter[str | None]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items(), key=lambda item: str(item[0])))
