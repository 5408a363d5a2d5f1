"""Cost of tests: a pytest plugin that counts Spark jobs and processes of every test, and a table of a report.

    uv run --group dev python -m tests.measurement [--by file] [test-results/last.xml ...]

The counts are the properties `spark_jobs` and `processes` of a test case in the JUnit report. Spark's own Python
workers are not counted: they come with a session. Nor are jobs of a session in another process. What a fixture of a
module costs is counted in the first test that asks for it.
"""

import argparse
import multiprocessing.util
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest
from pyspark import SparkContext

_started = 0  # processes that this one has started


def _count(event: str, _arguments: tuple[Any, ...]) -> None:
    global _started  # an audit hook can be neither removed nor given a state
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        _started += 1


def _spawned(*arguments: Any, spawn: Any = multiprocessing.util.spawnv_passfds) -> Any:
    """A process of multiprocessing, which raises no audit event."""
    _count("os.posix_spawn", ())
    return spawn(*arguments)


def _jobs() -> tuple[int, int]:
    """The number of the running session, and of the jobs that it has had."""
    context = SparkContext._active_spark_context
    if context is None or context._jsc is None:
        return 0, 0
    return id(context), context._jsc.sc().dagScheduler().numTotalJobs()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with mock.patch.object(multiprocessing.util, "spawnv_passfds", _spawned):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_BEFORE] = (*_jobs(), _started)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.when != "teardown":
        return
    session, jobs, processes = item.stash[_BEFORE]
    session_now, jobs_now = _jobs()
    spent = jobs_now - jobs if session_now == session else jobs_now
    item.user_properties += [("spark_jobs", spent), ("processes", _started - processes)]


_BEFORE: pytest.StashKey[tuple[int, int, int]] = pytest.StashKey()


def pytest_configure() -> None:
    sys.addaudithook(_count)


def read_costs(reports: Iterable[Path], by_file: bool) -> dict[str, Counter[str]]:
    """Tests, Spark jobs, processes and seconds (of set-up, test and end) of every folder, or file, of JUnit reports."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            *folders, file = case.attrib["classname"].split(".")
            costs = found["/".join([*folders, f"{file}.py"] if by_file else folders)]
            costs.update({one.attrib["name"]: int(one.attrib["value"]) for one in case.iter("property")})
            costs.update(tests=1, seconds=float(case.attrib["time"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path, default=[Path("test-results/last.xml")])
    parser.add_argument("--by", choices=["folder", "file"], default="folder")
    given = parser.parse_args()
    costs = read_costs(given.reports, given.by == "file")
    total: Counter[str] = sum(costs.values(), Counter())
    print(f"| {given.by} | tests | Spark jobs | processes | seconds |\n|---|--:|--:|--:|--:|")
    for name, one in [*sorted(costs.items(), key=lambda pair: -pair[1]["seconds"]), ("all", total)]:
        print(f"| {name} | {one['tests']} | {one['spark_jobs']} | {one['processes']} | {one['seconds']:.0f} |")


if __name__ == "__main__":
    main()
