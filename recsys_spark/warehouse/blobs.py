"""Content-addressed blobs: files that a table's rows name, such as a model's weights, called by their own hash.

Owns: the folder `blobs` of the warehouse, its names, and the checks that what is read is what was stored.
"""

import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from uuid import uuid4

import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.errors import ContractError, DamagedError
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.location import Location, inside, store_fault
from recsys_spark.warehouse.run_files import list_run, read_named
from recsys_spark.warehouse.whole_file import cached, own_folder, sync, upload, whole_file


class BlobColumns(NamedTuple):
    """Columns of a table that name a blob: its path, its SHA-256 and its size."""

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
_TEMPORARY = re.compile(r"\.(?:[0-9a-f]{64}\.[a-z0-9_]+\.|unused\.json\.)?[0-9a-f]{32}")
_UNUSED = "unused.json"
_log = logging.getLogger(__name__)

_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"


@dataclass(frozen=True)
class Blob:
    """A stored file, as the row that names it records it; `rel_path` is relative to the root of the warehouse."""

    rel_path: str
    sha256: str
    n_bytes: int


def put_blob(root: Location, data: bytes | Path, suffix: str) -> Blob:
    """Stores `data`, or the content of the file at that path, durably; what is stored already is not written again.

    suffix: the end of the name, such as ".safetensors".  The content is held in memory once, as by `read_blob`.
    """
    content = data.read_bytes() if isinstance(data, Path) else data
    digest = sha256(content).hexdigest()
    name = f"{digest}{suffix}"
    if not _NAME.fullmatch(name):
        raise ContractError(f"blobs: expected a suffix such as '.safetensors', got {suffix!r}; use a-z, 0-9 and _")
    path = inside(root, f"{_FOLDER}/{name}", _FOLDER)
    if _sha256_of(path) != digest:
        # A damaged one is replaced: to run the date again, which may give the same weights, must repair it.
        with whole_file(path, is_synced=True) as file:
            file.write_bytes(content)
    return Blob(f"{_FOLDER}/{name}", digest, len(content))


def _sha256_of(path: Location) -> str:
    """Hash of the stored file; "" if there is none."""
    try:
        with path.open("rb") as stored:
            return file_digest(stored, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


class NewBlob:
    """A blob while it is written piece by piece, by one attempt of a task: nothing sees it before `store`.

    Leaving the block without `store` removes what was written.  A kill leaves a file that `gc` removes; for a warehouse
    in an object store, the next process that uses this machine three days later removes it.
    """

    def __init__(self, root: Location, suffix: str) -> None:
        self._root, self._suffix = root, suffix
        # In the same folder, so that a rename is enough; for an object store it is written on this machine first.
        folder = root / _FOLDER if isinstance(root, Path) else own_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f".{uuid4().hex}"

    def __enter__(self) -> "NewBlob":
        return self

    def __exit__(self, *exception: object) -> None:
        self.path.unlink(missing_ok=True)

    def store(self) -> Blob:
        """Syncs what is at `path` to disk, hashes it and gives it its name; the same content is stored once."""
        sync(self.path)
        with self.path.open("rb") as written:
            digest = file_digest(written, "sha256").hexdigest()
        n_bytes = self.path.stat().st_size
        place = inside(self._root, f"{_FOLDER}/{digest}{self._suffix}", _FOLDER)
        # Replaces a file of that name; whoever reads that one can read on.
        if isinstance(place, Path):
            self.path.replace(place)
        elif _sha256_of(place) != digest:
            upload(self.path, place)
        return Blob(f"{_FOLDER}/{place.name}", digest, n_bytes)


def check_blob(root: Location, rel_path: str, sha256_hex: str, n_bytes: int) -> Path:
    """A file of this machine with the content of a blob, read once from end to end; for files that are large or mapped.

    Raises DamagedError unless it has the recorded size and hash, also for a path out of the warehouse, or without a
    file.
    """
    place = inside(root, rel_path, _FOLDER)
    with _blamed(place, rel_path, sha256_hex):
        path = place if isinstance(place, Path) else cached(place)
        found_bytes, found = _facts(path, n_bytes)
        if found != sha256_hex and not isinstance(place, Path):  # the copy may be damaged, and the blob whole
            path = cached(place, is_new=True)
            found_bytes, found = _facts(path, n_bytes)
    if found != sha256_hex:
        raise DamagedError(
            f"{rel_path}: expected {n_bytes} bytes with sha256 {sha256_hex}, got {found_bytes} with {found}; the file "
            f"was swapped, cut or altered: {_RERUN}"
        )
    return path


def _facts(path: Path, n_bytes: int) -> tuple[int, str]:
    """Size and hash of the file; a file of another size than `n_bytes` is not hashed."""
    found_bytes = path.stat().st_size
    return found_bytes, _sha256_of(path) if found_bytes == n_bytes else "another"


def read_blob(root: Location, rel_path: str, sha256_hex: str) -> bytes:
    """The content of a blob, read once: the bytes that were hashed are the bytes that are returned.

    Raises DamagedError unless they have the recorded hash, also for a path out of the warehouse, or without a file.
    """
    place = inside(root, rel_path, _FOLDER)
    with _blamed(place, rel_path, sha256_hex):
        content = place.read_bytes()
    found = sha256(content).hexdigest()
    if found != sha256_hex:
        raise DamagedError(
            f"{rel_path}: expected sha256 {sha256_hex}, got {found} over {len(content)} bytes; the file was swapped, "
            f"cut or altered: {_RERUN}"
        )
    return content


@contextmanager
def _blamed(place: Location, rel_path: str, sha256_hex: str) -> Iterator[None]:
    """Turns errors inside into DamagedError, or StoreFault if the store does not answer."""
    try:
        yield
    except FileNotFoundError as err:
        raise DamagedError(f"{rel_path}: expected a file with sha256 {sha256_hex}, got none; {_RERUN}") from err
    except OSError as err:
        said = err.strerror or str(err)
        raise store_fault(place, err) or DamagedError(
            f"{rel_path}: expected a readable file, got {said}; {_RERUN}"
        ) from err


def blobs(root: Location) -> list[str]:
    """Relative paths of all stored blobs, ascending."""
    return sorted(f"{_FOLDER}/{path.name}" for path in _files(root) if _NAME.fullmatch(path.name))


def _files(root: Location) -> Iterator[Location]:
    """Blobs, and files that a kill left half written; no other file that somebody may have put there."""
    folder = root / _FOLDER
    for path in folder.iterdir() if folder.exists() else ():
        if _NAME.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name):
            yield path


def named_blobs(root: Location, tables: Collection[str]) -> set[str]:
    """Relative paths that rows of the tables in BLOB_COLUMNS name, of any run.

    tables: names of the tables of the warehouse; an old one may lack a table that names blobs.
    Raises DamagedError if one of them cannot be read: its blobs would look as if nothing named them.
    """
    named: set[str] = set()
    for name, columns in BLOB_COLUMNS.items():
        if name not in tables:
            continue
        paths = [column.rel_path for column in columns]
        stored = read_named(table_path(root, name), name, paths)
        for path in paths:
            named |= set(pc.unique(stored[path]).to_pylist())
    return named


def check_run_blobs(root: Location, run_id: str, tables: Collection[str]) -> None:
    """Raises DamagedError unless every blob that a run's rows in `tables` name is whole and unaltered.

    tables: names of the tables of the bundle; an old one may lack a table that names blobs.
    """
    for name, columns in BLOB_COLUMNS.items():
        if name not in tables:
            continue
        run = list_run(table_path(root, name), name, run_id, None)
        for file in run.files:
            with run.reading(file, "a Parquet file") as source:
                rows = pq.ParquetFile(source).read([one for column in columns for one in column]).to_pylist()
            for row in rows:
                for column in columns:
                    check_blob(root, *(row[one] for one in column))


def drop_blobs(root: Location, keep: set[str], now: datetime, unused_for_hours: int) -> int:
    """Deletes the blobs that have not been in `keep` for this many hours; returns how many files these were.

    Every call records beside them since when each is unused: a reader may hold a bundle whose rows were just deleted.
    The caller holds the lock of the warehouse, so that no run is between a blob and the row that will name it.
    """
    known = _unused_since(root)
    unused = {path: known.get(path.name, now) for path in _files(root) if f"{_FOLDER}/{path.name}" not in keep}
    dropped = [path for path, since in unused.items() if since <= now - timedelta(hours=unused_for_hours)]
    for path in dropped:
        path.unlink()
    left = {path.name: since.isoformat() for path, since in unused.items() if path not in dropped}
    if left or known:
        with whole_file(root / _FOLDER / _UNUSED) as file:
            file.write_text(json.dumps(left), encoding="utf-8")
    return len(dropped)


def _unused_since(root: Location) -> dict[str, datetime]:
    """When each blob was first seen without a row that names it; {} if the file is missing, or not ours."""
    try:
        text = (root / _FOLDER / _UNUSED).read_text(encoding="utf-8")
        return {name: datetime.fromisoformat(since).astimezone(UTC) for name, since in json.loads(text).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        _log.warning("blobs: expected times in %s, got another content; every blob counts as used until now", _UNUSED)
        return {}
