"""A real kill in the middle of a fit costs half an iteration, and nobody can tell from what is published."""

import signal
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.pipeline.publish import history
from recsys_spark.warehouse.ledger import steps_of
from recsys_spark.warehouse.run_files import days_with_rows, runs_with_rows
from recsys_spark.warehouse.scratch import runs_with_scratch
from recsys_spark.warehouse.tables import EVENTS
from tests.ledgers import latest_runs
from tests.published_content import published_content
from tests.run_process import end_run, start_run
from tests.small_shop import land_catalogue, land_days, make_shop, write_settings
from tests.whole_day import run_whole_day

pytestmark = pytest.mark.slow

FIRST, N_DAYS = date(2025, 3, 7), 4  # clocks change in New York in the night of the third


def _shop(folder: Path) -> tuple[Config, Path]:
    """Settings of a shop whose logs have landed, and the file that they are in."""
    config = make_shop(folder)
    settings = write_settings(config, folder)
    settings.write_text(f'{settings.read_text()}[als]\nfactors = 8\niterations = 4\nexchange = "shuffle"\n')
    land_catalogue(config, FIRST)
    land_days(config, FIRST, N_DAYS)
    return load_config(file=settings), settings


def test_a_fit_that_was_killed_and_gone_on_with_in_another_time_zone_gives_what_an_uninterrupted_day_does(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Fault rows 1 and 47."""
    config, settings = _shop(tmp_path / "killed")
    code, output = end_run(start_run(settings, "als.after_half:3", TZ="America/New_York"))
    assert code == -signal.SIGKILL, f"als.after_half:3 was not reached: {output}"
    assert history(config.root) == ()
    (run,) = latest_runs(config.root)
    assert run["state"] == "open"
    assert "als" not in steps_of(config.root, run["run_id"])
    assert runs_with_rows(config.root, "item_factors") == set()
    assert runs_with_scratch(config.root) == [run["run_id"]]
    code, output = end_run(start_run(settings, TZ="Asia/Kathmandu"))
    assert code == 0, output
    assert [row.run_id for row in history(config.root)] == [run["run_id"]]
    figures = steps_of(config.root, run["run_id"])["als"]["figures"]
    assert figures["n_resumed"] == 3.0
    assert list(config.root.glob("_scratch/*/als/*")) == []
    assert days_with_rows(config.root, EVENTS.name) == [date(2025, 3, day) for day in range(7, 11)]

    other, _ = _shop(tmp_path / "uninterrupted")
    report = run_whole_day(spark, other)
    assert report.data_date == date(2025, 3, 11)
    (published,) = history(config.root)
    assert published.data_date == report.data_date
    n_rows = {table.name: table.n_rows for table in published.tables}
    assert min(n_rows["user_factors"], n_rows["item_factors"]) >= 10
    assert steps_of(other.root, report.run_id)["als"]["figures"] | {"n_resumed": 3.0} == figures
    assert published_content(other.root) == published_content(config.root)
