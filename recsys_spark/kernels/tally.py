"""What was counted in a file while it was parsed, and what became of it.

Owns: the accounting of one file and the rule of missing columns.  The summary travels to the driver as JSON.

Every line of a text file that is not blank, but for the header of a CSV file, is counted where it stands, so that no
record can take lines in unseen: a record over n lines is one that is parsed or quarantined, and n - 1 that continue it.

    lines_in = n_parsed + n_quarantined + n_continued
    n_parsed = n_new + n_anonymous + n_duplicate        (once they are held against what is stored)

A blank line inside a quoted cell is one of those that continue a record.  In Parquet a row is a line.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from recsys_spark.kernels.decode import FileFault
from recsys_spark.kernels.records import Fields, RowFault

NOT_MALFORMED = frozenset({"too_late", "future", "skipped_type"})
# A short file without any user may be the log of a quiet hour; a longer one was mapped wrongly.
MIN_LINES_TO_MISS = 100
_MAX_SHAPES = 1000
_MAX_UNKNOWN = 100


@dataclass(frozen=True)
class FileSummary:
    """What became of one file.  state: `read`, or `quarantined` whole with a reason; then none of its rows counts.

    days: parsed rows by their day, in days since 1970.  first_malformed: (line, reason).  n_continued: lines after the
    first one of their record.
    """

    index: int
    state: str
    reason: str | None = None
    detail: str | None = None
    lines_in: int = 0
    n_parsed: int = 0
    n_quarantined: int = 0
    n_malformed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_malformed: tuple[int, str] | None = None
    unknown_columns: dict[str, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    n_continued: int = 0

    @property
    def n_records(self) -> int:
        """Records, of however many lines: what shares are reckoned of."""
        return self.lines_in - self.n_continued

    def to_json(self) -> str:
        """The summary as text, for the way back to the driver."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "FileSummary":
        """The summary that `to_json` wrote."""
        fields = json.loads(text)
        first = fields["first_malformed"]
        # JSON knows no tuples, and its keys are text.
        days = {int(day): n_rows for day, n_rows in fields["days"].items()}
        fields |= {"first_malformed": tuple(first) if first else None, "days": days}
        return FileSummary(**fields)


class Tally:
    """Counts of the file in hand."""

    def __init__(self, known: frozenset[str] | None, required: frozenset[str], expected: frozenset[str]) -> None:
        """known, required and expected as in `read_file.Reading`."""
        self.known = known
        self.required = required
        self.missing = set(required | expected)
        self.lines_in = self.n_continued = self.n_objects = self.n_parsed = self.n_malformed = 0
        self.reasons: Counter[str] = Counter()
        self.first_malformed: tuple[int, str] | None = None
        self.unknown: Counter[str] = Counter()
        self.header_unknown: list[str] = []
        self.days: Counter[int] = Counter()
        self._shapes: dict[tuple[str, ...], list[str]] = {}

    def take_header(self, names: list[str]) -> None:
        """Checks the columns of a file that declares them; raises FileFault `missing_column`."""
        absent = sorted(self.missing - set(names))
        if absent:
            raise _missing_column(absent, names)
        self.missing = set()
        if self.known is not None:
            self.header_unknown = [name for name in names if name not in self.known]
        self.known = None

    def count(self, fields: Fields | RowFault, n_lines: int = 1) -> None:
        """Counts a record of `n_lines`, and the columns that the mapping does not name."""
        self.lines_in += n_lines
        self.n_continued += n_lines - 1
        if isinstance(fields, RowFault):
            return
        self.n_objects += 1
        if self.missing:
            self.missing.difference_update(fields)
        if self.known is None:
            return
        shape = tuple(fields)
        unknown = self._shapes.get(shape)
        if unknown is None:
            unknown = [name for name in shape if name not in self.known]
            if len(self._shapes) < _MAX_SHAPES:
                self._shapes[shape] = unknown
        for name in unknown:
            self.unknown[name if name in self.unknown or len(self.unknown) < _MAX_UNKNOWN else "(others)"] += 1

    def refuse(self, line: int, fault: RowFault) -> None:
        """Counts a refused record by the line on which it starts."""
        self.reasons[fault.reason] += 1
        if fault.reason not in NOT_MALFORMED:
            self.n_malformed += 1
            self.first_malformed = self.first_malformed or (line, fault.reason)

    def summary(self, index: int) -> FileSummary:
        """The accounting of the file; raises FileFault `missing_column` if no line had a column that it must have."""
        absent = self.missing if self.n_objects >= MIN_LINES_TO_MISS else self.missing & self.required
        if absent and self.n_objects:
            raise _missing_column(sorted(absent), [name for shape in self._shapes for name in shape])
        unknown = {_plain(name): n for name, n in self.unknown.items()}
        unknown |= {_plain(name): self.lines_in - self.n_continued for name in self.header_unknown[:_MAX_UNKNOWN]}
        return FileSummary(
            index,
            "read",
            lines_in=self.lines_in,
            n_parsed=self.n_parsed,
            n_quarantined=sum(self.reasons.values()),
            n_malformed=self.n_malformed,
            reasons=dict(self.reasons),
            first_malformed=self.first_malformed,
            unknown_columns=unknown,
            days=dict(self.days),
            n_continued=self.n_continued,
        )


def _missing_column(absent: list[str], found: list[str]) -> FileFault:
    shown = ", ".join(_plain(name) for name in dict.fromkeys(found[:20])) or "none"
    return FileFault("missing_column", f"expected the columns {', '.join(absent)}, got {shown}")


def _plain(name: str) -> str:
    """A column's name as it may stand in a ledger: short and valid Unicode."""
    return name[:100].encode(errors="replace").decode()
