"""A file that explodes when it is opened is stopped early, and costs no memory."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

from tests.event_files import zstd

_MEASURE = """
import resource, sys
from pathlib import Path
from tests.event_files import event_reading, planned, read_through
small = Path(sys.argv[1]).with_name("small.jsonl")
small.write_bytes(b"{}\\n")
reading = event_reading(small.parent)
read_through(small, reading)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[1:]):
    reason = read_through(path, reading, planned(path)).summary.reason
    print(path.name, reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_read_file_stops_at_a_bomb_without_holding_it(tmp_path: Path) -> None:
    """Fault row 21: a gigabyte of zeros in a megabyte is refused, and memory grows by less than 200 MB."""
    paths = [tmp_path / "bomb.jsonl.gz", tmp_path / "bomb.jsonl.zst"]
    for path in paths:
        _write_zeros(path, 1000)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *map(str, paths)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    found = [line.split() for line in done.stdout.splitlines()]
    assert [(name, reason) for name, reason, _ in found] == [(path.name, "expansion") for path in paths]
    assert all(int(grown) < 200_000_000 for *_, grown in found), found


def _write_zeros(path: Path, n_mib: int) -> None:
    """A megabyte of zeros, `n_mib` times: equal members, so that it is written at once."""
    zeros = bytes(1 << 20)
    path.write_bytes((gzip.compress(zeros) if path.suffix == ".gz" else zstd(zeros)) * n_mib)
