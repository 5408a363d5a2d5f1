"""Atomic file writes (whole or absent), in a folder or in an object store, and a local cache of stored files.

Owns: how a file replaces another, copies of an object store's files for code that needs a file of this machine, and the
folder that they are in.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import time
from uuid import uuid4

import pyarrow as pa

from recsys_spark.errors import EnvironmentFault
from recsys_spark.warehouse.location import Location, ObjectPath, Stat, answering

_PIECE_BYTES = 16 << 20  # held in memory at once while a file is copied
_SAME_S = 1e-3  # by which equal times may differ after conversion to floats
_KEPT_FOR_S = 3 * 86_400  # without use: shards of older bundles are not searched again
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def whole_file(place: Location, is_synced: bool = False) -> Iterator[Path]:
    """A file to write, which replaces `place` when the block is left; a reader sees the old one or the new one.

    is_synced: it is on disk before it replaces `place`.  An object store answers only when it is stored.
    """
    if isinstance(place, ObjectPath):
        with TemporaryDirectory() as folder:
            path = Path(folder) / place.name
            yield path
            upload(path, place)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        yield temporary
        if is_synced:
            sync(temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until the file's content is on disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def upload(path: Path, place: ObjectPath) -> None:
    """Stores the file at `place`, in one write: an upload that is given up half-way would leave half of the file."""
    with answering(place), pa.memory_map(str(path)) as source:
        content = source.read_buffer()
        with place.open("wb") as target:
            target.write(content)


def download(place: ObjectPath, path: Path) -> None:
    """Copies the file at `place` to `path`, where it appears whole; FileNotFoundError if there is none."""
    with whole_file(path) as temporary, place.open("rb") as source, temporary.open("xb") as target:
        shutil.copyfileobj(source, target, _PIECE_BYTES)


def cached(place: ObjectPath, is_new: bool = False) -> Path:
    """A copy of the file at `place`, kept for later calls on this machine until `place` is written anew.

    is_new: replace an existing copy.  Raises FileNotFoundError if there is no such file, EnvironmentFault if this
    machine cannot keep it.
    """
    stored = place.stat()
    folder = own_folder()
    path = folder / f"{sha256(place.url.encode()).hexdigest()[:16]}-{place.name}"
    try:
        if is_new or not _is_copy(path, stored):
            download(place, path)
        os.utime(path, (time(), stored.st_mtime))
    except OSError as err:
        if err.errno not in _OF_THIS_MACHINE:
            raise
        raise EnvironmentFault(
            f"{folder}: expected room for a copy of {place.name}, got {err.strerror}; free some, or set TMPDIR to "
            "another place"
        ) from err
    return path


def _is_copy(path: Path, stored: Stat) -> bool:
    """Whether there is a copy with the size and time of the stored file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == stored.st_size and abs(found.st_mtime - stored.st_mtime) < _SAME_S


def own_folder() -> Path:
    """The folder for files of this machine, which only this user may write to: others' files would be taken for ours.

    Files that were not used for three days are removed.  Raises EnvironmentFault if others can write to it.
    """
    folder = Path(gettempdir()) / f"recsys-spark-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise EnvironmentFault(
            f"{folder}: expected a folder of this user that no other can write to, got one that is not; remove it, or "
            "set TMPDIR to another place"
        )
    for old in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removed it, or renamed it to its final name
            if max(old.lstat().st_atime, old.lstat().st_mtime) < time() - _KEPT_FOR_S:
                old.unlink()
    return folder
