"""Locks of a warehouse in an object store: one holder, an end for those who were killed, and who lost one stops."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from recsys_spark.errors import LockedError
from recsys_spark.warehouse import locks
from recsys_spark.warehouse.delta_rs import table_path
from recsys_spark.warehouse.ledger import append_rows, read_rows
from recsys_spark.warehouse.location import ObjectPath, as_text
from recsys_spark.warehouse.locks import LEASES, leased, opening_lock, step_lock, warehouse_lock


def _held(root: ObjectPath) -> dict[str, bool]:
    """Names that are held now, and whether others may share them."""
    return {row["name"]: row["is_shared"] for row in read_rows(root, LEASES)}


def test_a_warehouse_has_one_writer(s3_root: ObjectPath) -> None:
    with warehouse_lock(s3_root, "run"):
        assert _held(s3_root) == {"pipeline": False}
        for other in (warehouse_lock(s3_root, "gc"), step_lock(s3_root, "als", [], "als")):
            with pytest.raises(LockedError, match=r"got it held by `run` \(process \d+ on .*\) until \d\d:"), other:
                pass
    assert _held(s3_root) == {}
    with warehouse_lock(s3_root, "gc"):
        pass


def test_steps_run_beside_each_other_and_not_beside_what_they_read(s3_root: ObjectPath) -> None:
    with step_lock(s3_root, "als", ["interactions"], "als"), step_lock(s3_root, "item_cf", ["interactions"], "item_cf"):
        assert len(read_rows(s3_root, LEASES)) == 6
        for other in (
            warehouse_lock(s3_root, "run"),
            step_lock(s3_root, "interactions", [], "interactions"),
            step_lock(s3_root, "als", [], "als"),
            step_lock(s3_root, "blend", ["als"], "blend"),
        ):
            with pytest.raises(LockedError), other:
                pass


def test_opening_waits_until_the_other_has_opened(s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    order, refused, take = [], threading.Semaphore(0), locks._Lease.take

    def counted(one: locks._Lease) -> bool:
        if not (is_held := take(one)):
            refused.release()
        return is_held

    monkeypatch.setattr(locks._Lease, "take", counted)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)

    def second() -> None:
        with opening_lock(s3_root):
            order.append("second")

    thread = threading.Thread(target=second)
    with opening_lock(s3_root):
        thread.start()
        assert all(refused.acquire(timeout=60) for _ in range(2)), "it looks, and looks again"
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_of_many_that_start_together_one_holds_the_lock(s3_root: ObjectPath) -> None:
    outcomes, done = [], threading.Event()

    def take() -> None:
        try:
            with warehouse_lock(s3_root, "run"):
                outcomes.append("held")
                done.wait(60)
        except LockedError:
            outcomes.append("refused")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(outcomes) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused", "refused", "refused"]


_KILLED = """
import os, signal, sys
from recsys_spark.warehouse.locks import warehouse_lock
from recsys_spark.warehouse.location import locate
with warehouse_lock(locate(sys.argv[1]), "run"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_command_holds_a_lock_until_its_end(s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, as_text(s3_root)], check=False)
    assert killed.returncode == -9
    with pytest.raises(LockedError, match="or, if it was killed, until then"), warehouse_lock(s3_root, "run"):
        pass

    class Later(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=locks._LIVES_S + 1)

    monkeypatch.setattr(locks, "datetime", Later)
    with warehouse_lock(s3_root, "run"):
        assert len(read_rows(s3_root, LEASES)) == 1


def _wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_a_lease_is_renewed_while_the_command_lives(s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_RENEWED_S", 0.2)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)
    with warehouse_lock(s3_root, "run"):
        (first,) = read_rows(s3_root, LEASES)
        _wait_until(lambda: read_rows(s3_root, LEASES)[0]["ends_at"] > first["ends_at"])
        (later,) = read_rows(s3_root, LEASES)
    assert later["holder"] == first["holder"]


def test_three_renewals_may_fail_before_a_lease_ends() -> None:
    assert 4 * locks._RENEWED_S <= locks._LIVES_S


def _taken_by_another(root: ObjectPath) -> None:
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    other = {"name": "pipeline", "holder": "`gc`", "is_shared": False, "ends_at": in_an_hour}
    assert locks._changed(table_path(root, "leases"), lambda _: [other])


def test_a_command_that_lost_its_lease_is_stopped_whatever_it_waits_for(
    s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a laptop slept: another command found the lease at its end, and holds the warehouse."""
    monkeypatch.setattr(locks, "_RENEWED_S", 0.5)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)
    here, _there = socket.socketpair()

    def work() -> None:
        with warehouse_lock(s3_root, "run"), opening_lock(s3_root):
            _taken_by_another(s3_root)
            here.recv(1)  # as for the answer of Spark

    before, started = signal.getsignal(signal.SIGUSR1), time.monotonic()
    with pytest.raises(LockedError, match="expected to hold the warehouse to the end, got its lease ended"):
        work()
    assert time.monotonic() - started < 60
    assert signal.getsignal(signal.SIGUSR1) == before
    assert [row["holder"] for row in read_rows(s3_root, LEASES)] == ["`gc`"]


def test_a_command_that_ends_without_its_lease_has_failed(s3_root: ObjectPath) -> None:
    with pytest.raises(LockedError, match="got its lease ended"), warehouse_lock(s3_root, "run"):
        _taken_by_another(s3_root)


def test_a_lease_that_ended_is_not_taken_back(s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held the warehouse in between has done its work, on which this command knows nothing."""
    monkeypatch.setattr(locks, "_RENEWED_S", 0.5)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)

    def work() -> None:
        with warehouse_lock(s3_root, "run"):
            locks._changed(table_path(s3_root, "leases"), lambda _: [])
            time.sleep(60)

    with pytest.raises(LockedError, match="got its lease ended"):
        work()


def test_a_command_whose_store_does_not_answer_stops_at_the_end_of_its_lease(
    s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_RENEWED_S", 0.2)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)
    monkeypatch.setattr(locks, "_LIVES_S", 3.0)

    def work() -> None:
        with warehouse_lock(s3_root, "run"):
            monkeypatch.setattr(locks, "open_delta", lambda *_: time.sleep(5))
            time.sleep(60)

    started = time.monotonic()
    with pytest.raises(LockedError, match="got its lease ended"):
        work()
    assert time.monotonic() - started < 30


def test_ctrl_c_is_no_lost_lease(s3_root: ObjectPath) -> None:
    with pytest.raises(KeyboardInterrupt), warehouse_lock(s3_root, "run"):
        raise KeyboardInterrupt
    assert read_rows(s3_root, LEASES) == []


def _fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    true, fails = locks.open_delta, iter([True])

    def flaky(*place: object) -> object:
        if next(fails, False):
            raise OSError("Generic S3 error: timeout")
        return true(*place)

    monkeypatch.setattr(locks, "open_delta", flaky)


def test_a_store_that_fails_once_does_not_end_a_lease(
    s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_RENEWED_S", 0.2)
    monkeypatch.setattr(locks, "_LOOK_S", 0.1)
    with leased(s3_root, {"pipeline": False}, "run"):
        _fails_once(monkeypatch)
        _wait_until(lambda: "lease: expected to be renewed, got Generic S3 error: timeout" in caplog.text)
    assert read_rows(s3_root, LEASES) == []


def test_a_store_that_fails_at_the_end_does_not_undo_a_command(
    s3_root: ObjectPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with leased(s3_root, {"pipeline": False}, "run"):
        _fails_once(monkeypatch)
    assert "lease: expected to be ended, got Generic S3 error: timeout; it ends by itself within 120 s" in caplog.text


def test_rows_past_their_end_hold_nothing(s3_root: ObjectPath) -> None:
    with warehouse_lock(s3_root, "makes the table"):
        pass
    ended = {"name": "pipeline", "holder": "`old`", "is_shared": False, "ends_at": datetime(2025, 1, 1, tzinfo=UTC)}
    append_rows(s3_root, LEASES, [ended])
    with warehouse_lock(s3_root, "run"):
        assert len(read_rows(s3_root, LEASES)) == 1
