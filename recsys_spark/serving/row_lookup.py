"""Point lookup in a sorted table: a key's rows are found by min/max statistics of files and row groups, and read alone.

Owns: the path from a key to a few hundred rows of Parquet: bounds in the Delta log -> file, bounds in its footer -> row
group, key column -> row.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.warehouse.run_files import DataFile, RunFiles
from recsys_spark.warehouse.tables import ID_MAX_BYTES

# A bound shorter than this is the value itself: Delta cuts texts in its log at 32 characters, delta-rs and arrow-rs at
# 64 bytes, parquet-mr not at all.
_SHORTEST_CUT = 32
# What a cut upper bound may have lost: no id is greater than its own prefix followed by this.
_ABOVE_ANY_TAIL = "\U0010ffff" * (ID_MAX_BYTES // 4)


class RangeIndex:
    """Which of many closed text ranges can hold a key, O(log n + hits) where ranges do not overlap.

    Order is that of Python text, by code point.  Spark sorts by the bytes of UTF-8, which is the same order for all
    valid text.  Ranges may overlap and come in any order; a bound of None makes its range a hit for every key.
    """

    def __init__(self, ranges: Iterable[tuple[str | None, str | None]]) -> None:
        known = []
        self._unknown = []
        for position, (low, high) in enumerate(ranges):
            if low is None or high is None:
                self._unknown.append(position)
            else:
                known.append((low, high if len(high) < _SHORTEST_CUT else high + _ABOVE_ANY_TAIL, position))
        known.sort()
        self._lows = [low for low, _, _ in known]
        self._highs = [high for _, high, _ in known]
        self._reach = list(accumulate(self._highs, max))
        self._positions = [position for _, _, position in known]

    def hits(self, key: str) -> list[int]:
        """Positions, in the order given at construction, of the ranges that can hold `key`."""
        found = list(self._unknown)
        at = bisect_right(self._lows, key) - 1
        while at >= 0 and self._reach[at] >= key:
            if self._highs[at] >= key:
                found.append(self._positions[at])
            at -= 1
        return sorted(found)


@dataclass(frozen=True)
class _Footer:
    metadata: pq.FileMetaData
    row_groups: RangeIndex


class RowLookup:
    """Finds rows of one run of one table by the column that its files are sorted by.

    Footers are kept after their first use, about 0.5 KB per row group and column; rows are not.  Safe for
    concurrent use: each call opens its own handle on the file (0.05 ms), and a footer that two threads load at once is
    the same twice.
    """

    def __init__(self, table: RunFiles, key: str) -> None:
        self._table = table
        self._key = key
        self._files = RangeIndex((file.low, file.high) for file in table.files)
        self._footers: dict[str, _Footer] = {}

    def find(self, key: str, also: Mapping[str, str] | None = None, columns: Sequence[str] = ()) -> pa.Table | None:
        """The one row whose key column equals `key` and whose other columns equal `also`; None if there is none.

        columns: what to read, () for all.
        """
        wanted = {self._key: key} | dict(also or {})
        for position in self._files.hits(key):
            file = self._table.files[position]
            for row_group in self._footer(file).row_groups.hits(key):
                # The keys first: they cost a tenth of a row group of lists, which an absent key need not read.
                row = _position(self._read(file, row_group, list(wanted)), wanted)
                if row is not None:
                    return self._read(file, row_group, columns).slice(row, 1)
        return None

    def find_many(self, keys: Iterable[str], columns: Sequence[str] = ()) -> list[pa.Table]:
        """The rows whose key column is one of `keys`, in no order; every row group that can hold one is read once."""
        wanted = set(keys)
        row_groups = {
            (position, row_group)
            for key in wanted
            for position in self._files.hits(key)
            for row_group in self._footer(self._table.files[position]).row_groups.hits(key)
        }
        values = pa.array(sorted(wanted), pa.string())
        found = []
        for position, row_group in sorted(row_groups):
            rows = self._read(self._table.files[position], row_group, columns)
            found.append(rows.filter(pc.is_in(rows[self._key], values)))
        return found

    def _footer(self, file: DataFile) -> _Footer:
        if file.rel_path not in self._footers:
            self._footers[file.rel_path] = self._load_footer(file)
        return self._footers[file.rel_path]

    def _load_footer(self, file: DataFile) -> _Footer:
        with self._table.reading(file, f"a Parquet footer with column {self._key}") as source:
            metadata = pq.read_metadata(source)
            self._table.check_columns(file, metadata.schema.to_arrow_schema())
            row_groups = RangeIndex(_key_bounds(metadata, self._key))
        if metadata.num_rows != file.n_rows:
            raise self._table.damaged(file, f"expected {file.n_rows} rows, got {metadata.num_rows}")
        return _Footer(metadata, row_groups)

    def _read(self, file: DataFile, row_group: int, columns: Sequence[str]) -> pa.Table:
        metadata = self._footer(file).metadata
        with (
            self._table.reading(file, f"a readable row group {row_group}") as source,
            pq.ParquetFile(
                source,
                metadata=metadata,
                coerce_int96_timestamp_unit="us",  # Spark's default for times in Parquet
                page_checksum_verification=True,  # Spark writes page checksums; 0.1 ms per megabyte
            ) as handle,
        ):
            return handle.read_row_group(row_group, columns=list(columns) or None, use_threads=False)


def _key_bounds(metadata: pq.FileMetaData, key: str) -> list[tuple[str | None, str | None]]:
    """Lowest and highest key of every row group, (None, None) where the footer does not say."""
    column = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)].index(key)
    bounds: list[tuple[str | None, str | None]] = []
    for row_group in range(metadata.num_row_groups):
        statistics = metadata.row_group(row_group).column(column).statistics
        known = statistics is not None and statistics.has_min_max
        bounds.append((statistics.min, statistics.max) if known else (None, None))
    return bounds


def _position(rows: pa.Table, wanted: Mapping[str, str]) -> int | None:
    """Index of the first row that equals `wanted` in every column; None if there is none."""
    matches = None
    for column, value in wanted.items():
        same = pc.equal(rows[column], pa.scalar(value, pa.string()))
        matches = same if matches is None else pc.and_(matches, same)
    at = pc.index(matches, True).as_py()
    return None if at < 0 else at
