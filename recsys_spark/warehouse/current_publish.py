"""Current row of `publishes` in one small read, its history, and whether it has moved: services and gc start here.

Owns: the resolution of the current bundle without Spark.  It never falls back to an earlier row: a damaged log, file or
row is an error, both for readers of a bundle and for gc, which deletes others.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.errors import DamagedError
from recsys_spark.warehouse.location import Location
from recsys_spark.warehouse.publish_row import PublishRow, check_history, check_sequence, parse_row, restore
from recsys_spark.warehouse.run_files import DataFile, RunFiles, list_table
from recsys_spark.warehouse.tables import PUBLISHES

# Every action that the Delta protocol defines for a commit file.
_ACTIONS = {"add", "remove", "cdc", "txn", "metaData", "protocol", "commitInfo", "domainMetadata"}
_REPAIR = restore(PUBLISHES.name)
_AT_ONCE = 8


def publishes_folder(root: Location) -> Location:
    """The folder of the table."""
    return root / "tables" / PUBLISHES.name


def read_head(root: Location) -> tuple[PublishRow | None, int]:
    """The checked head, None if nothing was ever published, and the Delta version that it was read from.

    One file is read, whatever the number of rows: the log names the publish_seq of every file.  Raises DamagedError if
    the newest commit is not a whole one, if the numbers have a gap, or if the head does not match its hash.
    """
    table, seqs, version = _checked_log(root)
    if not any(seqs.values()):
        return None, version
    newest = max(seqs, key=lambda file: max(seqs[file], default=0))
    head = max(map(parse_row, _rows(table, newest)), key=lambda row: row.publish_seq)
    if head.publish_seq != max(seqs[newest]):
        raise table.damaged(newest, f"expected publish_seq {max(seqs[newest])}, got {head.publish_seq}")
    return head, version


def read_history(root: Location) -> tuple[PublishRow, ...]:
    """Every row in order, the head last; () if nothing was ever published.

    What `read_head` checks of the log and of the head is checked here of every row; raises DamagedError.
    """
    table, _, _ = _checked_log(root)
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # a file for every publish, each a request of an object store
        read = list(pool.map(lambda file: _rows(table, file), table.files))
    return check_history(row for rows in read for row in rows)


def rows_without_commit(root: Location) -> tuple[PublishRow, ...]:
    """Checked rows in files of the table that its log does not name, in the order of their publish_seq.

    A writer that lost the race for a number, or was killed before its commit, leaves such a file; so does a commit that
    was lost afterwards.  Raises DamagedError for a file that is not ours.
    """
    table, _, _ = _checked_log(root)
    listed = {file.rel_path for file in table.files}
    # As in Delta, files whose names begin with a dot or an underscore are not data.
    names = (path for path in table.folder.iterdir() if path.name.endswith(".parquet") and path.name[0] not in "._")
    paths = [path for path in names if path.name not in listed]
    left = [DataFile(path.name, path.stat().st_size, 0, None, None) for path in paths]
    return tuple(
        sorted((parse_row(row) for file in left for row in _rows(table, file)), key=lambda row: row.publish_seq)
    )


def has_moved(root: Location, version: int) -> bool:
    """Whether the table has a commit after `version`: two looks at single files, however long the log is."""
    log = publishes_folder(root) / "_delta_log"
    if _commit_file(log, version + 1).exists():
        return True
    # A commit file is cleaned up only once a checkpoint covers it, and that checkpoint is named here.
    try:
        return int(json.loads((log / "_last_checkpoint").read_bytes())["version"]) > version
    except FileNotFoundError:
        return not log.exists()
    except (ValueError, KeyError, TypeError):
        return True


def _checked_log(root: Location) -> tuple[RunFiles, dict[DataFile, list[int]], int]:
    """The files of the newest version, the publish_seq of the rows of each, and the version; raises DamagedError."""
    folder = publishes_folder(root)
    version, files = list_table(folder, PUBLISHES.name, "publish_seq")
    _check_commit(folder, version)
    table = RunFiles(PUBLISHES.name, folder, None, pa.schema([]), files)
    seqs = {file: _sequence(table, file) for file in files}
    check_sequence(seq for numbers in seqs.values() for seq in numbers)
    return table, seqs, version


def _sequence(table: RunFiles, file: DataFile) -> list[int]:
    """The publish_seq of every row of the file, from the log if its statistics leave no doubt."""
    if file.n_rows == 1 and file.low is not None and file.low == file.high:
        return [int(file.low)]
    return [int(seq) for seq in _read(table, file, ["publish_seq"])["publish_seq"].to_pylist()]


def _rows(table: RunFiles, file: DataFile) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _read(table, file).to_pylist(maps_as_pydicts="strict")
    return rows


def _read(table: RunFiles, file: DataFile, columns: list[str] | None = None) -> pa.Table:
    with table.reading(file, "a Parquet file") as source:
        return pq.ParquetFile(source).read(columns=columns, use_threads=False)


def _check_commit(folder: Location, version: int) -> None:
    """Raises DamagedError unless the newest commit is whole JSON of known actions.

    Delta readers skip an action that they do not know.  So one flipped bit in the word "add" would hide the newest row
    and make the bundle before it current; older commits are covered by the gap that they leave in publish_seq.
    """
    path = _commit_file(folder / "_delta_log", version)
    try:
        lines = path.read_text(encoding="utf-8", errors="strict").split("\n")
        actions = [json.loads(line) for line in lines if line]
        kinds = [next(iter(action)) if len(action) == 1 else "several" for action in actions]
    except FileNotFoundError:
        return  # cleaned up after a checkpoint, which was read instead
    except (ValueError, TypeError) as err:
        raise DamagedError(f"publishes {path.name}: expected lines of JSON, got {err}; {_REPAIR}") from err
    unknown = sorted(set(kinds) - _ACTIONS)
    writes = any(action.get("commitInfo", {}).get("operation") == "WRITE" for action in actions)
    if unknown or not actions or (writes and "add" not in kinds):
        raise DamagedError(
            f"publishes {path.name}: expected a whole commit, got {len(actions)} actions, unknown {unknown}; {_REPAIR}"
        )


def _commit_file(log: Location, version: int) -> Location:
    return log / f"{version:020d}.json"
