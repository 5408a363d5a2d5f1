"""What an orchestrator and its machines do to a run: they end it, fill its disk, and live in other time zones."""

import os
import resource
import signal
import subprocess
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys_spark.config import Config
from recsys_spark.errors import LockedError
from recsys_spark.lock import warehouse_lock
from recsys_spark.publish import history
from recsys_spark.reader import open_current
from recsys_spark.run_ledger import latest_runs
from recsys_spark.tables.catalog import EVENTS, RUN_STEPS
from recsys_spark.tables.delta_log import days_with_rows
from recsys_spark.tables.ledger import read_rows
from tests.published_content import published_content
from tests.run_process import COMMAND, end_run, start_run
from tests.small_shop import FIRST_DAY, land_days, make_shop, write_settings

pytestmark = pytest.mark.slow

_STARTS_WITHIN_S = 5.0
_WAITS_S = 300.0


def wait_for_step(config: Config, step: str) -> None:
    ends = time.monotonic() + _WAITS_S
    while not any(row["step"] == step for row in read_rows(config.root, RUN_STEPS)):
        assert time.monotonic() < ends, f"{step} was not reached"
        time.sleep(0.2)


def seconds_until_free(config: Config) -> float:
    """How long another command would be refused."""
    started = time.monotonic()
    while time.monotonic() < started + _WAITS_S:
        try:
            with warehouse_lock(config.root, "test"):
                break
        except LockedError:
            time.sleep(0.05)
    return time.monotonic() - started


def test_a_run_that_is_ended_and_one_whose_disk_is_full_are_taken_up_again(tmp_path: Path) -> None:
    """Fault rows 7 and 37, on two days in a row of one shop."""
    config = make_shop(tmp_path)
    settings = write_settings(config, tmp_path)
    land_days(config, FIRST_DAY, 2)
    _is_ended(config, settings)
    land_days(config, FIRST_DAY + timedelta(days=2), 1)
    _fills_the_disk(config, settings)


def _is_ended(config: Config, settings: Path) -> None:
    """SIGTERM frees the warehouse, and done steps stay done; a task beside the command line is refused meanwhile."""
    run = start_run(settings)
    wait_for_step(config, "interactions")
    command = [*COMMAND, "step", "als", "--config", str(settings)]
    task = subprocess.run(command, capture_output=True, text=True, check=False)
    assert task.returncode == 4, task.stderr
    assert "got it held by `run`" in task.stderr
    os.kill(run.pid, signal.SIGTERM)
    assert seconds_until_free(config) < _STARTS_WITHIN_S
    code, output = end_run(run)
    assert code == -signal.SIGTERM, output
    code, output = end_run(start_run(settings))
    assert code == 0, output
    steps = [row["step"] for row in read_rows(config.root, RUN_STEPS)]
    assert steps.count("interactions") == 1, "what was done before is not done again"
    assert [row["state"] for row in latest_runs(config.root)] == ["published"]


def _fills_the_disk(config: Config, settings: Path) -> None:
    """From a step on no worker can write a file of more than a kilobyte: the last bundle stays."""
    first, done = open_current(config.root), len(read_rows(config.root, RUN_STEPS))
    full = start_run(settings)
    ends = time.monotonic() + _WAITS_S
    while len(read_rows(config.root, RUN_STEPS)) <= done and time.monotonic() < ends:
        time.sleep(0.1)
    for worker in workers_of(full.pid):
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (1000, 1000))
    code, output = end_run(full)
    assert code == 1, output
    assert "File too large" in output
    assert len(read_rows(config.root, RUN_STEPS)) > done, "it failed in the middle of the day"
    assert [row.run_id for row in history(config.root)] == [first.run_id]
    assert open_current(config.root).candidates("user-01").items == first.candidates("user-01").items
    code, output = end_run(start_run(settings))
    assert code == 0, output
    assert len(history(config.root)) == 2


def workers_of(pid: int) -> list[int]:
    """The Python processes of the session that `pid` leads, but for itself."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != pid:
            try:
                line = (process / "cmdline").read_bytes()
                is_ours = os.getsid(int(process.name)) == pid
            except OSError:  # it has ended
                continue
            if is_ours and b"pyspark" in line and b"python" in line.split(b"\0")[0]:
                found.append(int(process.name))
    return found


def test_a_run_is_the_same_in_every_time_zone(tmp_path: Path) -> None:
    """Fault row 47, over the night in which clocks change in New York."""
    found = {}
    first, processes = date(2025, 3, 8), {}
    for zone in ("America/New_York", "Asia/Kathmandu"):
        config = make_shop(tmp_path / zone.rpartition("/")[2])
        land_days(config, first, 2)
        settings = write_settings(config, config.root.parent)
        processes[zone] = (config, start_run(settings, TZ=zone))
    for zone, (config, process) in processes.items():
        code, output = end_run(process)
        assert code == 0, output
        found[zone] = published_content(config.root)
        assert open_current(config.root).data_date == date(2025, 3, 10)
        assert days_with_rows(config.root, EVENTS.name) == [first, date(2025, 3, 9)]
    assert found["America/New_York"] == found["Asia/Kathmandu"]
