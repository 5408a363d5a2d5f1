"""What a step is told about time, and where it may keep what must outlive a kill."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.context import Context
from recsys_spark.warehouse.scratch import runs_with_scratch


def test_cutoff_is_midnight_utc_of_the_date() -> None:
    context = Context(load_config(), date(2025, 3, 30), "20250330-001-9f2c81aa", 1, None)  # type: ignore[arg-type]
    assert context.cutoff == datetime(2025, 3, 30, tzinfo=UTC)


def test_scratch_is_of_the_run_and_the_step(root: Path, make_config: Callable[..., Config]) -> None:
    context = Context(make_config(), date(2025, 3, 30), "20250330-001-9f2c81aa", 1, None)  # type: ignore[arg-type]
    context.scratch("als").write("users", np.ones(1))
    assert runs_with_scratch(root) == ["20250330-001-9f2c81aa"]
    assert context.scratch("als").read("users").tolist() == [1.0]
    context.scratch("index").drop()
    assert context.scratch("als").sha256("users") != ""
