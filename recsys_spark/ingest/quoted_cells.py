"""Quoted cells of CSV: the cells of a line that is read by itself, and how many lines a quoted cell may take.

Owns: the bounds that tell text of several lines from a stray quote, which would swallow all lines up to the next one.
"""

import csv
import re
from collections.abc import Iterator
from functools import cache
from typing import cast

# Reviews, addresses and short descriptions have a few lines.  A stray quote runs to the next one, which in a log may be
# thousands of lines away, and each of those lines is an event.
MAX_CELL_LINES = 20
# Long cells of one record.  A higher bound would make a file slow in which every line opens a cell: after each failed
# record, reading starts again at its second line.
MAX_LONG_CELLS = 5
# Characters of a record of several lines, which is held in memory: as many as one line may have by default.
MAX_RECORD_CHARS = 1 << 20


def cells_of_line(text: str, mark: str) -> list[str]:
    """The cells of a line between delimiters `mark`.

    In a line with a cell that is never closed, and in all tab-separated text, which most writers never quote, a quote
    that does not enclose a whole cell is a letter.  Else a cell that goes on after its closing quote raises csv.Error:
    it is not clear what was meant.
    """
    is_open = False

    def lines() -> Iterator[str]:
        nonlocal is_open
        yield text
        is_open = True  # the reader asks for another line, so a cell is open

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
    """Pattern of a cell that is quoted as a whole, or else of all text up to the delimiter."""
    sign = re.escape(mark)
    return re.compile(rf'"((?:[^"]|"")*+)"(?={sign}|\Z)|([^{sign}]*)')
