"""The first job of a session, from the start of the process."""

import logging
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from recsys_spark.spark.session import log_startup, startup_seconds


def session(started_s: float, jobs: dict[int, float]) -> Any:
    """What is asked of a session that started, and whose jobs began, so many seconds from now."""
    now = time.time()

    def job(number: int) -> Any:
        if number not in jobs:
            raise Py4JJavaError("no such job", SimpleNamespace(_gateway_client=None, _target_id="o1"))
        return SimpleNamespace(
            submissionTime=lambda: SimpleNamespace(
                get=lambda: SimpleNamespace(getTime=lambda: 1000 * (now + jobs[number]))
            )
        )

    context = SimpleNamespace(statusStore=lambda: SimpleNamespace(job=job), startTime=lambda: 1000 * (now + started_s))
    return SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: context)))


def test_startup_seconds_are_those_to_the_session_and_then_to_its_first_job(caplog: pytest.LogCaptureFixture) -> None:
    found = startup_seconds(session(5.0, {1: 9.0, 0: 8.0}))
    assert found is not None
    assert found[1] - found[0] == pytest.approx(3.0)
    assert found[0] > 5.0
    with caplog.at_level(logging.INFO, "recsys_spark"):
        log_startup(session(5.0, {0: 8.0}))
    assert "phase=start session_s=" in caplog.text


@pytest.mark.parametrize("jobs", [{}, {1001: 9.0}])
def test_without_a_first_job_nothing_is_said(jobs: dict[int, float]) -> None:
    assert startup_seconds(session(5.0, jobs)) is None


def test_spark_is_asked_as_it_answers(spark: SparkSession) -> None:
    context = spark.sparkContext._jsc.sc()
    spark.range(3).count()
    newest = context.statusStore().jobsList(None).apply(0).jobId()
    assert context.statusStore().job(newest).submissionTime().get().getTime() > context.startTime() > 0
    with pytest.raises(Py4JJavaError, match="NoSuchElementException"):
        context.statusStore().job(newest + 1000)


def test_a_process_knows_when_it_was_started() -> None:
    code = "import time; time.sleep(1.5); from recsys_spark.spark import session; print(session._process_started())"
    before = time.time()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before - 0.1 < float(ended.stdout) < before + 1.0
