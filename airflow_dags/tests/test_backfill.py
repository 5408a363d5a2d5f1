"""Airflow's own backfill: `airflow backfill create` with the scheduler, the DAG processor and the API server that a
deployment has, as processes of their own; spark-submit writes down how it was called."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import DAGS, TEMPORARY

pytestmark = pytest.mark.slow

AIRFLOW = (sys.executable, "-m", "airflow")
DATES = ["2026-01-05", "2026-01-06", "2026-01-07"]
OPEN = DATES[1]  # on the others the shop was closed
TIMEOUT_S = 600


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def deployed(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that the processes of a deployment share."""
    port = free_port()
    for name, value in {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of these tests, and of the 64 bytes that its signature asks for" * 2,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # today's own run is not asked for here
        "RECSYS_PARALLEL_STEPS": "2",
    }.items():
        monkeypatch.setenv(name, value)


@contextmanager
def deployment() -> Iterator[None]:
    """What runs DAGs in production; ended with the block."""
    with ExitStack() as stack:
        for service in ("api-server", "dag-processor", "scheduler"):
            with (TEMPORARY / f"{service}.log").open("wb") as log:
                # Each has children, which are ended with it.
                process = subprocess.Popen([*AIRFLOW, service], stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            if service == "api-server":  # a task that is started before it answers fails
                wait_for(answers, "the API answers")
        yield


def answers() -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"]))) == 0


def airflow(*arguments: str) -> str:
    ended = subprocess.run([*AIRFLOW, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr + logs()
    return ended.stdout


def logs() -> str:
    return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(TEMPORARY.glob("*.log")))


def backfilled() -> dict[str, str]:
    """State of every run of the backfill, by date in the order in which they were started."""
    # The lines before are warnings.
    rows = json.loads(airflow("dags", "list-runs", "recsys_daily", "--output", "json").splitlines()[-1])
    ours = [row for row in rows if row["run_id"].startswith("backfill")]
    return {row["logical_date"][:10]: row["state"] for row in sorted(ours, key=lambda row: row["start_date"] or "9")}


def have_ended() -> bool:
    found = backfilled()
    return len(found) == len(DATES) and set(found.values()) <= {"success", "failed"}


def wait_for(ready: Callable[[], bool], what: str, every_s: float = 0.2) -> None:
    ends = time.monotonic() + TIMEOUT_S
    while not ready():
        assert time.monotonic() < ends, f"{what} within {TIMEOUT_S} s\n{logs()}"
        time.sleep(every_s)


def test_backfill_runs_dates_in_their_order_and_skips_the_rest_of_days_without_events(
    deployed: None, submits: Callable[..., list[list[str]]], exits: Callable[[str, str], None]
) -> None:
    for date in {*DATES} - {OPEN}:
        exits(f"ready@{date}", "3")
    # SQLite has one writer at a time: all is asked for before the three processes write to the database.
    airflow("dags", "reserialize")
    airflow("dags", "unpause", "recsys_daily")
    # Midnight of the last date would leave out its run of 03:00.
    span = ("--from-date", DATES[0], "--to-date", f"{DATES[-1]}T23:59:00")
    airflow("backfill", "create", "--dag-id", "recsys_daily", *span, "--max-active-runs", "1")
    with deployment():
        # To ask costs as much as a task.
        wait_for(have_ended, "three runs end", every_s=10)
    assert backfilled() == dict.fromkeys(DATES, "success")
    assert list(backfilled()) == DATES
    assert [call[call.index("--date") + 1] for call in submits("recsys-spark")] == DATES, (
        "each waits for the one before"
    )
    plan = json.loads((DAGS / "plan.json").read_text())
    dated = [(call[call.index("--date") + 1], job_of(call)) for call in submits() if "--date" in call]
    assert sorted(dated) == sorted((OPEN, step["name"]) for step in plan["steps"] if step["in_run"])
    assert [job_of(call) for call in submits()].count("ingest") == len(DATES)


def job_of(call: list[str]) -> str:
    return next(Path(one).stem for one in call if one.startswith(os.fspath(DAGS.parent)) and one.endswith(".py"))
