"""Failpoints do nothing unless a test asks for one, and then act at the passage that was named."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_spark import failpoint as module
from recsys_spark.failpoint import FailpointReached, failpoint


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_passages", {})
    monkeypatch.setenv("RECSYS_FAILPOINT_ACTION", "raise")


def test_failpoint_does_nothing_when_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_FAILPOINT", raising=False)
    failpoint("publish.before_commit")


def test_failpoint_does_nothing_at_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_FAILPOINT", "publish.before_commit")
    failpoint("publish.after_commit")
    failpoint("publish.before")


def test_failpoint_acts_at_the_first_passage_when_no_passage_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_FAILPOINT", "publish.before_commit")
    with pytest.raises(FailpointReached, match=r"publish\.before_commit"):
        failpoint("publish.before_commit")


def test_failpoint_acts_once_at_the_passage_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_FAILPOINT", "ingest.after_plan:2")
    failpoint("ingest.after_plan")
    with pytest.raises(FailpointReached):
        failpoint("ingest.after_plan")
    failpoint("ingest.after_plan")


def test_failpoint_acts_in_one_process_if_it_may_act_once(tmp_path: Path) -> None:
    code = "from recsys_spark.failpoint import failpoint; failpoint('here')"
    environment = {"RECSYS_FAILPOINT": "here", "RECSYS_FAILPOINT_ONCE": str(tmp_path / "acted")}
    ended = [subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode for _ in range(2)]
    assert ended == [-signal.SIGKILL, 0]


def test_failpoint_kills_the_process_without_any_cleanup() -> None:
    code = (
        "import atexit; from recsys_spark.failpoint import failpoint\n"
        "atexit.register(print, 'cleaned up')\n"
        "try:\n    failpoint('here')\nfinally:\n    print('unwound')"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], env={"RECSYS_FAILPOINT": "here"}, capture_output=True, text=True, check=False
    )
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
