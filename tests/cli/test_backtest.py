"""What `recsys-spark backtest` refuses at the command line, before Spark starts."""

from pathlib import Path

import pytest

from recsys_spark.cli import main


@pytest.mark.parametrize("options", [[], ["--date", "2025-13-01"], ["--date", "2025-01-01", "--window-days", "0"]])
def test_backtest_ends_with_2_without_a_date_of_the_calendar(options: list[str]) -> None:
    assert main.main(["backtest", *options]) == 2


def test_backtest_names_the_folder_that_has_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backtest", "--date", "2025-01-01", "--against", str(tmp_path)]) == 2
    assert f"{tmp_path}/figures.parquet: expected figures of a backtest" in capsys.readouterr().err
