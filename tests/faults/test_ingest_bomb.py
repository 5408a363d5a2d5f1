"""A file that explodes when it is opened is stopped early, and costs no memory."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.event_files import zstd

_MEASURE = """
import resource, sys
from pathlib import Path
from tests.event_files import event_reading, planned, read_through
path = Path(sys.argv[1])
reading, plan = event_reading(path.parent), planned(path)
small = path.with_name("small.jsonl")
small.write_bytes(b"{}\\n")
read_through(small, reading)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reason = read_through(path, reading, plan).summary.reason
print(reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(("name", "reason"), [("bomb.jsonl.gz", "expansion"), ("bomb.jsonl.zst", "expansion")])
def test_read_file_stops_at_a_bomb_without_holding_it(tmp_path: Path, name: str, reason: str) -> None:
    """Fault row 21: a gigabyte of zeros in a megabyte is refused, and memory grows by less than 200 MB."""
    path = tmp_path / name
    _write_zeros(path, 1000)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    found, grown = done.stdout.split()
    assert found == reason
    assert int(grown) < 200_000_000


def _write_zeros(path: Path, n_mib: int) -> None:
    """A megabyte of zeros, `n_mib` times: equal members, so that it is written at once."""
    zeros = bytes(1 << 20)
    path.write_bytes((gzip.compress(zeros) if path.suffix == ".gz" else zstd(zeros)) * n_mib)
