"""A run that is not known cannot be judged; what figures of a run are is in test_backtest, and in tests/evaluation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.schema import Config
from recsys_spark.operations.backtest import evaluate_run


def test_a_run_that_never_was_is_no_run(spark: SparkSession, root: Path, make_config: Callable[..., Config]) -> None:
    with pytest.raises(KeyError, match="20250101-001-9f2c81aa"):
        evaluate_run(spark, make_config(), "20250101-001-9f2c81aa", 28)
