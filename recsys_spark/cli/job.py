"""Entry point of spark-submit: each file in `jobs/` calls `run_job` with the command that it stands for.

Owns: the life of the driver, which ends with the JVM that started it.
"""

import ctypes
import os
import signal
import sys

from recsys_spark.cli.main import main

_PR_SET_PDEATHSIG = 1  # prctl(2)


def run_job(*command: str) -> int:
    """Runs the command, `step NAME` or `run`, with the arguments of the process; its exit code."""
    end_with_parent()
    return main([*command, *sys.argv[1:]])


def end_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends; does nothing where the kernel is not Linux.

    spark-submit starts Python from its JVM.  An orchestrator that kills the JVM, or a JVM that runs out of memory,
    would leave the Python driver behind, at work while the retry starts.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
