"""Copies of the working tree in which tests run on changed code, one for each process."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import TypeVar

from tests.mutants.plugin import NOT_THE_COPY

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin")

BUSY = 1.5  # processes that want to run, for each core
PATIENCE = 40  # times the limit, for a run that gets little of a busy machine

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Ended:
    """How a test run ended.  code: pytest's exit status, None after the time was up.

    cpu_s: what the process and what it waited for used; on a busy machine far less than `seconds`.
    """

    code: int | None
    seconds: float
    cpu_s: float
    output: str
    starved: bool = False  # the time was up before the run had the CPU time that it may use

    @property
    def verdict(self) -> str:
        """`survived`, `caught`, `timed out`, or `error` where the yardstick itself is at fault."""
        if self.code is None:
            return "error" if self.starved else "timed out"
        if self.code == 4 and "while loading conftest" in self.output:
            return "caught"
        if self.code in (3, 4, 5, NOT_THE_COPY):
            return "error"
        return "caught" if self.code else "survived"


class Tree:
    """A copy of the tree, and a folder of its own for what the tests leave behind."""

    def __init__(self, folder: Path) -> None:
        self.code, self.scratch = folder / "code", folder / "scratch"
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def close(self) -> None:
        """Ends what runs, and lets nothing more run."""
        self._closed = True
        self.kill()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("a copy that is closed says nothing")

    def kill(self) -> None:
        """Ends what runs in the copy, with all that it started and that did not leave its group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """The file has another text until the end; its compiled form goes, whose date may be the same."""
        file = self.code / path
        before = file.read_bytes()
        try:
            file.write_text(text, encoding="utf-8")
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
                compiled.unlink()
            yield
        finally:
            file.write_bytes(before)

    def run(self, tests: Sequence[str], timeout_s: float, extra: dict[str, str], first_fault: bool = True) -> Ended:
        """Runs pytest in the copy; after `timeout_s` all that it started is killed.

        extra: laid over the environment; `{scratch}` in a value is the empty folder of this run.
        """
        self._check_open()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        own = {
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "NUMBA_CACHE_DIR": "{scratch}/numba",  # a kernel that is kept would hold the kernels it calls as they were
            "HYPOTHESIS_STORAGE_DIRECTORY": "{scratch}/hypothesis",
        }
        own = {name: value.replace("{scratch}", str(self.scratch)) for name, value in (own | extra).items()}
        options = ["--hypothesis-seed=0", f"--basetemp={self.scratch / 'pytest'}"]
        command = [one for one in PYTEST if first_fault or one != "-x"]
        return self._wait([*command, *options, *tests], os.environ | own, timeout_s)

    def _wait(self, command: list[str], environment: dict[str, str], timeout_s: float) -> Ended:
        started, output = time.monotonic(), self.scratch / "output.txt"
        with output.open("wb") as file:
            process = self._process = subprocess.Popen(
                command,
                cwd=self.code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code, cpu_s = _wait_for(process, timeout_s)
        finally:
            self.kill()
            process.wait()
            self._process = None
        self._check_open()
        text = output.read_text(encoding="utf-8", errors="replace")
        starved = code is None and is_busy() and cpu_s < timeout_s
        return Ended(code, time.monotonic() - started, cpu_s, text, starved)


def _wait_for(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int | None, float]:
    """The exit status, None if the time was up, and the CPU seconds that were used.

    On a busy machine the time is up when so much CPU time was used, or after PATIENCE times as long.
    """
    started = time.monotonic()
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        cpu_s = _cpu_s(process.pid)  # before the status is taken, with which it goes
        if ended is not None:
            return process.wait(), cpu_s
        passed = time.monotonic() - started
        if passed > timeout_s and (not is_busy() or cpu_s > timeout_s or passed > PATIENCE * timeout_s):
            return None, cpu_s
        time.sleep(0.05)


def is_busy() -> bool:
    """Whether more wants to run on this machine than can."""
    return os.getloadavg()[0] > BUSY * len(os.sched_getaffinity(0))


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")


class Trees:
    """As many copies as there are workers; `each` spreads work over them."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.trees = [Tree(folder / str(number)) for number in range(workers)]
        self._free: Queue[Tree] = Queue()

    def each(self, work: Callable[[Tree, In], Out], inputs: Sequence[In]) -> list[Out]:
        """What `work` returns for each of the inputs."""

        def one(value: In) -> Out:
            tree = self._free.get()
            try:
                return work(tree, value)
            finally:
                self._free.put(tree)

        with ThreadPoolExecutor(self.workers) as pool:
            try:
                return list(pool.map(one, inputs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for tree in self.trees:
                    tree.close()
                raise

    def copy(self) -> None:
        """Makes the copies: what git tracks or would track, as it is in the working tree now."""
        first = self.trees[0]
        for name in listed_files():
            target = first.code / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        for command in (["git", "init", "-q"], ["git", "add", "-A"]):  # some tests ask what is tracked
            subprocess.run(command, cwd=first.code, check=True)
        subprocess.run([sys.executable, "-m", "compileall", "-q", "recsys_spark", "tests"], cwd=first.code, check=True)
        for tree in self.trees:
            if tree is not first:
                shutil.copytree(first.code, tree.code)
            self._free.put(tree)


@contextmanager
def tree_copies(workers: int) -> Iterator[Trees]:
    """Copies of the tree, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="recsys-mutants-", ignore_cleanup_errors=True) as folder:
        trees = Trees(Path(folder).resolve(), workers)
        trees.copy()
        yield trees


def listed_files() -> list[str]:
    """Files of the working tree that git tracks or does not ignore, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({name for name in names if name and (ROOT / name).is_file()})


def digest_of(names: Sequence[str]) -> str:
    """A digest of the names and the contents of files of the working tree."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()[:16]
