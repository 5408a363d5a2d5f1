"""A pytest plugin for a run in a copy of the tree: proves that the copy is what is tested, and leaves tests out.

What it does is said by the environment.  MUTANTS_LEFT_OUT: a file with a list of tests that are not to run.
MUTANTS_WITHOUT_SPARK: tests that request the session are not run either.  MUTANTS_REPORT: a file to which one JSON line
is appended for each test that was found and for each phase of a test.  MUTANTS_MEMORY: bytes that a process may have.
"""

import json
import os
import resource
from pathlib import Path

import pytest

NOT_THE_COPY = 70  # exit status
SESSION_FIXTURE = "spark"


def pytest_configure(config: pytest.Config) -> None:
    import recsys_spark

    if not Path(recsys_spark.__file__ or "").is_relative_to(Path.cwd()):
        pytest.exit(f"expected the copy in {Path.cwd()}, got {recsys_spark.__file__}", returncode=NOT_THE_COPY)
    if memory := os.environ.get("MUTANTS_MEMORY"):
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    spark = [item for item in items if SESSION_FIXTURE in getattr(item, "fixturenames", ())]
    for item in items:
        _write({"found": item.nodeid, "spark": item in spark})
    names: set[str] = set()
    if listed := os.environ.get("MUTANTS_LEFT_OUT"):
        names |= set(json.loads(Path(listed).read_text(encoding="utf-8")))
    if os.environ.get("MUTANTS_WITHOUT_SPARK"):
        names |= {item.nodeid for item in spark}
    if out := [item for item in items if item.nodeid in names]:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item.nodeid not in names]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _write({"ran": report.nodeid, "failed": report.failed, "seconds": round(report.duration, 3)})


def _write(line: dict[str, object]) -> None:
    if name := os.environ.get("MUTANTS_REPORT"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
