"""Faults that need processes of their own: kills at every step of a publish, two commands at once, a full disk."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import LockedError
from recsys_spark.pipeline.publish import history
from recsys_spark.serving.bundle import open_current
from recsys_spark.warehouse.ledger import read_rows
from recsys_spark.warehouse.locks import warehouse_lock
from recsys_spark.warehouse.run_files import last_version, runs_with_rows
from recsys_spark.warehouse.tables import RUN_STEPS
from tests.ledgers import latest_runs
from tests.run_process import COMMAND, end_run, start_run
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop, write_settings

pytestmark = pytest.mark.slow

_STARTS_WITHIN_S = 5.0
_WAITS_S = 300.0


def wait_for_step(config: Config, step: str, times: int) -> None:
    """Waits until so many runs have done the step."""
    ends = time.monotonic() + _WAITS_S
    while [row["step"] for row in read_rows(config.root, RUN_STEPS)].count(step) < times:
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


class _Poller(threading.Thread):
    """Opens the current bundle again and again and notes every mix that it sees."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.polls, self.stopped = root, 0, threading.Event()
        self.faults: list[str] = []
        self.seen: dict[str, object] = {}

    def run(self) -> None:
        while not self.stopped.wait(0.2):  # a look takes as long on a busy machine
            try:
                bundle = open_current(self.root)
                # Each day adds events and makes lists anew, so tables of two runs never show the figures of one.
                shown = (
                    str(bundle.read_table("candidates", ["generated_at"])["generated_at"].unique()),
                    pc.sum(bundle.read_table("user_features", ["n_events"])["n_events"]).as_py(),
                    pc.sum(bundle.read_table("item_features", ["n_events"])["n_events"]).as_py(),
                )
                if self.seen.setdefault(bundle.run_id, shown) != shown:
                    self.faults.append(f"{bundle.run_id} shows {shown} after {self.seen[bundle.run_id]}")
            except Exception as err:
                self.faults.append(repr(err))
            self.polls += 1


class _Twice(NamedTuple):
    """A shop whose first day was run by two commands at once.  ended: exit codes and outputs; created: version of a
    table before."""

    folder: Path
    ended: list[tuple[int, str]]
    created: int


@pytest.fixture(scope="module")
def twice_started(tmp_path_factory: pytest.TempPathFactory) -> _Twice:
    folder = tmp_path_factory.mktemp("twice")
    config = make_shop(folder)
    created = last_version(config.root, "candidates")
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, 4)
    both = [start_run(write_settings(config, folder)) for _ in range(2)]
    return _Twice(folder, [end_run(process) for process in both], created)


def test_two_runs_of_one_date_at_once_publish_once(twice_started: _Twice) -> None:
    """Fault row 8."""
    folder, ended, created = twice_started
    assert sorted(code for code, _ in ended) == [0, 4], ended
    assert "expected a free warehouse, got it held by" in next(text for code, text in ended if code == 4)
    root = folder / "warehouse"
    assert len(history(root)) == 1
    assert len(runs_with_rows(root, "candidates")) == 1
    assert last_version(root, "candidates") == created + 1  # one commit
    assert open_current(root).data_date == FIRST_DAY + timedelta(days=4)


def test_a_run_that_is_killed_ended_and_has_a_full_disk_is_taken_up_again_and_shows_readers_old_or_new(
    tmp_path: Path, twice_started: _Twice
) -> None:
    """Fault rows 2, 7 and 37, on one run, in the order of its day: each command resumes what the one before left.

    A kill in the middle of an ingest is for test_ingest_kill, one in the middle of a fit for test_killed_fit.
    """
    shutil.copytree(twice_started.folder, tmp_path, dirs_exist_ok=True)
    config = make_shop(tmp_path)
    settings = write_settings(config, tmp_path)
    land_days(config, FIRST_DAY + timedelta(days=4), 1)
    first = open_current(config.root).run_id
    poller = _Poller(config.root)
    poller.start()
    _is_killed(config, settings, "stage.after_user_index", n_published=1)
    _is_ended(config, settings)
    _fills_the_disk(config, settings)
    _is_killed(config, settings, "stage.after_candidates", n_published=1)
    _is_killed(config, settings, "publish.before_commit", n_published=1)
    _is_killed(config, settings, "publish.after_commit", n_published=2)
    code, output = end_run(start_run(settings))
    assert code == 0, output
    poller.stopped.set()
    poller.join()
    assert poller.faults == []
    assert poller.polls >= 20
    assert set(poller.seen) == {first, open_current(config.root).run_id}
    assert len(set(poller.seen.values())) == 2
    assert [row.kind for row in history(config.root)] == ["publish", "publish"]
    steps = [row["step"] for row in read_rows(config.root, RUN_STEPS) if row["run_id"] != first]
    done = [step for step in steps if step != "audit"]  # storage is read back by each command that would publish
    assert len(done) == len(set(done)), "what was done before is not done again"
    assert [row["state"] for row in latest_runs(config.root)] == ["published", "published"]


def _is_killed(config: Config, settings: Path, failpoint: str, n_published: int) -> None:
    code, output = end_run(start_run(settings, failpoint))
    assert code == -signal.SIGKILL, f"{failpoint} was not reached: {output}"
    assert len(history(config.root)) == n_published


def _is_ended(config: Config, settings: Path) -> None:
    """SIGTERM frees the warehouse; a task beside the command line is refused before."""
    run = start_run(settings)
    wait_for_step(config, "interactions", 2)
    command = [*COMMAND, "step", "als", "--config", str(settings)]
    task = subprocess.run(command, capture_output=True, text=True, check=False)
    assert task.returncode == 4, task.stderr
    assert "got it held by `run`" in task.stderr
    os.kill(run.pid, signal.SIGTERM)
    assert seconds_until_free(config) < _STARTS_WITHIN_S
    code, output = end_run(run)
    assert code == -signal.SIGTERM, output


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
