"""The jobs as spark-submit runs them.  A whole day of them is for airflow_dags/tests/test_real_day.py."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.small_shop import FIRST_DAY, land_days, make_shop, write_settings

ROOT = Path(__file__).parents[1]
DAY = FIRST_DAY + timedelta(days=2)


def _submit(step: str, settings: Path) -> subprocess.CompletedProcess[str]:
    spark_submit = Path(sys.executable).parent / "spark-submit"
    properties = ROOT / "conf" / "spark" / "local.conf"
    date = [] if step == "ingest" else ["--date", str(DAY)]
    return subprocess.run(
        [spark_submit, "--properties-file", properties, ROOT / "jobs" / f"{step}.py", "--config", settings, *date],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_a_job_out_of_order_ends_with_the_exit_code_of_bad_input(tmp_path: Path) -> None:
    config = make_shop(tmp_path)
    settings = write_settings(config, tmp_path)
    land_days(config, FIRST_DAY, 2)
    ended = _submit("ingest", settings)
    assert ended.returncode == 0, ended.stderr
    out_of_order = _submit("blend", settings)
    assert out_of_order.returncode == 2
    # spark-submit passes on what the driver writes, to either stream, on its own standard output.
    said = "step blend: expected index, interactions, features, validate, als, embed, retrieve to be done"
    assert said in out_of_order.stdout + out_of_order.stderr
