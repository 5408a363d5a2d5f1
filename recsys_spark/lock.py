"""One writer at a time: the lock that every command which writes to a warehouse holds until it ends.

Owns: `<root>/_locks/pipeline`.  The lock belongs to the process: a killed command leaves nothing behind.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_spark.errors import EnvironmentFault, LockedError


@contextmanager
def warehouse_lock(root: Path, command: str) -> Iterator[None]:
    """Holds the warehouse inside the block; raises LockedError at once if another command does."""
    path = root / "_locks" / "pipeline"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_CLOEXEC (Python's default): the JVM child must not inherit the lock and outlive us with it.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        raise EnvironmentFault(
            f"[storage] root: expected a folder that can be written, got {root} ({err.strerror}); "
            "give another with --set storage.root=..., or change its rights"
        ) from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "a command that has just started"
            raise LockedError(
                f"{path}: expected a free warehouse, got it held by {holder}; wait until that command has ended"
            ) from err
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"`{command}` (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(descriptor)
