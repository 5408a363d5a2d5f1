"""Peak memory of a process and all its descendants, sampled from /proc.

Owns: the sampling.
"""

import os
import threading
from pathlib import Path
from types import TracebackType

_PROC = Path("/proc")
# The JVM's heap grows over seconds; a sample of a full one costs about 20 ms.
_PERIOD_S = 0.5


class PeakMemory:
    """Samples this process and its descendants while its block runs.

    A page that processes share counts once, split between them (PSS), and a value counts only if two samples in a row
    reach it.  Hadoop forks the JVM for each file that it writes, and for some milliseconds that looks like a second
    JVM: the highest single sample of resident sizes said 6.2 GiB where 3.4 were in use.
    """

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> "PeakMemory":
        """Starts sampling; `peak_bytes` stays None where there is no /proc."""
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends sampling."""
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        before = used = tree_bytes(os.getpid())
        while before is not None and used is not None:
            self.peak_bytes = max(self.peak_bytes or 0, min(before, used))
            if self._ended.wait(_PERIOD_S):
                return
            before, used = used, tree_bytes(os.getpid())


def tree_bytes(pid: int) -> int | None:
    """Bytes in memory of the process and its descendants, None where the system has no /proc."""
    if not (_PROC / "self" / "smaps_rollup").exists():
        return None
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            # The name, in parentheses, may hold spaces; the parent is the second field after it (proc(5): field 4).
            parent = _read(folder / "stat").rpartition(")")[2].split()[1:2]
            children.setdefault(int(parent[0]) if parent else 0, []).append(int(folder.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += _proportional_bytes(_read(_PROC / str(one) / "smaps_rollup"))
        waiting += children.get(one, [])
    return total


def _proportional_bytes(smaps: str) -> int:
    """The process's share of the memory that it maps, 0 for one that has ended."""
    return sum(int(line.split()[1]) << 10 for line in smaps.splitlines() if line.startswith("Pss:"))


def _read(path: Path) -> str:
    """What a file of /proc says, "" if its process has ended or belongs to somebody else."""
    try:
        return path.read_text()
    except OSError:
        return ""
