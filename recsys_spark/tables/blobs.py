"""Files that a table's rows name, such as a model's weights: whole, unaltered, and called by their own hash.

Owns: the folder `blobs` of the warehouse, its names, and that what is read is what was stored.  Called by the steps
that put weights and index shards there, by whoever loads them, and by `gc`, which drops what no row names any more.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from uuid import uuid4

import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.tables.head import inside
from recsys_spark.tables.ledger import table_path
from recsys_spark.tables.run_files import list_run, open_table, read_whole


class BlobColumns(NamedTuple):
    """Columns of a table that name a blob: where it is, its SHA-256 and its size."""

    rel_path: str
    sha256: str
    n_bytes: str


# Tables whose rows name blobs, and the columns that do.
BLOB_COLUMNS: Mapping[str, tuple[BlobColumns, ...]] = MappingProxyType(
    {
        "two_tower_models": (BlobColumns("rel_path", "model_version", "n_bytes"),),
        "ann_shards": (
            BlobColumns("rel_path", "sha256", "n_bytes"),
            BlobColumns("vectors_rel_path", "vectors_sha256", "vectors_n_bytes"),
        ),
    }
)

_FOLDER = "blobs"
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9_]+")
_TEMPORARY = re.compile(r"\.(?:[0-9a-f]{64}\.[a-z0-9_]+\.)?[0-9a-f]{32}")
_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


@dataclass(frozen=True)
class Blob:
    """A stored file, as the row that names it records it; `rel_path` counts from the root of the warehouse."""

    rel_path: str
    sha256: str
    n_bytes: int


def put_blob(root: Path, data: bytes | Path, suffix: str) -> Blob:
    """Stores `data`, or the content of the file at that path, durably; what is stored already is not written again.

    suffix: the end of the name, such as ".safetensors".  The content is held in memory once, as it is when it is read.
    """
    content = data.read_bytes() if isinstance(data, Path) else data
    digest = sha256(content).hexdigest()
    name = f"{digest}{suffix}"
    if not _NAME.fullmatch(name):
        raise ContractError(f"blobs: expected a suffix such as '.safetensors', got {suffix!r}; use a-z, 0-9 and _")
    path = inside(root, f"{_FOLDER}/{name}", _FOLDER)
    if _sha256_of(path) == digest:
        os.utime(path)  # its grace begins anew: the row that will name it is not written yet
    else:
        # Also over a damaged one: running the date again, which may give the same weights, must mend it.
        _write(path, content)
    return Blob(f"{_FOLDER}/{name}", digest, len(content))


def _sha256_of(path: Path) -> str:
    """Hash of the stored file; "" if there is none."""
    try:
        with path.open("rb") as stored:
            return file_digest(stored, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _write(path: Path, content: bytes) -> None:
    """Puts the file in its place, whole and synced to disk; whoever reads the one before reads on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class NewBlob:
    """A blob while it is written piece by piece, by one attempt of a task: nothing sees it before `store`.

    Leaving the block without `store` removes what was written; a kill leaves a file that `gc` removes.
    """

    def __init__(self, root: Path, suffix: str) -> None:
        self._root, self._suffix = root, suffix
        folder = root / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f".{uuid4().hex}"

    def __enter__(self) -> "NewBlob":
        return self

    def __exit__(self, *exception: object) -> None:
        self.path.unlink(missing_ok=True)

    def store(self) -> Blob:
        """Syncs what is at `path` to disk, hashes it and gives it its name; the same content is stored once."""
        with self.path.open("rb") as written:
            os.fsync(written.fileno())
            digest = file_digest(written, "sha256").hexdigest()
        n_bytes = self.path.stat().st_size
        path = inside(self._root, f"{_FOLDER}/{digest}{self._suffix}", _FOLDER)
        # In place of one of that name, whole or damaged: whoever reads that one reads on.
        self.path.replace(path)
        return Blob(f"{_FOLDER}/{path.name}", digest, n_bytes)


def check_blob(root: Path, rel_path: str, sha256_hex: str, n_bytes: int) -> Path:
    """Where a blob is, read once from end to end; for what is mapped, or too large to be held.

    Raises DamagedError unless it has the recorded size and hash; so does a path out of the warehouse, or without a
    file.
    """
    path = inside(root, rel_path, _FOLDER)
    try:
        found_bytes = path.stat().st_size
        found = _sha256_of(path) if found_bytes == n_bytes else "another"
    except FileNotFoundError as err:
        raise DamagedError(f"{rel_path}: expected a file with sha256 {sha256_hex}, got none; {_RERUN}") from err
    except OSError as err:
        raise DamagedError(f"{rel_path}: expected a readable file, got {err.strerror}; {_RERUN}") from err
    if found != sha256_hex:
        raise DamagedError(
            f"{rel_path}: expected {n_bytes} bytes with sha256 {sha256_hex}, got {found_bytes} with {found}; the file "
            f"was swapped, cut or altered: {_RERUN}"
        )
    return path


def read_blob(root: Path, rel_path: str, sha256_hex: str) -> bytes:
    """The content of a blob, read once: the bytes that were hashed are the bytes that are returned.

    Raises DamagedError unless they have the recorded hash; so does a path out of the warehouse, or one without a file.
    """
    path = inside(root, rel_path, _FOLDER)
    try:
        content = path.read_bytes()
    except FileNotFoundError as err:
        raise DamagedError(f"{rel_path}: expected a file with sha256 {sha256_hex}, got none; {_RERUN}") from err
    except OSError as err:
        raise DamagedError(f"{rel_path}: expected a readable file, got {err.strerror}; {_RERUN}") from err
    found = sha256(content).hexdigest()
    if found != sha256_hex:
        raise DamagedError(
            f"{rel_path}: expected sha256 {sha256_hex}, got {found} over {len(content)} bytes; the file was swapped, "
            f"cut or altered: {_RERUN}"
        )
    return content


def blobs(root: Path) -> list[str]:
    """Relative paths of all stored blobs, ascending."""
    return sorted(f"{_FOLDER}/{path.name}" for path in _files(root) if _NAME.fullmatch(path.name))


def _files(root: Path) -> Iterator[Path]:
    """Blobs, and what a kill left half written; nothing else that somebody may have put there."""
    folder = root / _FOLDER
    for path in folder.iterdir() if folder.exists() else ():
        if _NAME.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name):
            yield path


def named_blobs(root: Path) -> set[str]:
    """Relative paths that rows of the tables in BLOB_COLUMNS name, of any run.

    Raises DamagedError if one of the tables cannot be read: its blobs would look as if nothing named them.
    """
    named: set[str] = set()
    for name, columns in BLOB_COLUMNS.items():
        paths = [column.rel_path for column in columns]
        stored = read_whole(open_table(Path(table_path(root, name)), name), paths)
        for path in paths:
            named |= set(pc.unique(stored[path]).to_pylist())
    return named


def check_run_blobs(root: Path, run_id: str, tables: Collection[str]) -> None:
    """Raises DamagedError unless every blob that a run's rows in `tables` name is what was stored.

    tables: names of those of the bundle, which may be older than one that names blobs.
    """
    for name, columns in BLOB_COLUMNS.items():
        if name not in tables:
            continue
        run = list_run(Path(table_path(root, name)), name, run_id, None)
        for file in run.files:
            with run.reading(file, "a Parquet file") as path:
                rows = pq.ParquetFile(path).read([one for column in columns for one in column]).to_pylist()
            for row in rows:
                for column in columns:
                    check_blob(root, *(row[one] for one in column))


def drop_blobs(root: Path, keep: set[str], now: datetime, unused_for_hours: int) -> int:
    """Deletes the blobs that were neither put nor in `keep` for this many hours; how many files that were.

    A file's time of change holds when it was last put or kept: a run that is open may have put it and not written its
    row yet, and a reader may hold a bundle whose rows have just been deleted.
    """
    last_used = (now - timedelta(hours=unused_for_hours)).timestamp()
    n_dropped = 0
    for path in list(_files(root)):
        if f"{_FOLDER}/{path.name}" in keep:
            os.utime(path, (now.timestamp(), now.timestamp()))
        elif path.lstat().st_mtime < last_used:
            path.unlink()
            n_dropped += 1
    return n_dropped
