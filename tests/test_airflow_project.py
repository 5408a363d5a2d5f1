"""The DAG's own tests, in the DAG's own environment: Airflow and Spark never share one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fast_jvm import with_classes

ROOT = Path(__file__).parents[1]
# What would make uv or Spark take this environment for that one.
_OURS = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "SPARK_HOME", "PYSPARK_PYTHON", "PYTEST_ADDOPTS")


def run_suite(*arguments: str, **environment: str) -> None:
    inherited = {
        name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith("AIRFLOW")
    }
    uv = os.environ.get("UV", "uv")
    ended = subprocess.run(
        [uv, "run", "--project", "airflow_dags", "--locked", "pytest", "airflow_dags/tests", "-q", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]


def test_the_dag_does_what_exit_codes_ask_for() -> None:
    run_suite()


@pytest.mark.slow
def test_a_day_by_the_dag_is_the_day_of_the_command_line() -> None:
    run_suite("-m", "slow", RECSYS_REAL_VENV=sys.prefix, JAVA_TOOL_OPTIONS=with_classes())
