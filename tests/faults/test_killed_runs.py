"""Faults that need processes of their own: real kills at every step of a publish, two commands at once."""

import signal
import threading
from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from recsys_spark.publish import history
from recsys_spark.reader import open_current
from recsys_spark.tables.delta_log import last_version, runs_with_rows
from tests.run_process import end_run, start_run
from tests.small_shop import FIRST_DAY, land_catalogue, land_days, make_shop, write_settings

pytestmark = pytest.mark.slow

# One passage each, in the order of the day: every process resumes what the one before left behind.  A kill in
# the middle of an ingest is for test_ingest_kill.
FAILPOINTS = [
    "stage.after_user_index",
    "stage.after_candidates",
    "publish.before_commit",
    "publish.after_commit",
]

N_ROUNDS = 1  # of two commands at once


class _Poller(threading.Thread):
    """Opens the current bundle again and again and notes every mix that it sees."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.polls, self.stopped = root, 0, threading.Event()
        self.faults: list[str] = []
        self.seen: dict[str, object] = {}

    def run(self) -> None:
        while not self.stopped.wait(0.05):
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


def test_kill_at_every_step_shows_readers_old_or_new_and_ends_with_one_publish(tmp_path: Path) -> None:
    """Fault row 2."""
    config = make_shop(tmp_path)
    settings = write_settings(config, tmp_path)
    land_catalogue(config, FIRST_DAY)
    land_days(config, FIRST_DAY, 4)
    code, output = end_run(start_run(settings))
    assert code == 0, output
    first = open_current(config.root).run_id
    land_days(config, FIRST_DAY + timedelta(days=4), 1)
    poller = _Poller(config.root)
    poller.start()
    for failpoint in FAILPOINTS:
        code, output = end_run(start_run(settings, failpoint))
        assert code == -signal.SIGKILL, f"{failpoint} was not reached: {output}"
        assert len(history(config.root)) == (2 if failpoint == "publish.after_commit" else 1)
    code, output = end_run(start_run(settings))
    assert code == 0, output
    poller.stopped.set()
    poller.join()
    assert poller.faults == []
    assert poller.polls >= 100
    assert set(poller.seen) == {first, open_current(config.root).run_id}
    assert len(set(poller.seen.values())) == 2
    assert [row.kind for row in history(config.root)] == ["publish", "publish"]


def test_two_runs_of_one_date_at_once_publish_once(tmp_path: Path) -> None:
    """Fault row 8."""
    config = make_shop(tmp_path)
    settings = write_settings(config, tmp_path)
    created = last_version(config.root, "candidates")
    for round_number in range(N_ROUNDS):
        land_days(config, FIRST_DAY + timedelta(days=round_number), 1)
        both = [start_run(settings), start_run(settings)]
        ended = [end_run(process) for process in both]
        assert sorted(code for code, _ in ended) == [0, 4], ended
        assert "expected a free warehouse, got it held by" in next(text for code, text in ended if code == 4)
        assert len(history(config.root)) == round_number + 1
        assert len(runs_with_rows(config.root, "candidates")) == round_number + 1
        assert last_version(config.root, "candidates") == created + round_number + 1  # one commit a round
    assert open_current(config.root).data_date == FIRST_DAY + timedelta(days=N_ROUNDS)
