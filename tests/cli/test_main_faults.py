"""What a worker names reaches the user as the same fault, with its exit code; what it does not name stays a crash."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys_spark.cli import main
from recsys_spark.cli.main import named_fault
from recsys_spark.errors import ConfigError, DamagedError, KernelError

TRACE = """Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times, most recent failure: Lost task 0.0:
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 1, in main
{raised}

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:1)

Driver stacktrace:
"""


@pytest.mark.parametrize("error", [DamagedError, KernelError])
def test_named_fault_finds_what_a_worker_raised(spark: SparkSession, error: type[Exception]) -> None:
    def explode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            next(batches)["nothing"]
        except KeyError as err:
            raise error("weights: expected a, got b;\nrun the date again") from err
        yield from batches

    with pytest.raises(PySparkException) as caught:
        spark.range(10).mapInArrow(explode, "id long").collect()
    fault = named_fault(caught.value)
    assert type(fault) is error
    assert str(fault) == "weights: expected a, got b;\nrun the date again"


def test_named_fault_takes_the_last_of_faults_that_were_raised_one_from_the_other() -> None:
    raised = (
        "recsys_spark.errors.KernelError: kernel: expected 1; do this\n\nThe above exception was the direct cause\n\n"
        "Traceback (most recent call last):\nrecsys_spark.errors.DamagedError: model: expected 2; do that"
    )
    fault = named_fault(Exception(TRACE.format(raised=raised)))
    assert type(fault) is DamagedError
    assert str(fault) == "model: expected 2; do that"


@pytest.mark.parametrize(
    "raised", ["ValueError: poison", "recsys_spark.errors.NoSuchError: text", "recsys_spark.errors.EXIT_DONE: text"]
)
def test_named_fault_is_none_where_none_is_named(raised: str) -> None:
    assert named_fault(Exception(TRACE.format(raised=raised))) is None


def test_main_ends_with_the_exit_code_of_a_workers_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(raised: str) -> int:
        def app(**_: object) -> None:
            raise PySparkException(TRACE.format(raised=raised))

        monkeypatch.setattr(main, "app", app)
        return main.main([])

    assert run("recsys_spark.errors.DamagedError: model: expected a, got b") == DamagedError.exit_code == 3
    assert capsys.readouterr().err == "model: expected a, got b\n"
    assert run("recsys_spark.errors.ConfigError: [als] factors: expected c") == ConfigError.exit_code == 2
    with pytest.raises(PySparkException, match="poison"):
        run("ValueError: poison")
