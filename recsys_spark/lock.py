"""Who may write to a warehouse: one command at a time, or steps of the pipeline beside each other.

Owns: the locks in `<root>/_locks`.  A lock belongs to the process: a killed command leaves nothing behind.  Called by
every command that writes.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_spark.errors import EnvironmentFault, LockedError


@contextmanager
def warehouse_lock(root: Path, command: str) -> Iterator[None]:
    """Holds the warehouse alone inside the block; raises LockedError at once if another command writes to it."""
    with _held(root, "pipeline", command, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def step_lock(root: Path, step: str, command: str) -> Iterator[None]:
    """Holds the warehouse beside other steps inside the block, each of which writes tables of its own.

    Raises LockedError at once if a command holds it alone, or the same step runs already, for whatever date.
    """
    with (
        _held(root, f"step-{step}", command, fcntl.LOCK_EX | fcntl.LOCK_NB),
        _held(root, "pipeline", command, fcntl.LOCK_SH | fcntl.LOCK_NB),
    ):
        yield


@contextmanager
def opening_lock(root: Path) -> Iterator[None]:
    """Waits until nobody else looks for the run of a date, or opens one: steps that start together join one run."""
    with _held(root, "opening", "", fcntl.LOCK_EX):
        yield


@contextmanager
def _held(root: Path, name: str, command: str, how: int) -> Iterator[None]:
    path = root / "_locks" / name
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
            fcntl.flock(descriptor, how)
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
