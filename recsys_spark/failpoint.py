"""Failpoints: named places at which a test can end the process, as a kill or a lost reply would.

Owns: the environment variables RECSYS_FAILPOINT (`name:passage`), RECSYS_FAILPOINT_ACTION (`kill`, `raise`, or in a
worker `kill_first_attempt`, which lets later attempts of the task pass, and `kill_executor`), and RECSYS_FAILPOINT_ONCE
(a file that the process that kills makes; processes that find it pass).
They stand in ingest, in a run and its steps, and in a publish, where the fault tests name them; without these variables
they do nothing.
"""

import os
import signal
from pathlib import Path

_passages: dict[str, int] = {}


class FailpointReached(Exception):  # noqa: N818 - an event that a test asked for
    """The named place was reached and the test asked for an exception instead of a kill."""


def failpoint(name: str) -> None:
    """Ends the process or its executor (SIGKILL), or raises, at the configured passage of `name`."""
    wanted, _, passage = os.environ.get("RECSYS_FAILPOINT", "").partition(":")
    if wanted != name:
        return
    _passages[name] = _passages.get(name, 0) + 1
    if _passages[name] != int(passage or 1):
        return
    action = os.environ.get("RECSYS_FAILPOINT_ACTION", "kill")
    if action == "raise":
        raise FailpointReached(name)
    if (action == "kill_first_attempt" and _attempt()) or not _may_act():
        return
    os.kill(_executor() if action == "kill_executor" else os.getpid(), signal.SIGKILL)


def _attempt() -> int:
    """Number of the attempt of the running task, from 0; 0 outside of a task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return task.attemptNumber() if task else 0


def _may_act() -> bool:
    """Whether no process has acted before, if only one may: the file is made here."""
    try:
        if path := os.environ.get("RECSYS_FAILPOINT_ONCE"):
            Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _executor() -> int:
    """Process number of the JVM whose daemon this worker was forked from."""
    return int(Path(f"/proc/{os.getppid()}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
