"""Cells of one line of a CSV file that is read for itself, and how far a quoted cell may run over lines.

Owns: what tells text of several lines from a stray quote, which would swallow all lines up to the next one.
"""

import csv
import re
from collections.abc import Iterator
from functools import cache
from typing import cast

# Reviews, addresses and short descriptions have a few lines.  A stray quote runs to the next one, which in a log may be
# thousands of lines away, and each of those lines is an event.
MAX_CELL_LINES = 20
# Of one record.  More would make a file in which every line opens a cell slow: each is read again from every line on.
MAX_LONG_CELLS = 5
# All cells of a record over several lines together: it is held in memory.  As long as one line may be by default.
MAX_RECORD_CHARS = 1 << 20


def cells_of_line(text: str, mark: str) -> list[str]:
    """Cells of a line between delimiters `mark`; a quote that does not enclose a whole cell is a letter.

    It is so in a line with a cell that is never closed, and in all tab-separated text, which most writers never quote.
    Else a cell that goes on after its closing quote raises csv.Error: nobody can tell what was meant.
    """
    is_open = False

    def lines() -> Iterator[str]:
        nonlocal is_open
        yield text
        is_open = True  # asked for more, within a cell

    try:
        return next(csv.reader(lines(), delimiter=mark, strict=True), [])
    except csv.Error:
        if not is_open and mark != "\t":
            raise
    return _lenient_cells(text.removesuffix("\n").removesuffix("\r"), mark)


def _lenient_cells(text: str, mark: str) -> list[str]:
    pattern, cells, at = _cell_of(mark), [], 0
    while at <= len(text):
        found = cast("re.Match[str]", pattern.match(text, at))  # the second alternative matches an empty cell
        whole, plain = found.groups()
        cells.append(plain if whole is None else whole.replace('""', '"'))
        at = found.end() + 1  # past the delimiter
    return cells


@cache
def _cell_of(mark: str) -> re.Pattern[str]:
    """A cell that is quoted whole, or else all up to the delimiter."""
    sign = re.escape(mark)
    return re.compile(rf'"((?:[^"]|"")*+)"(?={sign}|\Z)|([^{sign}]*)')
