"""Files that a table's rows name, such as a model's weights: whole, unaltered, and called by their own hash.

Owns: the folder `blobs` of the warehouse, its names, and that what is read is what was stored.  Called by the steps
that put weights there, by whoever loads them, and by `gc`, which drops what no row names any more.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from uuid import uuid4

import pyarrow.compute as pc

from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.tables.head import inside
from recsys_spark.tables.ledger import table_path
from recsys_spark.tables.run_files import open_table

# Names of the tables whose column `rel_path` names blobs.
BLOB_TABLES: tuple[str, ...] = ("two_tower_models",)

_FOLDER = "blobs"
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9_]+")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.[a-z0-9_]+\.[0-9a-f]{32}")
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
    """Relative paths that rows of BLOB_TABLES name, of any run.

    Raises DamagedError if one of the tables cannot be read: its blobs would look as if nothing named them.
    """
    named: set[str] = set()
    for name in BLOB_TABLES:
        stored = open_table(Path(table_path(root, name)), name).to_pyarrow_table(columns=["rel_path"])
        named |= set(pc.unique(stored["rel_path"]).to_pylist())
    return named


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
