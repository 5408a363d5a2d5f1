"""`recsys-spark run` as a process that can be killed, and that takes with it what it started."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.fast_jvm import with_classes

# `recsys-spark`, by the interpreter of the tests.
COMMAND = (sys.executable, "-c", "import sys; from recsys_spark.cli.main import main; sys.exit(main())")


def start_run(settings: Path, failpoint: str = "", **environment: str) -> subprocess.Popen[bytes]:
    """Starts `recsys-spark run` in a session of its own; it is killed at `failpoint`, or as `environment` says."""
    command = [*COMMAND, "run"]
    return subprocess.Popen(
        [*command, "--config", str(settings), "--json-logs"],
        env=os.environ | {"RECSYS_FAILPOINT": failpoint, "JAVA_TOOL_OPTIONS": with_classes()} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end_run(process: subprocess.Popen[bytes], timeout_s: float = 600) -> tuple[int, str]:
    """Exit code and output; what the process started is ended with it."""
    try:
        output = process.communicate(timeout=timeout_s)[0].decode(errors="replace")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output
