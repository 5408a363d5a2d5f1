"""One writer at a time, and a lock that dies with its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsys_spark.errors import EnvironmentFault, LockedError
from recsys_spark.warehouse.locks import opening_lock, step_lock, warehouse_lock

HOLD = """
import sys
from pathlib import Path
from recsys_spark.warehouse.locks import warehouse_lock
with warehouse_lock(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(root: Path) -> subprocess.Popen[str]:
    """A process that holds the warehouse until it reads a line or dies."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_warehouse_lock_refuses_a_second_process_and_names_the_first(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with (
            pytest.raises(LockedError, match=rf"held by `run` \(process {holder.pid}\)"),
            warehouse_lock(tmp_path, "gc"),
        ):
            pass
    finally:
        holder.communicate("\n")
    assert holder.returncode == 0


def test_warehouse_lock_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    holder.kill()
    holder.communicate()
    with warehouse_lock(tmp_path, "run"):
        pass


def test_warehouse_lock_is_not_inherited_by_a_child_that_outlives_the_command(tmp_path: Path) -> None:
    # The JVM is such a child.
    with warehouse_lock(tmp_path, "run"):
        code = [sys.executable, "-c", "print(flush=True); input()"]
        child = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        child.stdout.readline()  # it runs: what closes on exec is closed
    try:
        with warehouse_lock(tmp_path, "run"):
            pass
    finally:
        child.kill()
        child.communicate()


def test_warehouse_lock_is_free_after_a_fault_inside_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), warehouse_lock(tmp_path, "run"):
        _ = 1 / 0
    with warehouse_lock(tmp_path, "run"):
        pass


def test_warehouse_lock_of_one_warehouse_leaves_another_free(tmp_path: Path) -> None:
    with warehouse_lock(tmp_path / "a", "run"), warehouse_lock(tmp_path / "b", "run"):
        pass


def test_warehouse_lock_forgets_a_longer_name_of_an_earlier_holder(tmp_path: Path) -> None:
    with warehouse_lock(tmp_path, "a very long command name indeed"):
        pass
    with warehouse_lock(tmp_path, "gc"):
        text = (tmp_path / "_locks" / "pipeline").read_text()
    assert text.startswith("`gc` (process ")
    assert "indeed" not in text


@pytest.mark.parametrize("root", ["/proc/nowhere", "/dev/null/warehouse"])
def test_warehouse_lock_names_a_root_that_cannot_be_written(root: str) -> None:
    named = r"^\[storage\] root: expected a folder that can be written, got "
    with pytest.raises(EnvironmentFault, match=named), warehouse_lock(Path(root), "run"):
        pass


def test_warehouse_lock_names_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file"
    with pytest.raises(EnvironmentFault, match=r"Not a directory"), warehouse_lock(root, "run"):
        pass


def test_warehouse_lock_follows_no_link_to_a_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "root" / "_locks").mkdir(parents=True)
    target = tmp_path / "precious"
    target.write_text("keep me")
    (tmp_path / "root" / "_locks" / "pipeline").symlink_to(target)
    with pytest.raises(EnvironmentFault), warehouse_lock(tmp_path / "root", "run"):
        pass
    assert target.read_text() == "keep me"


def test_steps_run_beside_each_other_and_never_twice(tmp_path: Path) -> None:
    with step_lock(tmp_path, "als", ["index"], "step als"), step_lock(tmp_path, "item_cf", ["index"], "step item_cf"):
        again = step_lock(tmp_path, "als", ["index"], "again")
        with pytest.raises(LockedError, match=r"step-als: .* held by `step als`"), again:
            pass
        with pytest.raises(LockedError, match=r"pipeline: .* held by a step"), warehouse_lock(tmp_path, "gc"):
            pass
        with pytest.raises(LockedError, match=r"step-index: "), step_lock(tmp_path, "index", [], "step index"):
            pass  # it would write what the others read
    with warehouse_lock(tmp_path, "gc"):
        pass


def test_a_step_waits_for_no_command_that_is_alone(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    with pytest.raises(LockedError, match=r"held by `run`"), step_lock(tmp_path, "als", [], "step als"):
        pass
    holder.communicate("\n")
    with step_lock(tmp_path, "als", [], "step als"):
        pass


def test_opening_lock_waits(tmp_path: Path) -> None:
    code = HOLD.replace('warehouse_lock(Path(sys.argv[1]), "run")', "opening_lock(Path(sys.argv[1]))")
    code = code.replace("import warehouse_lock", "import opening_lock")
    with opening_lock(tmp_path):
        waiting = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.0)
    assert waiting.communicate("\n")[0] == "held\n"
