"""Machines of an orchestrator live in whatever time zones; a run is the same in all of them."""

from datetime import date
from pathlib import Path

import pytest

from recsys_spark.reader import open_current
from recsys_spark.tables.catalog import EVENTS
from recsys_spark.tables.delta_log import days_with_rows
from tests.published_content import published_content
from tests.run_process import end_run, start_run
from tests.small_shop import land_days, make_shop, write_settings

pytestmark = pytest.mark.slow


def test_a_run_is_the_same_in_every_time_zone(tmp_path: Path) -> None:
    """Fault row 47, over the night in which clocks change in New York."""
    found = {}
    first, processes = date(2025, 3, 8), {}
    for zone in ("America/New_York", "Asia/Kathmandu"):
        config = make_shop(tmp_path / zone.rpartition("/")[2])
        land_days(config, first, 2)
        settings = write_settings(config, config.root.parent)
        processes[zone] = (config, start_run(settings, TZ=zone))
    for zone, (config, process) in processes.items():
        code, output = end_run(process)
        assert code == 0, output
        found[zone] = published_content(config.root)
        assert open_current(config.root).data_date == date(2025, 3, 10)
        assert days_with_rows(config.root, EVENTS.name) == [first, date(2025, 3, 9)]
    assert found["America/New_York"] == found["Asia/Kathmandu"]
