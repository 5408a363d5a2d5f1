"""The table of what tests cost, from a report of two cases; that each test is counted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import measurement
from tests.measurement import read_costs

REPORT = """<testsuites><testsuite>
<testcase classname="tests.kernels.test_als" name="a" time="1.5">
<properties><property name="spark_jobs" value="0" /><property name="processes" value="2" /></properties></testcase>
<testcase classname="tests.kernels.test_csr" name="b" time="0.25">
<properties><property name="spark_jobs" value="3" /><property name="processes" value="0" /></properties></testcase>
<testcase classname="tests.test_reader" name="c" time="2" />
</testsuite></testsuites>"""


def test_read_costs_sums_tests_jobs_processes_and_seconds(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert read_costs([report], by_file=False) == {
        "tests/kernels": {"tests": 2, "spark_jobs": 3, "processes": 2, "seconds": 1.75},
        "tests": {"tests": 1, "seconds": 2.0},
    }
    assert read_costs([report, report], by_file=True)["tests/kernels/test_als.py"] == {
        "tests": 2, "spark_jobs": 0, "processes": 4, "seconds": 3.0,
    }  # fmt: skip


def test_a_process_that_a_test_starts_is_counted(request: pytest.FixtureRequest) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)
    *_, before = request.node.stash[measurement._BEFORE]
    assert measurement._started - before == 1
