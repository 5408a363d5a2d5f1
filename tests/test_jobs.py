"""The jobs as spark-submit runs them.  A whole day of them is for airflow_dags/tests/test_real_day.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_shop import FIRST_DAY, make_shop, write_settings

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_job_out_of_order_ends_with_the_exit_code_of_bad_input(tmp_path: Path) -> None:
    settings = write_settings(make_shop(tmp_path), tmp_path)
    spark_submit = Path(sys.executable).parent / "spark-submit"
    properties = ["--properties-file", ROOT / "conf" / "spark" / "local.conf"]
    job = [ROOT / "jobs" / "blend.py", "--config", settings, "--date", str(FIRST_DAY)]
    ended = subprocess.run(
        [spark_submit, *properties, *job],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 2
    # spark-submit passes on what the driver writes, to either stream, on its own standard output.
    said = "step blend: expected index, interactions, features, als, embed, retrieve to be done"
    assert said in ended.stdout + ended.stderr
