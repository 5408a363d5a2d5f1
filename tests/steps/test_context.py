"""What a step is told about time."""

from datetime import UTC, date, datetime

from recsys_spark.config_file import load_config
from recsys_spark.steps.context import Context


def test_cutoff_is_midnight_utc_of_the_date() -> None:
    context = Context(load_config(), date(2025, 3, 30), "20250330-001-9f2c81aa", 1, None)  # type: ignore[arg-type]
    assert context.cutoff == datetime(2025, 3, 30, tzinfo=UTC)
