"""Line buffer of the CSV reader: lines are held until it is sure that they make one record.

Owns: what is kept of a line, and how many lines are read ahead for a quoted cell that is not closed yet.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from recsys_spark.ingest.quoted_cells import MAX_CELL_LINES, MAX_LONG_CELLS, MAX_RECORD_CHARS

RAW_BYTES = 4096


@dataclass(frozen=True)
class Raw:
    """What quarantine keeps of a line: its beginning, and the hash of the whole."""

    head: bytes
    sha256: str
    n_bytes: int


Line = tuple[int, bytes | Raw]


def raw_of(line: bytes) -> Raw:
    """The beginning and the hash of `line`."""
    return Raw(line[:RAW_BYTES], sha256(line).hexdigest(), len(line))


def n_lines_of(raw: bytes | Raw) -> int:
    """How many lines of the file a record takes."""
    return 1 + raw.count(b"\n") if isinstance(raw, bytes) else 1


def text_of(line: bytes | Raw) -> str:
    """A line for the csv module; "" for one that is too long to be read."""
    # Bytes that are not UTF-8 survive as surrogates, so that only their own record is refused.
    return line.decode(errors="surrogateescape") + "\n" if isinstance(line, bytes) else ""


class HeldLines:
    """Lines as the csv module asks for them: `taken` are those of the current record."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._back: list[Line] = []  # the next one last
        self.n_cells = 1  # cells of a record; the reader sets it by the header
        self.taken: list[Line] = []

    def texts(self) -> Iterator[str]:
        """The texts of the lines; they end, as at the end of the file, where an open cell is too long."""
        n_chars = 0
        while not (self.taken and self._runs_too_far(n_chars)):
            one = self._back.pop() if self._back else next(self._lines, None)
            if one is None:
                return
            text = text_of(one[1])
            n_chars = len(text) + (n_chars if self.taken else 0)
            self.taken.append(one)
            yield text

    def _runs_too_far(self, n_chars: int) -> bool:
        """Whether the cell that is open at the end of `taken`, or the whole record, has reached its bound."""
        n_lines = len(self.taken)
        if n_lines < MAX_CELL_LINES:
            return n_chars > MAX_RECORD_CHARS
        lately = self.taken[1 - MAX_CELL_LINES :]  # if none has a quote, the cell is open since the line before these
        same_cell = not any(isinstance(line, bytes) and b'"' in line for _, line in lately)
        return same_cell or n_chars > MAX_RECORD_CHARS or n_lines >= MAX_CELL_LINES * min(self.n_cells, MAX_LONG_CELLS)

    def give_back(self) -> None:
        """Puts back all lines taken except the first, to be read again."""
        self._back += reversed(self.taken[1:])
        del self.taken[1:]

    def raw(self) -> bytes | Raw:
        """The lines taken, with the line feeds between them."""
        if len(self.taken) == 1:
            return self.taken[0][1]
        return b"\n".join(line for _, line in self.taken if isinstance(line, bytes))
