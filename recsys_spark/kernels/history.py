"""Which rows of a snapshot change what is known of an item, in whatever order snapshots are delivered.

Owns: the history of one id as rows that each hold until the next.  Called by the adapter for every id of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# A snapshot that is delivered again with another content takes effect just after the first delivery of the same time.
CORRECTION_US = 1000

_STORED, _SNAPSHOT, _ARRIVAL = 0, 1, 2


@dataclass(frozen=True)
class Arrival:
    """A row of the batch.  dated_by_file: its time is the snapshot's, not one that the row gives of itself."""

    time_us: int
    content: str
    file_index: int
    line: int
    dated_by_file: bool


@dataclass(frozen=True)
class Verdict:
    """What becomes of a row.

    new: it is stored as of `time_us`.  duplicate: it says what was known.  restored: nothing arrived; the stored row of
    `source_us` is stored again as of `time_us`, because a late snapshot must not outlive the snapshot after it.
    """

    kind: Literal["new", "duplicate", "restored"]
    time_us: int
    file_index: int = -1
    line: int = 0
    source_us: int = -1


def merge_history(
    stored: Sequence[tuple[int, str]], arriving: Sequence[Arrival], snapshots: Sequence[int]
) -> Iterator[Verdict]:
    """One verdict per arrival, and those that restore.

    stored: (time_us, content) of one id, ascending.  snapshots: times of the snapshots that were ingested before,
    ascending; a stored row that they left alone was confirmed by them.  Of arrivals for the same time, the last in the
    order of files and lines holds; the others are duplicates.
    """
    order = sorted(arriving, key=lambda one: (one.time_us, one.file_index, one.line))
    for earlier, later in pairwise(order):
        if earlier.time_us == later.time_us:
            yield Verdict("duplicate", earlier.time_us, earlier.file_index, earlier.line)
    held = {one.time_us: one for one in order}
    taken = {time_us for time_us, _ in stored}
    steps: list[tuple[int, int, str | Arrival]] = [(time_us, _STORED, content) for time_us, content in stored]
    steps += [(_after_corrections(one.time_us, stored), _ARRIVAL, one) for one in held.values()]
    steps += [(time_us, _SNAPSHOT, "") for time_us in snapshots if time_us not in held]
    current = old = ""  # content in force with and without the batch; "" before the first row
    old_us, late = -1, False
    for time_us, kind, what in sorted(steps, key=lambda step: step[:2]):
        if kind == _STORED:
            current = old = str(what)
            old_us, late = time_us, False
        elif isinstance(what, Arrival):
            if what.content == current:
                yield Verdict("duplicate", time_us, what.file_index, what.line)
                continue
            current, late = what.content, what.dated_by_file
            yield Verdict("new", time_us + (time_us in taken), what.file_index, what.line)
        elif late and old and current != old:
            current, late = old, False
            yield Verdict("restored", time_us, source_us=old_us)


def _after_corrections(time_us: int, stored: Sequence[tuple[int, str]]) -> int:
    """`time_us`, or the time of the last stored row that corrected a row of that time."""
    return max((at for at, _ in stored if time_us <= at < time_us + CORRECTION_US), default=time_us)
