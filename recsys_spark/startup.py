"""How long a command took to its first Spark job: what a user waits before anything happens.

Owns: that figure.  Called at the end of every command that has a session; it is in the log (`--json-logs` shows it).
"""

import logging
import os
import time
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


def log_startup(spark: SparkSession) -> None:
    """Logs the seconds from the start of this process to the session and to its first job."""
    found = startup_seconds(spark)
    if found is not None:
        _log.info("phase=start session_s=%.1f first_job_s=%.1f", *found)


def startup_seconds(spark: SparkSession) -> tuple[float, float] | None:
    """Seconds from the start of this process to the session, and to its first job; None without a job or /proc.

    Of a session of more than a thousand jobs the first is forgotten, and nothing is said.
    """
    context, started = spark.sparkContext._jsc.sc(), _process_started()
    try:
        first = context.statusStore().job(0).submissionTime().get().getTime() / 1000
    except Py4JJavaError:  # NoSuchElementException
        return None
    return None if started is None else (context.startTime() / 1000 - started, first - started)


def _process_started() -> float | None:
    """When this process was started, s since 1970; None where the kernel does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
