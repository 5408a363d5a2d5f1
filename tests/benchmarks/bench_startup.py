"""Seconds from a command to its session and to its first job: before start-up was cut, now, and with kept classes.

    uv run --group bench python tests/benchmarks/bench_startup.py [--rounds 5] [--sides before now kept] [--no-warm-up]

Before: every session copied all 33 jars that Delta names, of which it uses two, and Java was asked for its version by a
JVM of its own.  Kept classes: the JVM is given those that Spark loads, as README says how.  Sides take turns, each in a
Python of its own that opens the session as a command does; Ivy has the jars already.  The first job is a count of an
empty Delta table.  The last line is JSON: the medians of all sides, and their ratios to that before
(null without it).
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from tests.benchmarks.report import finish, size_options

SIDES = ("before", "now", "kept")
SIDE = """
import sys
from pathlib import Path
from recsys_spark.spark.session import check_java, open_session
from recsys_spark.spark.session import startup_seconds
side, folder = sys.argv[1], Path(sys.argv[2])
if side == "before":
    check_java()
spark = open_session("start", folder, {"spark.jars.excludes": ""} if side == "before" else None)
spark.read.format("delta").load(str(folder / "table")).count()
print(*startup_seconds(spark))
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Starts both sides in turn and prints what they took."""
    parser = size_options(__doc__, rounds=5)
    parser.add_argument("--sides", choices=SIDES, nargs="+", default=SIDES, help="all three by default")
    parser.add_argument("--no-warm-up", action="store_true", help="count the first starts too, which fill caches")
    asked = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="recsys-start-"))
    make_table(folder / "table")
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in asked.sides}
    options = dict.fromkeys(SIDES, "") | {"kept": f"-XX:SharedArchiveFile={folder / 'spark.jsa'}"}
    for side in () if asked.no_warm_up else ("before", "now"):  # fills caches, and Ivy's
        started(folder, side)
    if "kept" in taken:
        started(folder, "now", f"-XX:ArchiveClassesAtExit={folder / 'spark.jsa'}")
    for number in range(asked.rounds):
        for side, found in taken.items():
            session_s, first_job_s = started(folder, side, options[side])
            found.append((session_s, first_job_s))
            print(f"round {number + 1}, {side}: session {session_s:.1f} s, first job {first_job_s:.1f} s", flush=True)
    medians = {
        f"{side}_{name}_s": round(statistics.median(one[at] for one in found), 2)
        for side, found in taken.items()
        for at, name in enumerate(("session", "first_job"))
    }
    before = medians.get("before_first_job_s", float("nan"))
    ratios = {f"{side}_ratio": round(medians[f"{side}_first_job_s"] / before, 2) for side in taken if side != "before"}
    finish(medians | ratios, asked)


def make_table(path: Path) -> None:
    """An empty Delta table."""
    DeltaTable.create(str(path), schema=pa.schema([("number", pa.int64())]))


def started(folder: Path, side: str, jvm_options: str = "") -> tuple[float, float]:
    """Seconds to the session and to the first job; returns when the JVM has ended too."""
    command = [sys.executable, "-c", SIDE, side, str(folder)]
    environment = os.environ | {"SPARK_SUBMIT_OPTS": f"{jvm_options} -Xlog:disable"}  # it would warn on our output
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    session, first_job = map(float, ended.stdout.splitlines()[-1].split())
    return session, first_job


if __name__ == "__main__":
    main()
