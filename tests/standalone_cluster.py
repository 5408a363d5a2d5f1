"""A Spark cluster on this machine: master, workers and executors are processes; executors unpack the archive."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys_spark.operations.package import NAME
from tests.fast_jvm import FAST_START

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SECRET = "of-this-test"


def pack(folder: Path) -> Path:
    """The archive of `recsys-spark package`."""
    command = [BIN / "recsys-spark", "package", "--out", str(folder)]
    print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return folder / NAME


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def standalone(folder: Path, n_workers: int = 2) -> Iterator[str]:
    """A master and workers of one core on the loopback address; the master's URL."""
    import pyspark

    options = f"{FAST_START} -Dspark.authenticate=true -Dspark.authenticate.secret={SECRET}"
    home = Path(pyspark.__file__).parent
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_DAEMON_JAVA_OPTS": options,
        "SPARK_DAEMON_MEMORY": "256m",
    }
    port, started = free_port(), []
    url = f"spark://127.0.0.1:{port}"
    deploy, host = "org.apache.spark.deploy", ["--host", "127.0.0.1", "--webui-port", "0"]
    commands = [[f"{deploy}.master.Master", *host, "--port", str(port)]]
    for number in range(n_workers):
        size = ["--cores", "1", "--memory", "2g", "--work-dir", str(folder / f"worker{number}")]
        commands.append([f"{deploy}.worker.Worker", *host, *size, url])
    try:
        for command in commands:
            program = [str(home / "bin" / "spark-class"), *command]
            with (folder / f"daemon{len(started)}.log").open("wb") as log:
                daemon = subprocess.Popen(program, env=environment, start_new_session=True, stdout=log, stderr=log)
            started.append(daemon)
            if len(started) == 1:
                _wait_for(port, folder)
        yield url
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int, folder: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with socket.socket() as caller:
            if not caller.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}; {folder}/daemon0.log says why")


def submit_to_cluster(
    url: str, settings: Path, archive: Path, *given: str, **environment: str
) -> subprocess.Popen[bytes]:
    """The day through jobs/run.py, as README's "On a cluster" says, by two executors of one core from `archive`.

    given: further lines of Spark's properties, `name=value`.
    """
    return _submit("cluster", url, settings, (*_sized(archive), *given), environment)


def submit_to_laptop(settings: Path, *given: str, **environment: str) -> subprocess.Popen[bytes]:
    """The same by spark-submit on `local[2]`, with the local profile."""
    return _submit("local", "local[2]", settings, given, environment)


def _submit(
    profile: str, master: str, settings: Path, given: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    options = [text for line in given for text in ("--conf", line)]
    properties = ["--properties-file", str(ROOT / "conf" / "spark" / f"{profile}.conf")]
    job = [str(ROOT / "jobs" / "run.py"), "--profile", profile, "--config", str(settings), "--json-logs"]
    return subprocess.Popen(
        [str(BIN / "spark-submit"), "--master", master, *properties, *options, *job],
        # As in `uv run`: spark-submit asks the first Python on PATH where Spark is.
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _sized(archive: Path) -> list[str]:
    sized = {
        "spark.archives": f"{archive}#environment",
        "spark.executor.cores": "1",
        "spark.executor.memory": "1g",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "4",
        "spark.dynamicAllocation.enabled": "false",
        "spark.cores.max": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.authenticate.secret": SECRET,
        "spark.pyspark.driver.python": sys.executable,
    }
    return [f"{name}={value}" for name, value in sized.items()]


def executors(folder: Path) -> list[int]:
    """The executors' JVMs of the workers in `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line, work = (process / "cmdline").read_bytes(), (process / "cwd").readlink()
            except OSError:  # it has ended
                continue
            if b"CoarseGrainedExecutorBackend" in line and work.is_relative_to(folder):
                found.append(int(process.name))
    return sorted(found)


def event_log(folder: Path) -> tuple[str, ...]:
    """Properties by which Spark writes down in `folder` what its tasks did."""
    folder.mkdir(exist_ok=True)
    return ("spark.eventLog.enabled=true", "spark.eventLog.compress=false", f"spark.eventLog.dir={folder.as_uri()}")


def shuffled_bytes(folder: Path) -> int:
    """Bytes that all tasks of the logs in `folder` wrote for a shuffle."""
    total = 0
    for path in folder.rglob("events_*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if '"Event":"SparkListenerTaskEnd"' in line:
                metrics = json.loads(line).get("Task Metrics") or {}
                total += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    return total
