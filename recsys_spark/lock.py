"""Who may write to a warehouse: one command at a time, or steps of the pipeline beside each other.

Owns: the names of the locks, and the files in `<root>/_locks`.  There a lock belongs to the process: a killed command
leaves nothing behind.  In an object store a lock is a lease.  Called by every command that writes.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recsys_spark.errors import EnvironmentFault, LockedError
from recsys_spark.location import Location


@contextmanager
def warehouse_lock(root: Location, command: str) -> Iterator[None]:
    """Holds the warehouse alone inside the block; raises LockedError at once if another command writes to it."""
    with _all_held(root, {"pipeline": False}, command):
        yield


@contextmanager
def step_lock(root: Location, step: str, before: Sequence[str], command: str) -> Iterator[None]:
    """Holds the warehouse beside other steps inside the block, each of which writes tables of its own.

    before: the steps that wrote what it reads; none of them is run again meanwhile.  Raises LockedError at once if a
    command holds the warehouse alone, or the same step, or one that needs it, runs already, for whatever date.
    """
    shared = dict.fromkeys(["pipeline", *(f"step-{one}" for one in before)], True)
    with _all_held(root, {f"step-{step}": False} | shared, command):
        yield


@contextmanager
def opening_lock(root: Location) -> Iterator[None]:
    """Waits until nobody else looks for the run of a date, or opens one: steps that start together join one run."""
    with _all_held(root, {"opening": False}, "", waits=True):
        yield


@contextmanager
def _all_held(root: Location, wanted: Mapping[str, bool], command: str, waits: bool = False) -> Iterator[None]:
    """Holds locks by name; the value says whether others may share it."""
    if not isinstance(root, Path):
        from recsys_spark.tables.lease import leased

        with leased(root, wanted, command, waits):
            yield
        return
    with ExitStack() as held:
        for name, is_shared in wanted.items():
            how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            held.enter_context(_held(root, name, command, how if waits else how | fcntl.LOCK_NB))
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
