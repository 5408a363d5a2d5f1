"""A day on a Spark cluster: master and workers in processes of their own, executors from the packaged environment."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys_spark.config import Config
from recsys_spark.package import NAME
from recsys_spark.publish import history
from recsys_spark.tables.catalog import RUN_STEPS
from recsys_spark.tables.ledger import read_rows
from tests.run_process import FAST_START, end_run, start_run
from tests.small_shop import FIRST_DAY, land_days, make_shop, write_settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECRET = "of-this-test"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def standalone(folder: Path, n_workers: int = 2) -> Iterator[str]:
    """A master and workers of one core on the loopback address; the master's URL."""
    import pyspark

    options = f"-Dspark.authenticate=true -Dspark.authenticate.secret={SECRET}"
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
            log = (folder / f"daemon{len(started)}.log").open("wb")
            program = [str(home / "bin" / "spark-class"), *command]
            started.append(subprocess.Popen(program, env=environment, start_new_session=True, stdout=log, stderr=log))
            if len(started) == 1:
                _wait_for(port)
        yield url
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with socket.socket() as caller:
            if not caller.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def submit(url: str, settings: Path, archive: Path) -> subprocess.Popen[bytes]:
    """The day through jobs/run.py, as README's "On a cluster" says, with executors of one core."""
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
    options = [text for name, value in sized.items() for text in ("--conf", f"{name}={value}")]
    properties = ["--properties-file", str(ROOT / "conf" / "spark" / "cluster.conf")]
    job = [str(ROOT / "jobs" / "run.py"), "--profile", "cluster", "--config", str(settings), "--json-logs"]
    return subprocess.Popen(
        [str(BIN / "spark-submit"), "--master", url, *properties, *options, *job],
        # As in `uv run`: spark-submit asks the first Python on PATH where Spark is.
        env=os.environ | {"JAVA_TOOL_OPTIONS": FAST_START, "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_an_executor(config: Config, run: subprocess.Popen[bytes], folder: Path, after: str) -> int:
    """Kills the JVM of one executor as soon as step `after` is done; its process number."""
    ends = time.monotonic() + 400
    while not any(row["step"] == after for row in read_rows(config.root, RUN_STEPS)):
        assert time.monotonic() < ends, f"{after} was not reached"
        assert run.poll() is None, end_run(run)
        time.sleep(0.1)
    time.sleep(1.0)  # the next step has begun
    executor = executors(folder)[0]
    os.kill(executor, signal.SIGKILL)
    assert not any(row["step"] == "als" for row in read_rows(config.root, RUN_STEPS)), "killed too late"
    return executor


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


def content(config: Config) -> dict[str, str]:
    (row,) = history(config.root)
    return {table.name: table.content_hash for table in row.tables}


def test_a_day_on_a_cluster_is_that_of_a_laptop_though_an_executor_is_lost(tmp_path: Path) -> None:
    packed = subprocess.run(
        [BIN / "recsys-spark", "package", "--out", str(tmp_path)], capture_output=True, text=True, check=True
    )
    print(packed.stdout)
    shops = {name: make_shop(tmp_path / name) for name in ("cluster", "laptop")}
    for config in shops.values():
        land_days(config, FIRST_DAY, 3)
    with standalone(tmp_path) as url:
        started = time.perf_counter()
        run = submit(url, write_settings(shops["cluster"], tmp_path / "cluster"), tmp_path / NAME)
        killed = kill_an_executor(shops["cluster"], run, tmp_path, after="item_cf")
        code, output = end_run(run)
        cluster_s = time.perf_counter() - started
    assert code == 0, output[-6000:]
    assert re.search(r"Lost executor|Executor lost|lost an executor", output, re.IGNORECASE), f"{killed} was none"
    started = time.perf_counter()
    code, output = end_run(start_run(write_settings(shops["laptop"], tmp_path / "laptop")))
    assert code == 0, output
    print(f"cluster {cluster_s:.1f} s with a lost executor, local[2] {time.perf_counter() - started:.1f} s")
    assert content(shops["cluster"]) == content(shops["laptop"])
