"""Locks of a warehouse: one command at a time may write to it, or steps of the pipeline beside each other.

Owns: the names of the locks, the files in `<root>/_locks`, and leases.  A file lock belongs to the process: a killed
command leaves nothing behind.  In an object store, where no process can hold a file, a lock is a lease: a row with an
end, renewed while the process lives.
"""

import fcntl
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from recsys_spark.errors import EnvironmentFault, LockedError
from recsys_spark.warehouse.arrow import arrow_schema
from recsys_spark.warehouse.contract import Column, Table
from recsys_spark.warehouse.delta_rs import open_delta, read_whole, table_path
from recsys_spark.warehouse.ledger import create_tables
from recsys_spark.warehouse.location import Location, answering

LEASES = Table(
    "leases",
    "ledger",
    "Who may write to a warehouse in an object store; rows past their end hold nothing",
    (
        Column("name", "string", "the lock"),
        Column("holder", "string", "command, process and host that hold it"),
        Column("is_shared", "boolean", "whether others that share it may hold it too"),
        Column("ends_at", "timestamp", "until when it is held unless it is renewed, UTC"),
    ),
)

_LIVES_S = 120.0  # after a kill the next command waits this long; clocks of machines must agree within _RENEWED_S
_RENEWED_S = 30.0  # three renewals may fail before a lease ends
_LOOK_S = 0.5  # between two checks whether a lock is free, or a lease has ended
_TRIES = 30  # tries of one change, each of which another command's commit may defeat

_log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


@contextmanager
def leased(root: Location, wanted: Mapping[str, bool], command: str, waits: bool = False) -> Iterator[None]:
    """Holds the locks `wanted` inside the block, all or none.  wanted: name of a lock to whether it is shared.

    waits: until they are free; otherwise raises LockedError at once.  A command that loses a lock, for example because
    its machine slept, is interrupted, also in the middle of a Spark job, and ends with LockedError.
    """
    _make_table(root)
    lease = _Lease(root, wanted, command)
    while not lease.take():
        if not waits:
            raise LockedError(
                f"{root}: expected a free warehouse, got it held by {lease.other}; wait until that command has ended, "
                "or, if it was killed, until then"
            )
        time.sleep(_LOOK_S)
    lost = LockedError(f"{root}: expected to hold the warehouse to the end, got its lease ended; run the command again")
    with _interruptible():
        watching = threading.Thread(target=lease.watch, name="lease", daemon=True)
        watching.start()
        try:
            try:
                yield
            finally:
                lease.ended.set()
                watching.join()  # before the signal has its old meaning again
        except KeyboardInterrupt:
            if lease.is_lost:
                raise lost from None
            raise
        finally:
            was_held = lease.release()
    if not was_held:
        raise lost


def _make_table(root: Location) -> None:
    """Creates the table of leases; if two commands do so at once, one fails and then finds it."""
    for _ in range(_TRIES):
        try:
            create_tables(root, [LEASES])
        except EnvironmentFault:
            time.sleep(_LOOK_S)
        else:
            return
    create_tables(root, [LEASES])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, SIGUSR1 interrupts the main thread whatever it waits for, as Ctrl-C does, but also if that is ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


class _Lease:
    """Some locks of one command.  other: who holds one of them instead."""

    def __init__(self, root: Location, wanted: Mapping[str, bool], command: str) -> None:
        self._table, self._wanted = table_path(root, LEASES.name), wanted
        self._holder = f"`{command}` (process {os.getpid()} on {socket.gethostname()}, {uuid4().hex[:8]})"
        self._until = 0.0
        self.other = ""
        self.is_lost = False
        self.ended = threading.Event()

    def take(self) -> bool:
        """Takes the locks for `_LIVES_S`; whether they are held now."""

        def add(rows: Rows) -> Rows | None:
            for row in rows:
                if row["name"] in self._wanted and not (self._wanted[row["name"]] and row["is_shared"]):
                    self.other = f"{row['holder']} until {row['ends_at']:%H:%M:%S} UTC"
                    return None
            return rows + self._rows()

        return self._held_if(add)

    def watch(self) -> None:
        """Renews until `ended`, and interrupts the main thread once the locks are lost, or may be: by the clock."""
        beside = ThreadPoolExecutor(1)  # a store that does not answer must not delay the checks of the clock
        renewal, due = None, time.monotonic() + _RENEWED_S
        while not self.ended.wait(_LOOK_S):
            if renewal is None and time.monotonic() >= due:
                renewal, due = beside.submit(self._renew), time.monotonic() + _RENEWED_S
            if renewal is not None and renewal.done():
                self.is_lost, renewal = not renewal.result(), None
            if self.is_lost or time.monotonic() > self._until:
                self.is_lost = True
                signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGUSR1)
                break
        beside.shutdown(wait=False)

    def release(self) -> bool:
        """Ends the lease; whether the locks were held until now, True if the store does not answer."""

        def drop(rows: Rows) -> Rows | None:
            others = [row for row in rows if row["holder"] != self._holder]
            return others if len(rows) - len(others) == len(self._wanted) else None

        try:
            return not self.is_lost and _changed(self._table, drop)
        except Exception as err:
            _log.warning("lease: expected to be ended, got %s; it ends by itself within %d s", err, _LIVES_S)
            return True

    def _renew(self) -> bool:
        """Renews the lease; whether the locks are still held.  An ended lease stays ended: others may have it."""

        def renew(rows: Rows) -> Rows | None:
            others = [row for row in rows if row["holder"] != self._holder]
            return others + self._rows() if len(rows) - len(others) == len(self._wanted) else None

        try:
            return self._held_if(renew)
        except Exception as err:  # the store may answer again before the lease ends
            _log.warning("lease: expected to be renewed, got %s; it is tried again", err)
            return True

    def _held_if(self, change: Callable[[Rows], Rows | None]) -> bool:
        until = time.monotonic() + _LIVES_S
        if _changed(self._table, change):
            self._until = until
            return True
        return False

    def _rows(self) -> Rows:
        ends_at = datetime.now(UTC) + timedelta(seconds=_LIVES_S)
        return [
            {"name": name, "holder": self._holder, "is_shared": is_shared, "ends_at": ends_at}
            for name, is_shared in self._wanted.items()
        ]


def _changed(table: Location, change: Callable[[Rows], Rows | None]) -> bool:
    """Replaces the rows that hold by `change` of them, in one commit on the version read; False if it returns None."""
    for _ in range(_TRIES):
        stored = open_delta(table)
        now = datetime.now(UTC)
        rows = change([row for row in read_whole(table, stored=stored).to_pylist() if row["ends_at"] > now])
        if rows is None:
            return False
        frame = pa.Table.from_pylist(rows, schema=arrow_schema(LEASES))
        try:
            with answering(table):
                properties = CommitProperties(max_commit_retries=0)
                write_deltalake(stored, frame, mode="overwrite", commit_properties=properties)
        except CommitFailedError:
            time.sleep(random.uniform(0, _LOOK_S))  # noqa: S311 - so that two commands do not collide again
        else:
            return True
    raise LockedError(f"{table}: expected to commit within {_TRIES} tries, got other commands' commits; run it again")


@contextmanager
def warehouse_lock(root: Location, command: str) -> Iterator[None]:
    """Holds the warehouse alone inside the block; raises LockedError at once if another command writes to it."""
    with _all_held(root, {"pipeline": False}, command):
        yield


@contextmanager
def step_lock(root: Location, step: str, before: Sequence[str], command: str) -> Iterator[None]:
    """Holds the warehouse beside other steps inside the block, each of which writes tables of its own.

    before: the steps that wrote what it reads; none of them is run again meanwhile.  Raises LockedError at once if a
    command holds the warehouse alone, or if the same step, or one that needs it, is running, for any date.
    """
    shared = dict.fromkeys(["pipeline", *(f"step-{one}" for one in before)], True)
    with _all_held(root, {f"step-{step}": False} | shared, command):
        yield


@contextmanager
def opening_lock(root: Location) -> Iterator[None]:
    """Waits until no other process looks for or opens the run of a date: steps that start together join one run."""
    with _all_held(root, {"opening": False}, "", waits=True):
        yield


@contextmanager
def _all_held(root: Location, wanted: Mapping[str, bool], command: str, waits: bool = False) -> Iterator[None]:
    """Holds locks by name; the value says whether others may share it."""
    if not isinstance(root, Path):
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
        # O_CLOEXEC (Python's default): the JVM child must not inherit the lock and hold it after this process ends.
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
        alone = bool(how & fcntl.LOCK_EX)  # the name of one holder would be wrong for others that share the lock
        os.ftruncate(descriptor, 0)
        if alone:
            os.pwrite(descriptor, f"`{command}` (process {os.getpid()})".encode(), 0)
        yield
        if alone:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
