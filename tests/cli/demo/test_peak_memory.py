"""Peak memory counts what a process started, and keeps what was given back before the end."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recsys_spark.cli.demo import peak_memory
from recsys_spark.cli.demo.peak_memory import PeakMemory, tree_bytes

MIB = 1 << 20

NO_PROC = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc on this system")

# Two forks share 200 MiB with their parent until it ends.
FORKS = """
import os, sys
held = b"x" * (200 << 20)
read, write = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


@NO_PROC
def test_tree_bytes_counts_children_but_not_parents() -> None:
    # 200 MiB that are used, and 1 GiB that is only reserved and so takes no memory.
    program = (
        "import mmap, sys; held = b'x' * (200 << 20); reserved = mmap.mmap(-1, 1 << 30);"
        "print('ready', flush=True); sys.stdin.read()"
    )
    alone = tree_bytes(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        together, of_child = tree_bytes(os.getpid()), tree_bytes(child.pid)
        child.communicate()
    assert alone is not None
    assert of_child is not None
    assert 200 * MIB <= of_child <= 250 * MIB  # an interpreter is about 10 MiB
    assert together is not None
    assert together >= alone + 190 * MIB  # the libraries that both map are now shared


@NO_PROC
def test_tree_bytes_counts_shared_pages_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as top:
        assert top.stdout is not None
        assert top.stdout.readline() == "ready\n"
        used = tree_bytes(top.pid)
        top.communicate()
    assert used is not None
    assert 200 * MIB <= used <= 300 * MIB


def test_tree_bytes_is_none_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak_memory, "_PROC", tmp_path)
    assert tree_bytes(1) is None
    with PeakMemory() as memory:
        pass
    assert memory.peak_bytes is None


def test_peak_memory_keeps_the_highest_that_two_samples_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, taken = [100, 900, 100, 300, 310, 50], threading.Event()

    def sample(pid: int) -> int:
        if len(samples) == 1:
            taken.set()
            return samples[0]
        return samples.pop(0)

    monkeypatch.setattr(peak_memory, "tree_bytes", sample)
    monkeypatch.setattr(peak_memory, "_PERIOD_S", 0.001)
    with PeakMemory() as memory:
        assert taken.wait(10)
    assert memory.peak_bytes == 300
