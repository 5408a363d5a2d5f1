"""Who may write to a warehouse: one command at a time, or steps of the pipeline beside each other.

Owns: the locks in `<root>/_locks`.  A lock belongs to the process: a killed command leaves nothing behind.  Called by
every command that writes.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recsys_spark.errors import EnvironmentFault, LockedError


@contextmanager
def warehouse_lock(root: Path, command: str) -> Iterator[None]:
    """Holds the warehouse alone inside the block; raises LockedError at once if another command writes to it."""
    with _held(root, "pipeline", command, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def step_lock(root: Path, step: str, before: Sequence[str], command: str) -> Iterator[None]:
    """Holds the warehouse beside other steps inside the block, each of which writes tables of its own.

    before: the steps that wrote what it reads; none of them is run again meanwhile.  Raises LockedError at once if a
    command holds the warehouse alone, or the same step, or one that needs it, runs already, for whatever date.
    """
    with ExitStack() as held:
        held.enter_context(_held(root, f"step-{step}", command, fcntl.LOCK_EX | fcntl.LOCK_NB))
        for name in ("pipeline", *(f"step-{one}" for one in before)):
            held.enter_context(_held(root, name, command, fcntl.LOCK_SH | fcntl.LOCK_NB))
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
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "a step of the pipeline"
            raise LockedError(
                f"{path}: expected a free warehouse, got it held by {holder}; wait until that command has ended"
            ) from err
        alone = bool(how & fcntl.LOCK_EX)  # several may share a lock, and one name would be wrong for the others
        os.ftruncate(descriptor, 0)
        if alone:
            os.pwrite(descriptor, f"`{command}` (process {os.getpid()})".encode(), 0)
        yield
        if alone:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
